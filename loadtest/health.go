package loadtest

import "time"

// health tells whether a store is down: nothing has gone well for long, though there was something to do. Its times are since the start of the run.
type health struct {
	down time.Duration // without a success, if no operation took a third of it

	running  int
	failed   int           // since the last success
	waiting  time.Duration // since when a success is due; -1: nothing is to be done
	failedAt time.Duration // when an operation failed last
	longest  time.Duration // that an operation took which went well; 0: none has
}

func (h *health) began(now time.Duration) {
	// A pause of an open loop is none of the store's.
	if h.waiting < 0 || h.running == 0 && now-h.failedAt > h.down {
		h.waiting = now
	}
	h.running++
}

func (h *health) ended(now, took time.Duration, ok bool) {
	h.running--
	if !ok {
		h.failed++
		h.failedAt = now
		return
	}
	h.failed, h.longest, h.waiting = 0, max(h.longest, took, 1), -1
	if h.running > 0 {
		h.waiting = now
	}
}

// isDown tells whether it is. Long operations have time: three times the longest one.
func (h *health) isDown(now time.Duration) bool {
	if h.running == 0 {
		now = h.failedAt // nothing was tried since then
	}
	if h.waiting < 0 || now-h.waiting <= max(h.down, 3*h.longest) {
		return false
	}
	// Before anything went well nobody knows how long it takes: it is down if as many have failed as are still to end.
	return h.longest > 0 || h.failed > 0 && h.failed >= h.running
}

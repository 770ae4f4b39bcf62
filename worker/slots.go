package worker

import (
	"sync"
	"time"
)

// slots counts the items that may still be taken: all of them for the interactive lane, fewer for the rest. A slot is occupied from
// the fetch of an item until its destination is visible, or it failed. While items are short, as many again as there are slots for
// the rest may be taken, to wait in the line.
type slots struct {
	line      *line
	all, bulk int // bulk: those for the rest

	mu        sync.Mutex
	taken     int           // by the interactive lane
	takenBulk int           // by the rest; beyond bulk they wait in the line
	scarce    time.Time     // since when some, but few, of those for the rest are free; zero: they are not
	released  chan struct{} // holds a token after a release, or when it is time to look again
}

// A fetch of bulk work waits until a quarter of its slots is free, or for gather: one claim then serves many items. What waits in
// the interactive lane is fetched meanwhile.
const (
	gatherShare = 4
	gather      = time.Millisecond
)

func newSlots(all, bulk int) *slots {
	return &slots{line: newLine(all, bulk), all: all, bulk: bulk, released: make(chan struct{}, 1)}
}

// available returns what may be fetched now. Only the intake takes slots, so that what is available stays so. wait, unless 0, is
// how long it is worth waiting for more bulk slots, none of which are given out meanwhile.
func (s *slots) available(now time.Time) (free, freeBulk int, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	free = max(s.all-s.taken-min(s.takenBulk, s.bulk), 0)
	if s.line.short(now) {
		freeBulk = max(2*s.bulk-s.takenBulk, 0)
	} else {
		freeBulk = max(min(s.bulk-s.takenBulk, free), 0)
	}
	if freeBulk == 0 || freeBulk*gatherShare >= s.bulk {
		s.scarce = time.Time{}
		return max(free, freeBulk), freeBulk, 0
	}
	if s.scarce.IsZero() {
		s.scarce = now
	}
	if wait = gather - now.Sub(s.scarce); wait > 0 {
		return free, 0, wait
	}
	s.scarce = time.Time{}
	return max(free, freeBulk), freeBulk, 0
}

// take occupies a slot.
func (s *slots) take(bulk bool) { s.change(-1, bulk) }

// give releases one.
func (s *slots) give(bulk bool) {
	s.change(+1, bulk)
	s.poke()
}

// count returns how many are occupied and free.
func (s *slots) count() (busy, free int) {
	busy = s.line.running()
	return busy, s.all - busy
}

// poke wakes the intake.
func (s *slots) poke() {
	select {
	case s.released <- struct{}{}:
	default: // one token is enough
	}
}

func (s *slots) change(n int, bulk bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if bulk {
		s.takenBulk -= n
	} else {
		s.taken -= n
	}
}

package httpstore

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// wait is something that may not last for ever. It is the cause that a request is canceled with when it did.
type wait struct {
	name  string        // the end of the error's code: "idle_timeout"
	what  string        // what did not happen, for the message: "no bytes arrived"
	limit time.Duration // how long it may not happen
	slow  *wait         // what it is when a little happened, but too little; nil: the same
	hint  string
}

// tooSlow returns the wait for at least so many bytes of which some came. verb says what became of them.
func (w *wait) tooSlow(least int64, verb string) *wait {
	return &wait{
		name: "too_slow", what: fmt.Sprintf("fewer than %d bytes %s", least, verb), limit: w.limit,
		hint: "The peer is slower than workers bear (--min-progress, --idle-timeout).",
	}
}

// Error returns the message that users see.
func (w *wait) Error() string { return fmt.Sprintf("Network timeout: %s within %s", w.what, w.limit) }

// watchdog cancels a request when the current wait passes its limit. At most one wait is under way; the
// goroutines that start and stop it follow each other.
type watchdog struct {
	cancel context.CancelCauseFunc

	mu       sync.Mutex
	timer    *time.Timer
	current  *wait         // nil: nothing is waited for
	left     time.Duration // until current passes its limit, when it was started
	deadline time.Time
	moved    func() int64 // how many bytes the peer took; nil: not known
	seen     int64        // what moved said when the deadline was set
	least    int64        // what it must have grown by to start anew
}

// newWatchdog returns a watchdog that ends what cancel cancels.
func newWatchdog(cancel context.CancelCauseFunc) *watchdog {
	d := &watchdog{cancel: cancel}
	d.timer = time.AfterFunc(time.Hour, d.expire)
	d.timer.Stop()
	return d
}

// start begins a wait with its whole limit.
func (d *watchdog) start(w *wait) { d.resume(w, w.limit, nil, 0) }

// startWhile begins a wait that starts anew whenever moved has grown by least bytes.
func (d *watchdog) startWhile(w *wait, moved func() int64, least int64) {
	d.resume(w, w.limit, moved, least)
}

// resume begins a wait of which only a part of the limit is left.
func (d *watchdog) resume(w *wait, left time.Duration, moved func() int64, least int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.current, d.left, d.moved, d.least = w, left, moved, least
	if moved != nil {
		d.seen = moved()
	}
	d.deadline = time.Now().Add(left)
	d.timer.Reset(left)
}

// stop ends the wait and returns what was left of its limit, at least 0.
func (d *watchdog) stop() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.timer.Stop()
	d.current, d.moved = nil, nil
	return max(0, time.Until(d.deadline))
}

// expire runs when the timer does. A timer that was stopped or reset too late finds the next wait, or none,
// and leaves it alone.
func (d *watchdog) expire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.current == nil {
		return
	}
	if rest := time.Until(d.deadline); rest > 0 {
		d.timer.Reset(rest)
		return
	}
	if d.moved != nil {
		now := d.moved()
		if now-d.seen >= d.least {
			d.seen = now
			d.deadline = time.Now().Add(d.current.limit)
			d.timer.Reset(d.current.limit)
			return
		}
		if now > d.seen && d.current.slow != nil {
			d.cancel(d.current.slow)
			return
		}
	}
	d.cancel(d.current)
}

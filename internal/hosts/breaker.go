package hosts

import (
	"math/rand/v2"
	"time"
)

// breaker knows whether a host is to be left alone. It is closed while the host works; it opens, for longer each time, when the host fails
// again and again; and when that is over one item probes it.
type breaker struct {
	fails   int       // in a row, by weight
	trips   int       // rests in a row
	until   time.Time // of the rest; zero: closed
	since   time.Time // when the host last worked, or was first found not to
	probe   bool      // an item is at the host to find out
	proven  int       // visits in a row that went well since the last rest
	cause   string    // of the rest, in the words of who found it
	class   string    // of that failure
	polite  bool      // the host itself asked for the rest
	refused int       // visits that the host refused without a word of when to come back, in a row
	vain    int       // probes in a row that told nothing of the host
}

const (
	tripFails      = 32 // failures in a row, by weight, that open a breaker
	tripAgain      = 3  // once it was open, until the host has proven itself
	timeoutWeight  = 2  // of a failure that took its time
	provenVisits   = 16
	restBase       = time.Second
	restMost       = 15 * time.Second
	vainProbes     = 3                // after which a rest is over
	restAskedMost  = 5 * time.Minute  // a host may ask for more, and is asked again then
	restJitter     = 5                // a rest differs by up to a fifth
	lastChanceRest = 10 * time.Second // from how long a rest on also an item's last attempt may be the probe
)

// open reports whether the host rests, or its rest is over and nothing has been heard of it since.
func (b *breaker) open() bool { return !b.until.IsZero() }

// closedUntil tells when the gate may be tried again: the zero time is now. hold says that nobody knows, because a probe is under way.
func (b *breaker) closedUntil(now time.Time) (at time.Time, hold bool) {
	switch {
	case !b.open():
		return time.Time{}, false
	case now.Before(b.until):
		return b.until, false
	default:
		return time.Time{}, b.probe
	}
}

// trip opens the breaker.
func (b *breaker) trip(now time.Time, res Result) {
	if b.since.IsZero() {
		b.since = now
	}
	b.trips++
	b.fails, b.proven, b.refused, b.vain, b.polite = 0, 0, 0, 0, false
	b.cause, b.class = res.Cause, res.Class
	b.until = now.Add(jittered(min(restBase<<min(b.trips-1, 10), restMost)))
}

// asks opens the breaker because the host said when it wants to be asked again.
func (b *breaker) asks(now time.Time, res Result) {
	if b.since.IsZero() {
		b.since = now
	}
	until := now.Add(min(res.RetryAfter, restAskedMost))
	b.fails, b.refused, b.vain, b.polite = 0, 0, 0, true
	b.cause, b.class = res.Cause, res.Class
	if until.After(b.until) {
		b.until = until
	}
}

// close ends a rest.
func (b *breaker) close() {
	b.until, b.since, b.fails, b.refused, b.vain = time.Time{}, time.Time{}, 0, 0, 0
}

// inVain notes a probe that told nothing of the host: what ended it lay elsewhere. It reports whether that is enough: the next item probes at
// once, but a host whose items all end so would be let one item at a time for ever. Let in again, it is closed by few failures.
func (b *breaker) inVain() bool {
	b.vain++
	return b.vain >= vainProbes
}

// worked notes a visit that went well.
func (b *breaker) worked() {
	b.fails, b.refused = 0, 0
	if b.proven++; b.proven >= provenVisits {
		b.trips = 0
	}
}

// failed notes one that did not, and reports whether that is enough.
func (b *breaker) failed(weight int) bool {
	b.fails += weight
	b.proven = 0
	if b.trips > 0 {
		return b.fails >= tripAgain
	}
	return b.fails >= tripFails
}

func jittered(d time.Duration) time.Duration {
	return d + rand.N(2*d/restJitter) - d/restJitter //nolint:gosec // jitter needs no secrecy
}

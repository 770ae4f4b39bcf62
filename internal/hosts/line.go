package hosts

import (
	"slices"
	"time"

	"golang.org/x/time/rate"
)

// obstacle is why an item cannot have its places now, and when that may be over; the zero time: when somebody leaves.
type obstacle struct {
	gate *gate
	at   time.Time
}

// try takes all places for an item, or returns what is in the way. It sets w.later if waiting is of no use.
func (t *Table) try(w *waiter, now time.Time) *obstacle {
	var probe *gate
	for _, g := range w.gates {
		if o := t.closed(w, g, now); o != nil || w.later != nil {
			return o.or(g)
		}
		if g.breaker.open() {
			probe = g
		}
		if !g.tenant && t.full(g, w.ask.First, now) {
			at := time.Time{}
			if g.used < g.limiter.places() {
				at = now.Add(lookAgain) // others have what there is, and do not come by here when they leave
			}
			return &obstacle{g, at}
		}
		if wait := g.tokens(now); wait > 0 {
			return &obstacle{g, now.Add(wait)}
		}
	}
	for _, g := range w.gates {
		if g.requests != nil {
			g.requests.AllowN(now, 1)
		}
		if !g.tenant {
			g.limiter.spend(now, g.used)
		}
		g.used++
	}
	if w.probing = probe; probe != nil {
		probe.breaker.probe = true
	}
	return nil
}

// full reports whether a gate has no place. An item that goes first, of which there are few, does not wait for the limit to be found: only a
// configured one holds for it.
func (t *Table) full(g *gate, first bool, now time.Time) bool {
	if first {
		return g.used >= int(g.limiter.most)
	}
	places := g.limiter.places()
	if g.used >= min(places, t.share(g)) {
		most := min(int(g.limiter.most), t.share(g), max(1, t.cfg.Slots/2)) // what hangs is not to have all slots when others come
		return g.used >= most || g.used-g.stalled(now) >= places
	}
	return false
}

func (o *obstacle) or(g *gate) *obstacle {
	if o == nil {
		return &obstacle{gate: g}
	}
	return o
}

// closed returns an obstacle if the gate's host rests.
func (t *Table) closed(w *waiter, g *gate, now time.Time) *obstacle {
	b := &g.breaker
	if !b.open() {
		return nil
	}
	at, hold := b.closedUntil(now)
	rested := now.Sub(b.since)
	switch {
	case !w.ask.Since.IsZero() && now.Sub(w.ask.Since) >= t.cfg.RestPatience && (hold || !at.IsZero()):
		w.later = t.rests(g, now, time.Until(at), true)
	case hold:
		if w.ready != nil { // it waits already, and the probe may be over soon
			return &obstacle{gate: g}
		}
		return t.hold(w, g, now)
	case !at.IsZero() && at.Sub(now) > t.cfg.Patience:
		w.later = t.rests(g, now, at.Sub(now), false)
	case !at.IsZero():
		return &obstacle{g, at}
	case w.ask.Last && !b.polite && rested < min(lastChanceRest, t.cfg.RestPatience):
		w.later = t.rests(g, now, jittered(restBase), false)
	}
	return nil
}

// hold has an item wait for the outcome of a probe, if not too many do so already.
func (t *Table) hold(w *waiter, g *gate, now time.Time) *obstacle {
	if len(g.queue) < t.cfg.Slots {
		return &obstacle{gate: g}
	}
	w.later = t.rests(g, now, jittered(restBase), false)
	return nil
}

func (t *Table) rests(g *gate, now time.Time, wait time.Duration, spent bool) *LaterError {
	return &LaterError{
		Key: g.key, Wait: min(max(wait, laterLeast), restAskedMost), Resting: true, Spent: spent,
		Cause: g.breaker.cause, Class: g.breaker.class, Down: now.Sub(g.breaker.since),
	}
}

// tokens is how long it is until the gate's rates let another item in.
func (g *gate) tokens(now time.Time) time.Duration {
	wait := until(g.requests, now, 1)
	if g.bytes != nil {
		wait = max(wait, until(g.bytes, now, 0)) // those inside have taken what there is
	}
	return wait
}

func until(l *rate.Limiter, now time.Time, n float64) time.Duration {
	if l == nil {
		return 0
	}
	missing := n - l.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return time.Duration(missing/float64(l.Limit())*float64(time.Second)) + time.Microsecond
}

// line puts an item into the queue of the gate that is in the way, unless it would have to wait there for too long.
func (t *Table) line(w *waiter, o *obstacle, now time.Time) {
	g := o.gate
	resting := g.breaker.open()
	if o.at.Sub(now) > t.cfg.Patience || !resting && g.expected(len(g.queue)+1) > t.cfg.Patience {
		w.later = t.crowd(g, now)
		return
	}
	if w.ready == nil {
		w.ready = make(chan struct{})
	}
	if w.ask.First {
		at := slices.IndexFunc(g.queue, func(other *waiter) bool { return !other.ask.First })
		g.queue = slices.Insert(g.queue, max(at, 0), w)
		if at < 0 {
			g.queue = append(g.queue[1:], w)
		}
	} else {
		g.queue = append(g.queue, w)
	}
	t.queued[g] = true
	t.arm(g, o.at, now)
}

// expected is how long the n-th in the queue waits, as far as is known.
func (g *gate) expected(n int) time.Duration {
	per := g.pace()
	if per == 0 {
		return 0
	}
	return time.Duration(float64(n) / per * float64(time.Second))
}

// pace is how many items a second pass a gate; 0: not known.
func (g *gate) pace() float64 {
	pace := g.limiter.pace()
	if g.requests != nil && (pace == 0 || float64(g.requests.Limit()) < pace) {
		pace = float64(g.requests.Limit())
	}
	return pace
}

// crowd tells an item when to come back to a gate that has no place: behind those that were told before it. It may have been let come; what
// it would have taken is free for others.
func (t *Table) crowd(g *gate, now time.Time) *LaterError {
	g.coming = g.coming.Add(-g.expected(1))
	if silent := g.silent(now); silent > 0 {
		return &LaterError{Key: g.key, Wait: min(max(silent, laterLeast), comingMost)}
	}
	return &LaterError{Key: g.key, Wait: t.book(g, now, 1)}
}

// book gives out the next n places of a gate that are not given out yet, and returns how long it is until then.
func (t *Table) book(g *gate, now time.Time, n int) time.Duration {
	at := now.Add(g.expected(len(g.queue)))
	if g.booked.After(at) {
		at = g.booked
	}
	wait := min(max(at.Sub(now), laterLeast), laterMost)
	g.booked = now.Add(wait + g.expected(n))
	return wait
}

// Coming asks whether n items that were told to come later may come now. If not, it returns how long they are to wait. The first to come to
// a table that knows nothing of their host, which another one has found resting, is its probe.
func (t *Table) Coming(key Key, resting bool, n int) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	g := t.of(Ask{Keys: []Key{key}}, now)[0]
	b := &g.breaker
	if resting && !b.open() && g.wanted == 0 && b.proven == 0 {
		b.until, b.since = now, now
		t.resting++
	}
	if b.open() {
		at, hold := b.closedUntil(now)
		if hold {
			return jittered(restBase)
		}
		if wait := at.Sub(now); wait > 0 && !at.IsZero() {
			return max(jittered(wait), wait) + laterLeast
		}
		if len(g.queue) > 0 {
			return jittered(restBase)
		}
	}
	if silent := g.silent(now); silent >= slotPatience {
		return min(silent, comingMost)
	}
	g.booked = g.booked.Add(-g.expected(n)) // what they were told before is not held for them any more
	ahead := max(g.coming.Sub(now), 0)
	if ahead+g.expected(len(g.queue)) > t.cfg.Patience {
		return min(t.book(g, now, n), comingMost)
	}
	g.coming = now.Add(ahead + g.expected(n))
	return 0
}

// leaveLine takes an item out of the queue that it waits in, and returns whose it is.
func (t *Table) leaveLine(w *waiter) *gate {
	for _, g := range w.gates {
		if i := slices.Index(g.queue, w); i >= 0 {
			g.queue = slices.Delete(g.queue, i, i+1)
			t.quiet(g)
			return g
		}
	}
	return w.gates[0]
}

// quiet notes that nobody waits at a gate any more.
func (t *Table) quiet(g *gate) {
	if len(g.queue) > 0 {
		return
	}
	delete(t.queued, g)
	if g.timer != nil {
		g.timer.Stop()
		g.due = time.Time{}
	}
}

// arm has the queue of a gate served at a time, or before: whoever comes later must not put off the turn of those who wait already.
func (t *Table) arm(g *gate, at, now time.Time) {
	if at.IsZero() || !g.due.IsZero() && !at.Before(g.due) {
		return
	}
	wait := max(at.Sub(now), time.Millisecond)
	g.due = now.Add(wait)
	if g.timer == nil {
		g.timer = time.AfterFunc(wait, func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			g.due = time.Time{}
			t.serve(g, time.Now())
		})
		return
	}
	g.timer.Reset(wait)
}

// serve gives places to those that wait at a gate, in turn.
func (t *Table) serve(g *gate, now time.Time) {
	for len(g.queue) > 0 {
		w := g.queue[0]
		o := t.try(w, now)
		if o != nil && w.later == nil && o.gate == g {
			t.arm(g, o.at, now)
			return
		}
		g.queue[0] = nil
		g.queue = g.queue[1:]
		if o != nil && w.later == nil {
			t.line(w, o, now) // it has a place here and waits elsewhere now
		}
		if o == nil || w.later != nil {
			if w.later != nil {
				t.unwant(w)
			}
			w.done = true
			close(w.ready)
		}
	}
	t.quiet(g)
}

// servedAtOnce bounds the queues that one who leaves serves beside its own.
const servedAtOnce = 4

// serveAll serves the queues of gates, and of some others: what is left of the slots is theirs, too.
func (t *Table) serveAll(gates []*gate, now time.Time) {
	for _, g := range gates {
		t.serve(g, now)
	}
	others := 0
	for g := range t.queued {
		if others++; others > servedAtOnce {
			return
		}
		t.serve(g, now)
	}
}

package hosts

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Kind is what became of a visit to a host.
type Kind int

// The kinds. Neutral tells nothing about the host: what went wrong went wrong elsewhere.
const (
	Neutral Kind = iota
	Worked
	Refused // it asked to be asked less
	Failed
	TimedOut // it failed, and took its time for it
)

// Result is what became of a visit.
type Result struct {
	Kind       Kind
	RetryAfter time.Duration // of one that was refused or failed: when the host wants to be asked again; 0: it did not say
	Cause      string        // why it was not served, in words for people
	Class      string        // and in one word
}

// Visit is an item with its places. Its methods may be called by several goroutines.
type Visit struct {
	table *Table
	w     *waiter
	moved atomic.Int64 // bytes that the gates were not told of yet
	last  atomic.Int64 // when something moved, in Unix nanoseconds
	told  bool         // the gates were told of bytes; guarded by Table.mu
	left  atomic.Bool
	once  sync.Once
}

// visit makes the visit of an item that has its places. The lock is held.
func (t *Table) visit(w *waiter, now time.Time) *Visit {
	v := &Visit{table: t, w: w}
	v.last.Store(now.UnixNano())
	for _, g := range w.gates {
		if g.there == nil {
			g.there = map[*Visit]bool{}
		}
		g.there[v] = true
	}
	return v
}

// stalled is how many of those who are at a gate moved nothing of late. A host that gives some of its files slowly, or some connections nothing,
// must not keep others from what it gives otherwise.
func (g *gate) stalled(now time.Time) int {
	if now.Sub(g.looked) < stallLook {
		return g.still
	}
	g.still, g.looked = 0, now
	for v := range g.there {
		if now.UnixNano()-v.last.Load() >= int64(stallAfter) {
			g.still++
		}
	}
	return g.still
}

// Leave gives the places back. results are those of the visit's keys, in their order. A second call does nothing, nor does one of a nil
// visit.
func (v *Visit) Leave(results ...Result) {
	if v == nil {
		return
	}
	v.once.Do(func() {
		v.left.Store(true)
		v.table.leave(v, results)
	})
}

func (t *Table) leave(v *Visit, results []Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	w, bytes := v.w, v.moved.Swap(0)
	for i, g := range w.gates {
		if g.there[v] {
			delete(g.there, v)
			g.looked = time.Time{}
		}
		if g.tenant {
			g.used--
			continue
		}
		g.limiter.spend(now, g.used)
		g.used--
		g.limiter.bytes += bytes
		var res Result
		if i < len(results) {
			res = results[i]
		}
		if res.Kind != Neutral {
			g.limiter.done++
		}
		probe := w.probing == g
		if probe && res.Kind == Neutral && g.breaker.open() {
			gave := g.key.Side == Source && (bytes > 0 || v.told) // how far what was read came to a destination is not known
			if gave || g.breaker.inVain() {
				t.reopen(g, now)
			}
		}
		t.learn(g, res, probe, now)
		g.limiter.turn(now)
	}
	t.unwant(w)
	t.serveAll(w.gates, now)
}

// learn takes in what became of a visit.
func (t *Table) learn(g *gate, res Result, probe bool, now time.Time) {
	b := &g.breaker
	if probe {
		b.probe = false
	}
	open := b.open()
	switch res.Kind {
	case Neutral:
	case Worked:
		b.worked()
		if open && probe {
			t.reopen(g, now)
		}
	case Refused:
		g.limiter.recoil(now)
		b.refused++
		switch {
		case res.RetryAfter > 0:
			b.asks(now, res)
			t.rested(g, open, now)
		case probe, !open && b.refused >= tripFails:
			b.trip(now, res)
			t.rested(g, open, now)
		}
	case Failed, TimedOut:
		weight := 1
		if res.Kind == TimedOut {
			weight = timeoutWeight
			g.limiter.recoil(now)
		}
		switch {
		case res.RetryAfter > 0:
			g.limiter.recoil(now)
			b.asks(now, res)
			t.rested(g, open, now)
		case probe, !open && b.failed(weight):
			b.trip(now, res)
			t.rested(g, open, now)
		}
	}
}

// reopen ends the rest of a host.
func (t *Table) reopen(g *gate, now time.Time) {
	t.resting--
	t.tell(g, true, now)
	g.breaker.close()
	g.limiter.restart(g.breaker.polite)
}

// rested notes that a rest began, or goes on.
func (t *Table) rested(g *gate, before bool, now time.Time) {
	if before {
		return
	}
	t.resting++
	t.tell(g, false, now)
}

func (t *Table) tell(g *gate, ends bool, now time.Time) {
	if t.cfg.Resting == nil {
		return
	}
	pause := g.breaker.until.Sub(now)
	if ends {
		pause = now.Sub(g.breaker.since)
	}
	t.cfg.Resting(g.key, ends, pause, g.breaker.cause)
}

// Rests returns how long a host is left alone yet; 0: it is not.
func (t *Table) Rests(key Key) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if g := t.gates[key]; g != nil && g.breaker.open() {
		return max(time.Until(g.breaker.until), 0)
	}
	return 0
}

// moreBytes is after how many bytes the gates are told.
const moreBytes = 1 << 20

// Moved notes bytes that passed the hosts. After the visit, and without one, nobody learns from them.
func (v *Visit) Moved(n int) {
	if v == nil || v.left.Load() {
		return
	}
	v.last.Store(time.Now().UnixNano())
	if v.moved.Add(int64(n)) < moreBytes {
		return
	}
	t := v.table
	t.mu.Lock()
	defer t.mu.Unlock()
	now, bytes, grew := time.Now(), v.moved.Swap(0), false
	v.told = true
	for _, g := range v.w.gates {
		if g.tenant {
			continue
		}
		g.limiter.spend(now, g.used)
		g.limiter.bytes += bytes
		grew = g.limiter.turn(now) || grew
	}
	if grew {
		t.serveAll(v.w.gates, now)
	}
}

// Rates are the limits of bytes a second that hold for what the visit moves, of its hosts and its tenant; none: any number may pass. They
// hold after the visit as well. A nil visit has none.
func (v *Visit) Rates() []*rate.Limiter {
	var rates []*rate.Limiter
	if v == nil {
		return nil
	}
	for _, g := range v.w.gates {
		if g.bytes != nil {
			rates = append(rates, g.bytes)
		}
	}
	return rates
}

// burstShare is how much of a second's worth of requests a bucket holds.
const burstShare = 10

// bucket returns a bucket of requests; nil: any number.
func bucket(perSecond float64) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond/burstShare)))
}

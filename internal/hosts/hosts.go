package hosts

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/copyfleet/copyfleet/storage/limited"
)

// Side is what an item does at a host.
type Side int

// The sides. Each has places of its own, but for Tenant, which marks a key that names a tenant.
const (
	Source Side = iota // it reads
	Dest               // it writes
	Tenant
)

// sides is how many have places.
const sides = int(Tenant)

// String names a side.
func (s Side) String() string {
	switch s {
	case Source:
		return "source"
	case Dest:
		return "dest"
	case Tenant:
		return "tenant"
	}
	return ""
}

// Key names a gate.
type Key struct {
	Side Side
	Host string // scheme, host and port
}

// Config is how a table behaves.
type Config struct {
	Slots int // items that the worker runs at once
	Most  int // at once at a gate; 0: as many as there are slots
	// Patience is how long an item waits for a place. 0: a second.
	Patience time.Duration
	// RestPatience is how long an item waits for a host that rests before its gate says [LaterError.Spent]. 0: ten minutes.
	RestPatience time.Duration
	// Requests and Bytes a second, for each gate and each tenant. 0: any number.
	HostRequests, HostBytes, TenantRequests, TenantBytes float64
	// Resting is told when a rest begins (ends is false) and ends. It must not call the table. Nil: nobody is told.
	Resting func(key Key, ends bool, pause time.Duration, cause string)
}

const (
	defaultPatience     = time.Second
	defaultRestPatience = 10 * time.Minute
	laterLeast          = 200 * time.Millisecond
	laterMost           = time.Minute
	comingMost          = 15 * time.Second // they may pass sooner than expected
	stallAfter          = 10 * time.Second // from when on a visit at which nothing moves takes no place from others
	stallLook           = 250 * time.Millisecond
	lookAgain           = 50 * time.Millisecond  // at a gate whose places others have
	slotPatience        = 250 * time.Millisecond // how long one waits in a slot at a gate of which nothing is heard
	forgetAfter         = 10 * time.Minute
	sweepEvery          = 1024 // new gates
)

// Ask is what an item asks for.
type Ask struct {
	Keys   []Key // none: it needs no host
	Tenant string
	First  bool // it goes before those that wait
	// Last says that it has no other attempt: others probe a host first.
	Last bool
	// Since is since when the item has waited for hosts that rest; zero: it has not.
	Since time.Time
}

// LaterError is the error of [Table.Enter] when there is no place within patience.
type LaterError struct {
	Key  Key
	Wait time.Duration // until a place is likely, or the rest is over
	// Resting says that the host rests; Cause and Class are what was found of it last.
	Resting      bool
	Cause, Class string
	Down         time.Duration // since when the host does not work
	// Spent says that the item has waited for as long as it may: it is to be charged what the host's probes found.
	Spent bool
}

// Error implements error.
func (l *LaterError) Error() string {
	if l.Resting {
		return "the host " + l.Key.Host + " is left alone for a while"
	}
	return "the host " + l.Key.Host + " has no place"
}

// Table knows the hosts. Its methods may be called by any goroutine.
type Table struct {
	cfg Config

	mu      sync.Mutex
	gates   map[Key]*gate
	tenants map[string]*gate
	queued  map[*gate]bool // those at which somebody waits
	active  [sides]int     // gates that somebody wants
	wanted  [sides]int     // places that are wanted or taken
	waits   int            // items that wait
	resting int            // gates that rest
	made    int
}

// gate is a side of a host, or a tenant, which has limits of rates only. Guarded by Table.mu.
type gate struct {
	key      Key
	tenant   bool
	limiter  limiter
	breaker  breaker
	requests *rate.Limiter // nil: any number
	bytes    *rate.Limiter

	used   int // places taken
	there  map[*Visit]bool
	still  int       // of those who are there: nothing has moved for stallAfter
	looked time.Time // when they were counted
	wanted int       // and those that wait, here or elsewhere
	queue  []*waiter
	timer  *time.Timer // serves the queue when something is due
	due    time.Time   // when that is; zero: nothing is
	booked time.Time   // until when items were told to come later
	coming time.Time   // until when those that were let come will take what passes
	last   time.Time
}

// waiter is an item that wants places at all of its gates at once.
type waiter struct {
	ask     Ask
	gates   []*gate
	ready   chan struct{} // closed when it has them, or cannot have them soon
	probing *gate         // of which it is the probe
	later   *LaterError
	done    bool
}

// New returns a table that knows nothing yet.
func New(cfg Config) *Table {
	cfg.Slots = max(cfg.Slots, 1)
	if cfg.Most <= 0 || cfg.Most > cfg.Slots {
		cfg.Most = cfg.Slots
	}
	if cfg.Patience <= 0 {
		cfg.Patience = defaultPatience
	}
	if cfg.RestPatience <= 0 {
		cfg.RestPatience = defaultRestPatience
	}
	return &Table{cfg: cfg, gates: map[Key]*gate{}, tenants: map[string]*gate{}, queued: map[*gate]bool{}}
}

// State is what a table can tell of its hosts.
type State struct {
	Gates, Resting, Waiting int
	Limits                  []int // of the gates that are in use
}

// State returns it.
func (t *Table) State() State {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := State{Gates: len(t.gates), Resting: t.resting, Waiting: t.waits}
	for _, g := range t.gates {
		if g.used > 0 {
			s.Limits = append(s.Limits, g.limiter.places())
		}
	}
	return s
}

// Enter waits for a place at each of the hosts, takes them all at once, and returns the visit, which must be left. The error is a [*LaterError],
// or why the context ended. waiting, unless nil, is called before it waits, and reports whether it does so without being in the way of others:
// if not, it does not wait at a gate of which nothing is heard.
func (t *Table) Enter(ctx context.Context, ask Ask, waiting func() bool) (*Visit, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx) //nolint:wrapcheck // says whose wish it was
	}
	t.mu.Lock()
	now := time.Now()
	w := &waiter{ask: ask, gates: t.of(ask, now)}
	t.want(w, now)
	if at := t.try(w, now); at == nil {
		v := t.visit(w, now)
		t.mu.Unlock()
		return v, nil
	} else if w.later == nil {
		t.line(w, at, now)
	}
	if w.later != nil {
		t.unwant(w)
		t.mu.Unlock()
		return nil, w.later
	}
	t.waits++
	t.mu.Unlock()
	if waiting != nil && !waiting() {
		return t.waitBriefly(ctx, w)
	}
	return t.wait(ctx, w, 2*t.cfg.Patience)
}

// waitBriefly is wait for one that waits in its slot. Nobody knows how long that takes at a gate that no item has left yet: all slots
// would be taken by items that wait for a host which is slow, before it is known to be.
func (t *Table) waitBriefly(ctx context.Context, w *waiter) (*Visit, error) {
	brief := time.NewTimer(min(slotPatience, t.cfg.Patience))
	defer brief.Stop()
	t.mu.Lock()
	silent := t.silentFor(w, time.Now()) >= slotPatience
	t.mu.Unlock()
	if silent {
		return t.wait(ctx, w, 0)
	}
	select {
	case <-w.ready:
	case <-ctx.Done():
	case <-brief.C:
	}
	t.mu.Lock()
	silent = t.silentFor(w, time.Now()) > 0
	t.mu.Unlock()
	if silent {
		return t.wait(ctx, w, 0)
	}
	return t.wait(ctx, w, 2*t.cfg.Patience)
}

// silentFor is for how long nothing has been heard of a gate at which an item waits. The lock is held.
func (t *Table) silentFor(w *waiter, now time.Time) time.Duration {
	var most time.Duration
	for _, g := range w.gates {
		if slices.Contains(g.queue, w) {
			most = max(most, g.silent(now))
		}
	}
	return most
}

// silent is for how long items have been at a gate of which none has left, and which has moved nothing; 0: something is known of it.
func (g *gate) silent(now time.Time) time.Duration {
	l := &g.limiter
	if g.tenant || g.breaker.open() || g.used == 0 || l.rate > 0 || l.done > 0 || l.bytes > 0 || l.from.IsZero() {
		return 0
	}
	return now.Sub(l.from)
}

// wait waits for a waiter's turn.
func (t *Table) wait(ctx context.Context, w *waiter, most time.Duration) (*Visit, error) {
	patience := time.NewTimer(most)
	defer patience.Stop()
	select {
	case <-w.ready:
	case <-ctx.Done():
	case <-patience.C:
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waits--
	now := time.Now()
	switch {
	case w.later != nil:
		return nil, w.later
	case w.done:
		return t.visit(w, now), nil
	}
	w.done = true // whoever serves the queue drops it
	at := t.leaveLine(w)
	t.unwant(w)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx) //nolint:wrapcheck // says whose wish it was
	}
	return nil, t.crowd(at, now)
}

// of returns the gates of an item.
func (t *Table) of(ask Ask, now time.Time) []*gate {
	list := make([]*gate, 0, len(ask.Keys)+1)
	for _, key := range ask.Keys {
		g := t.gates[key]
		if g == nil {
			g = &gate{
				key: key, limiter: newLimiter(t.cfg.Most),
				requests: bucket(t.cfg.HostRequests), bytes: limited.New(t.cfg.HostBytes),
			}
			t.gates[key] = g
			t.sweep(now)
		}
		g.last = now
		list = append(list, g)
	}
	if ask.Tenant != "" && (t.cfg.TenantRequests > 0 || t.cfg.TenantBytes > 0) {
		g := t.tenants[ask.Tenant]
		if g == nil {
			g = &gate{key: Key{Tenant, ask.Tenant}, tenant: true, requests: bucket(t.cfg.TenantRequests), bytes: limited.New(t.cfg.TenantBytes)}
			t.tenants[ask.Tenant] = g
			t.sweep(now)
		}
		g.last = now
		list = append(list, g)
	}
	return list
}

// sweep forgets, once in many new gates, those that nobody has wanted for long.
func (t *Table) sweep(now time.Time) {
	if t.made++; t.made < sweepEvery {
		return
	}
	t.made = 0
	for key, g := range t.gates {
		if g.wanted > 0 || now.Sub(g.last) <= forgetAfter {
			continue
		}
		if b := &g.breaker; b.open() { // a rest ends when somebody comes, and to most names that a hostile redirect makes up nobody ever comes again
			if now.Sub(b.until) <= forgetAfter {
				continue
			}
			t.resting--
			t.tell(g, true, now)
		}
		delete(t.gates, key)
	}
	for name, g := range t.tenants {
		if g.wanted == 0 && now.Sub(g.last) > forgetAfter {
			delete(t.tenants, name)
		}
	}
}

func (t *Table) want(w *waiter, now time.Time) {
	for _, g := range w.gates {
		if g.wanted++; !g.tenant {
			t.wanted[g.key.Side]++
			if g.wanted == 1 {
				t.active[g.key.Side]++
				g.limiter.spend(now, 0)
			}
		}
	}
}

func (t *Table) unwant(w *waiter) {
	for _, g := range w.gates {
		if g.wanted--; !g.tenant {
			t.wanted[g.key.Side]--
			if g.wanted == 0 {
				t.active[g.key.Side]--
				g.limiter.idle()
			}
		}
	}
}

// share is how many places of a gate the other hosts of its side leave it: what they do not want, but always its equal share.
func (t *Table) share(g *gate) int {
	side := g.key.Side
	others := t.active[side] - 1
	if others <= 0 {
		return t.cfg.Slots
	}
	return max(1, t.cfg.Slots/(others+1), t.cfg.Slots-(t.wanted[side]-g.wanted)-others)
}

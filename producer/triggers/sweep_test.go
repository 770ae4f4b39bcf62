package triggers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/producer/rules"
	"github.com/copyfleet/copyfleet/protocol"
)

// listed is a store whose bucket is a list.
type listed struct {
	mu      sync.Mutex
	objects []Object
	many    int           // more objects, made while they are listed
	err     error         // with which the list ends
	gate    chan struct{} // unless nil, a list waits here before it ends
	lists   int
	reached chan struct{} // of size 1: a list waits at the gate
}

func (l *listed) Stat(context.Context, string, string, string) (Object, error) {
	return Object{}, ErrNoObject
}

func (l *listed) List(ctx context.Context, bucket, prefix string, visit func(Object) bool) error {
	l.mu.Lock()
	l.lists++
	objects, err, gate := slices.Clone(l.objects), l.err, l.gate
	l.mu.Unlock()
	if bucket != "incoming" {
		return ErrNoBucket
	}
	for _, o := range objects {
		if strings.HasPrefix(o.Key, prefix) && !visit(o) {
			return nil
		}
	}
	for i := range l.many {
		if !visit(Object{Key: fmt.Sprintf("%s%07d.csv", prefix, i), ETag: "e", Modified: time.Now()}) {
			return nil
		}
	}
	if gate == nil {
		return err
	}
	signal(l.reached)
	select {
	case <-gate:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *listed) times() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lists
}

// decider stands for the loop of an org: it counts what sweeps published, and says that it was decided on.
type decider struct {
	s      *Service
	mu     sync.Mutex
	keys   map[string][]string // by sweep
	failed []string            // sweeps of which that was told
	most   int                 // objects in a message
	quiet  bool                // keys are not kept
	held   chan struct{}       // unless nil, nothing is decided on until it is closed
	waited uint64              // messages when it was
}

func (d *decider) loop(org protocol.OrgID) func(context.Context) error {
	return func(ctx context.Context) error {
		reader, err := d.s.conn.Events(ctx, org, 0)
		if err != nil {
			return err
		}
		defer reader.Close()
		counts := map[string]int{}
		if d.held != nil {
			if err := d.hold(ctx, org); err != nil {
				return err
			}
		}
		for ctx.Err() == nil {
			batch, err := reader.Fetch(ctx, 100, limit)
			if err != nil {
				return err
			}
			for _, n := range batch {
				m, err := decodeSweep(n.Body)
				if err != nil {
					return err
				}
				d.note(m)
				counts[m.Sweep] += len(m.Objects)
				if m.End != nil && !m.End.Failed {
					if err := d.s.sweptDecided(ctx, org, m.Rule, m.Sweep, sweepTally{Listed: counts[m.Sweep], Recovered: counts[m.Sweep]}); err != nil {
						return err
					}
				}
			}
			if len(batch) > 0 {
				if err := d.s.conn.DropEvents(ctx, org, batch[len(batch)-1].Seq); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

func (d *decider) hold(ctx context.Context, org protocol.OrgID) error {
	select {
	case <-d.held:
	case <-ctx.Done():
	}
	var err error
	d.waited, err = d.s.conn.EventsWaiting(ctx, org, protocol.EventSweep)
	return err
}

func (d *decider) note(m *sweepMessage) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range m.events() {
		if !d.quiet {
			d.keys[m.Sweep] = append(d.keys[m.Sweep], e.Key)
		}
	}
	d.most = max(d.most, len(m.Objects))
	if m.End != nil && m.End.Failed {
		d.failed = append(d.failed, m.Sweep)
	}
}

func (d *decider) of(sweep string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.keys[sweep], " ")
}

const sweptRule = `name: ingest
match: {source: s3, bucket: %s, prefix: raw/, suffix: .csv}
copy:
  src: {type: objectLocation, bucket: "{{bucket}}", key: "{{key}}"}
  dest: {type: sandboxFileLocation, sandbox: SBX-1, path: "/in/{{key.base}}"}
`

// sweepKit is a service with a rule on the bucket "incoming".
func sweepKit(t *testing.T, server *broker.Server, store *listed, cfg Config) (*Service, *decider) {
	t.Helper()
	sealer, err := protocol.NewSealer(protocol.NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	s, err := New(t.Context(), cfg, connect(t, server), sealer, newDesk(), store)
	if err != nil {
		t.Fatal(err)
	}
	s.lease.renewEvery, s.lease.goneAfter = 50*time.Millisecond, limit // nobody dies, and a loop that is begun anew counts anew
	d := &decider{s: s, keys: map[string][]string{}}
	s.loop = d.loop
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() { defer close(ended); s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return s, d
}

// apply stores a rule and waits until the service knows of it.
func apply(t *testing.T, s *Service, text string) {
	t.Helper()
	parsed, problems := rules.Parse([]byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	done, err := s.Apply(t.Context(), acme, parsed)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the rule is known", func() bool {
		rule, err := s.lookup(acme, parsed[0].Name)
		return err == nil && rule.version == done[0].Version
	})
}

func swept(t *testing.T, s *Service, all bool) Swept {
	t.Helper()
	got, err := s.Sweep(t.Context(), acme, "ingest", all)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func at(key string, age time.Duration) Object {
	return Object{Key: key, ETag: "e-" + key, Size: 1, Modified: time.Now().Add(-age)}
}

// TestSweepFindsWhatMatches lists everything first, and then what is new; with all, everything once more.
func TestSweepFindsWhatMatches(t *testing.T) {
	t.Parallel()
	store := &listed{objects: []Object{at("raw/a.csv", 30*24*time.Hour), at("raw/b.txt", 0), at("other/c.csv", 0), at("raw/d.csv", 0)}}
	s, d := sweepKit(t, startServer(t), store, Config{Sweep: -1})
	apply(t, s, fmt.Sprintf(sweptRule, "incoming"))
	for i, step := range []struct {
		all  bool
		want string
	}{{false, "raw/a.csv raw/d.csv"}, {false, "raw/d.csv"}, {true, "raw/a.csv raw/d.csv"}} {
		got := swept(t, s, step.all)
		if keys := d.of(got.ID); keys != step.want || got.State != sweepDone || got.Recovered != got.Listed || got.Listed != len(strings.Fields(step.want)) {
			t.Errorf("sweep %d found %q, want %q: %+v", i, keys, step.want, got)
		}
	}
	view, err := s.Rule(t.Context(), acme, "ingest", 0)
	if err != nil || view.Sweep == nil || view.Sweep.State != sweepDone {
		t.Errorf("the rule shows %+v, %v", view.Sweep, err)
	}
	apply(t, s, fmt.Sprintf(sweptRule, "incoming")+"options: {attempts: 2}\n")
	if got := swept(t, s, false); got.Listed != 2 {
		t.Errorf("a rule that was changed has swept everything by hand: %+v", got)
	}
	if _, err := s.Sweep(t.Context(), acme, "none", false); !errors.Is(err, ErrNoRule) {
		t.Errorf("a sweep of no rule: %v", err)
	}
	apply(t, s, "name: clouds\nmatch: {source: cloudevents}\ncopy: {src: {type: httpGetLocation, url: \"{{event.data.url}}\"}, "+
		"dest: {type: sandboxFileLocation, sandbox: S, path: \"/{{event.id}}\"}}\n")
	if _, err := s.Sweep(t.Context(), acme, "clouds", false); !errors.Is(err, ErrNoSweep) {
		t.Errorf("a sweep of a rule on CloudEvents: %v", err)
	}
}

// TestSweepWithoutGrant is refused. By itself none is made either, which is noted, and tried again only when the next one is due.
func TestSweepWithoutGrant(t *testing.T) {
	t.Parallel()
	store := &listed{}
	s, _ := sweepKit(t, startServer(t), store, Config{Sweep: -1})
	apply(t, s, fmt.Sprintf(sweptRule, "forbidden"))
	if got, err := s.Sweep(t.Context(), acme, "ingest", true); !errors.Is(err, ErrNoGrant) {
		t.Errorf("%+v, %v", got, err)
	}
	if record, _, err := s.readSweep(t.Context(), acme, "ingest"); err != nil || record.ID != "" {
		t.Errorf("what was refused left %+v, %v", record, err)
	}
	got, err := s.sweep(t.Context(), acme, "ingest", false, false)
	record, _, readErr := s.readSweep(t.Context(), acme, "ingest")
	if err := errors.Join(err, readErr); err != nil {
		t.Fatal(err)
	}
	if got.State != sweepFailed || got.Message != notGranted || record.Swept != got || record.Listing || !record.Through.IsZero() {
		t.Errorf("by itself: %+v, and stored is %+v", got, record)
	}
	if n := store.times(); n > 0 {
		t.Errorf("the bucket was listed %d times", n)
	}
}

// TestSweepFails in the middle, and then for want of the bucket. Nothing counts as swept: the next one lists everything.
func TestSweepFails(t *testing.T) {
	t.Parallel()
	store := &listed{objects: []Object{at("raw/old.csv", 30*24*time.Hour)}, many: sweepChunk, err: errDown}
	s, d := sweepKit(t, startServer(t), store, Config{Sweep: -1})
	apply(t, s, fmt.Sprintf(sweptRule, "incoming"))
	got := swept(t, s, false)
	if got.State != sweepFailed || !strings.Contains(got.Message, errDown.Error()) || got.Ended.IsZero() {
		t.Errorf("a store that fails in the middle: %+v", got)
	}
	until(t, "the decider is told", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return slices.Equal(d.failed, []string{got.ID})
	})
	store.mu.Lock()
	store.err, store.many = nil, 0
	store.mu.Unlock()
	if got := swept(t, s, false); got.State != sweepDone || got.Listed != 1 {
		t.Errorf("the one after it: %+v", got)
	}
	apply(t, s, fmt.Sprintf(sweptRule, "missing"))
	if got := swept(t, s, false); got.State != sweepFailed || got.Message != "The bucket does not exist." {
		t.Errorf("no bucket: %+v", got)
	}
}

// TestSweepsAtOnce asks for several: one is made, and all return it.
func TestSweepsAtOnce(t *testing.T) {
	t.Parallel()
	store := &listed{objects: []Object{at("raw/a.csv", 0)}, gate: make(chan struct{}), reached: make(chan struct{}, 1)}
	server := startServer(t)
	first, _ := sweepKit(t, server, store, Config{Sweep: -1})
	second, _ := sweepKit(t, server, store, Config{Sweep: -1})
	apply(t, first, fmt.Sprintf(sweptRule, "incoming"))
	until(t, "the other one knows the rule", func() bool { _, err := second.lookup(acme, "ingest"); return err == nil })
	var all sync.WaitGroup
	got := make([]Swept, 4)
	errs := make([]error, len(got))
	begin := func(i int) {
		all.Go(func() { got[i], errs[i] = []*Service{first, second}[i%2].Sweep(t.Context(), acme, "ingest", false) })
	}
	begin(0)
	<-store.reached
	for i := 1; i < len(got); i++ {
		begin(i)
	}
	close(store.gate)
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, g := range got {
		if g.State != sweepDone {
			t.Errorf("a sweep is %+v", g)
		}
	}
	if n := store.times(); n > 2 { // those that came late begin one of their own
		t.Errorf("%d lists for %d sweeps at once", n, len(got))
	}
}

// TestSweepOfTheDead has a process die while it lists: its sweep is not done, and the next one is made.
func TestSweepOfTheDead(t *testing.T) {
	t.Parallel()
	store := &listed{objects: []Object{at("raw/a.csv", 0)}}
	s, _ := sweepKit(t, startServer(t), store, Config{Sweep: -1})
	apply(t, s, fmt.Sprintf(sweptRule, "incoming"))
	rule, err := s.lookup(acme, "ingest")
	if err != nil {
		t.Fatal(err)
	}
	dead := (&sweepRecord{}).next(rule, true, true)
	if _, err := s.bucket.Put(t.Context(), protocol.SweepKey(acme, "ingest"), dead.encoded()); err != nil {
		t.Fatal(err)
	}
	got := swept(t, s, false)
	if got.State != sweepDone || got.ID == dead.ID || got.Listed != 1 {
		t.Errorf("after a process died: %+v", got)
	}
	// Nobody asks for one: who leads notes it.
	dead = got.record(rule)
	if _, err := s.bucket.Put(t.Context(), protocol.SweepKey(acme, "ingest"), dead.encoded()); err != nil {
		t.Fatal(err)
	}
	until(t, "the sweep has failed", func() bool {
		record, _, err := s.readSweep(t.Context(), acme, "ingest")
		return err == nil && record.ID == dead.ID && record.State == sweepFailed && strings.Contains(record.Message, "process")
	})
}

// record is a sweep that begins after this one.
func (s Swept) record(rule activeRule) sweepRecord {
	return (&sweepRecord{Swept: s, Created: rule.created}).next(rule, false, true)
}

// TestSweepsByThemselves: a rule is swept without being asked, from its creation on.
func TestSweepsByThemselves(t *testing.T) {
	t.Parallel()
	store := &listed{objects: []Object{at("raw/old.csv", 30*24*time.Hour), at("raw/new.csv", 0)}}
	s, d := sweepKit(t, startServer(t), store, Config{Sweep: 50 * time.Millisecond})
	apply(t, s, fmt.Sprintf(sweptRule, "incoming"))
	until(t, "three sweeps", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.keys) >= 3
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, keys := range d.keys {
		if !slices.Equal(keys, []string{"raw/new.csv"}) {
			t.Errorf("%s found %q, want what came after the rule", id, keys)
		}
	}
}

// TestSweepOfManyWaits for who decides: what is published and not decided on is bounded, and so is a message.
func TestSweepOfManyWaits(t *testing.T) {
	t.Parallel()
	const many = 2 * sweepAhead * sweepChunk
	store := &listed{many: many}
	s, d := sweepKit(t, startServer(t), store, Config{Sweep: -1})
	d.quiet = true
	d.held = make(chan struct{})
	apply(t, s, fmt.Sprintf(sweptRule, "incoming"))
	ended := make(chan Swept, 1)
	go func() {
		defer close(ended)
		got, err := s.Sweep(t.Context(), acme, "ingest", false)
		if err == nil {
			ended <- got
		}
	}()
	waiting := func() uint64 {
		n, err := s.conn.EventsWaiting(t.Context(), acme, protocol.EventSweep)
		if err != nil {
			t.Error(err)
		}
		return n
	}
	until(t, "as much waits as may", func() bool { return waiting() >= sweepAhead })
	close(d.held)
	got := <-ended
	if got.State != sweepDone || got.Listed != many || d.most > sweepChunk || d.waited > sweepAhead+roomChecks {
		t.Errorf("%+v, at most %d in a message, %d messages waited", got, d.most, d.waited)
	}
}

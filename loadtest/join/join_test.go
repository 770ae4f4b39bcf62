package join

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/workload"
	"github.com/copyfleet/copyfleet/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 4 * time.Minute

// fleet is a nats-server and what joins over it.
type fleet struct {
	t      *testing.T
	server *broker.Server
	cfg    Config
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	server, err := broker.StartServer(broker.ServerConfig{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	sealer, err := protocol.NewSealer(protocol.NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	return &fleet{t, server, Config{Version: "v1", Sealer: sealer, Logger: slog.New(slog.DiscardHandler), silence: Silence, every: 20 * time.Millisecond}}
}

func (f *fleet) connect(name string) *broker.Conn {
	f.t.Helper()
	conn, err := broker.Connect(broker.Config{Server: f.server, Name: name, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(conn.Close)
	return conn
}

// named is the fleet's configuration for one of its processes.
func (f *fleet) named(name string) Config {
	cfg := f.cfg
	cfg.Name = name
	return cfg
}

// machine is a load generator of a fleet: its process, if it were one.
type machine struct {
	conn  *broker.Conn
	end   context.CancelFunc
	ended chan error
	made  chan *fake
}

// start starts a load generator, whose load is a fake that is kept in memory.
func (f *fleet) start(cfg Config, script fake) *machine {
	f.t.Helper()
	ctx, end := context.WithCancel(context.Background())
	m := &machine{f.connect(cfg.Name), end, make(chan error, 1), make(chan *fake, 100)}
	go func() {
		m.ended <- Serve(ctx, m.conn, cfg, func(job []byte, place loadtest.Place) (Generator, error) {
			g := script
			g.job, g.place, g.closed, g.running, g.once = string(job), place, make(chan struct{}), make(chan struct{}), new(sync.Once)
			m.made <- &g
			return &g, g.openError
		})
	}()
	f.t.Cleanup(func() {
		end()
		if err := within(f.t, m.ended, "Serve to return"); err != nil {
			f.t.Errorf("Serve: %v", err)
		}
	})
	return m
}

// fake is a generator in memory: its operations are made up, and it loads nothing.
type fake struct {
	name      string // the host that its operations name
	ops       int
	openError error
	prepare   func(ctx context.Context) error // nil: nothing
	fail      error                           // of Run, which then has no result
	endless   bool                            // Run goes on until it is stopped
	seconds   int                             // of the result
	panics    bool

	job     string
	place   loadtest.Place
	running chan struct{} // closed when Run begins
	closed  chan struct{}
	once    *sync.Once
}

func (g *fake) Prepare(ctx context.Context) error {
	if g.prepare != nil {
		return g.prepare(ctx)
	}
	return nil
}

func (g *fake) Run(ctx context.Context, progress func(loadtest.Progress)) (*record.Run, error) {
	g.once.Do(func() { close(g.running) })
	if g.panics {
		panic("secret")
	}
	progress(loadtest.Progress{Elapsed: time.Second, Ended: int64(g.ops), Second: record.Second{Ops: float64(g.ops), Bytes: 1, Errors: 1}})
	if g.endless {
		<-ctx.Done()
	}
	if g.fail != nil {
		return nil, g.fail
	}
	run := g.run()
	if ctx.Err() != nil {
		run.Partial = []string{loadtest.Interrupted}
	}
	return run, nil
}

func (g *fake) Close() { close(g.closed) }

// run is what the generator measured.
func (g *fake) run() *record.Run {
	sums := record.NewRecorder(0, nil)
	for i := range g.ops {
		sums.Add(&record.Op{Kind: workload.Get, Due: time.Duration(i) * time.Millisecond, Took: time.Duration(g.ops+i) * time.Microsecond, Bytes: 1000, Host: g.name})
	}
	sums.Stop(time.Duration(max(1, g.ops))*time.Second, 0)
	totals, err := sums.Totals()
	if err != nil {
		panic(err)
	}
	for i := range g.seconds {
		totals.Seconds = append(totals.Seconds, record.Second{Ops: 1 / float64(i+3), Bytes: float64(uint64(i) * 0x9E3779B97F4A7C15)}) // compresses badly
	}
	return &record.Run{Headers: []*record.Header{{Run: g.place.Run, Generator: g.place.Generator, Generators: g.place.Generators}}, Totals: totals}
}

// within waits for what must come.
func within[T any](t *testing.T, ch <-chan T, what string) (value T) {
	t.Helper()
	select {
	case value = <-ch:
	case <-time.After(patience):
		t.Fatalf("waited %s in vain for %s", patience, what)
	}
	return value
}

func (f *fleet) gather(n int) *Crew {
	f.t.Helper()
	crew, err := Gather(f.t.Context(), f.connect("coordinator"), f.named("coordinator"), n, patience)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(crew.Close)
	return crew
}

// ready is gather with a job that has been prepared.
func (f *fleet) ready(n int) *Crew {
	f.t.Helper()
	crew := f.gather(n)
	if err := errors.Join(crew.Open(f.t.Context(), "run1", []byte(`{}`)), crew.Prepare(f.t.Context())); err != nil {
		f.t.Fatal(err)
	}
	return crew
}

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestResultIsTheUnion(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	machines := make([]*machine, 3)
	for i := range machines {
		machines[i] = f.start(f.named(fmt.Sprint("m", i)), fake{name: fmt.Sprint("host", i%2), ops: 10 * (i + 1)})
	}
	crew := f.gather(3)
	job := `{"key":"` + fmt.Sprint(make([]int, 1<<20)) + `"}` // larger than a message may be
	if err := crew.Open(t.Context(), "run1", []byte(job)); err != nil {
		t.Fatal(err)
	}
	if err := crew.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	var made [3]*fake // by place
	for _, m := range machines {
		g := within(t, m.made, "the job")
		if g.job != job || g.place.Run != "run1" || g.place.Generators != 3 {
			t.Errorf("opened a job of %d bytes at %+v", len(g.job), g.place)
		}
		if made[g.place.Generator] != nil {
			t.Fatalf("two have place %d", g.place.Generator)
		}
		made[g.place.Generator] = g
	}
	want := made[0].run()
	want.Merge(made[1].run())
	want.Merge(made[2].run())
	got, err := crew.Run(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Headers) != 3 || len(got.Partial) > 0 {
		t.Errorf("%d headers, partial: %q", len(got.Headers), got.Partial)
	}
	if got.Spread <= 0 || got.Spread > patience {
		t.Errorf("the starts are %s apart", got.Spread)
	}
	if got, want := text(t, got.Totals), text(t, want.Totals); got != want {
		t.Errorf("got  %.500s\nwant %.500s", got, want)
	}
}

package join

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// few is how long a coordinator waits that is to be refused.
const few = 15 * time.Second

// refused checks that an error has a code, a hint and some words.
func refused(t *testing.T, err error, class storage.Class, code string, words ...string) {
	t.Helper()
	e, ok := errors.AsType[*storage.Error](err)
	if !ok || e.Class != class || e.Code != code || e.Hint == "" {
		t.Fatalf("got %v (%#v), want %v %s with a hint", err, e, class, code)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}

// TestTwoCoordinators want the same generators at once: each gets them all, one after the other.
func TestTwoCoordinators(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for i := range 3 {
		f.start(f.named(fmt.Sprint("m", i)), fake{})
	}
	var have atomic.Int32
	done := make(chan error, 2)
	for i := range 2 {
		conn := f.connect(fmt.Sprint("c", i))
		go func() {
			crew, err := Gather(t.Context(), conn, f.cfg, 3, patience)
			if err == nil {
				if n := have.Add(1); n > 1 {
					t.Errorf("%d coordinators have them", n)
				}
				err = crew.Open(t.Context(), fmt.Sprint("run", i), nil)
				have.Add(-1)
				crew.Close()
			}
			done <- err
		}()
	}
	for range 2 {
		if err := within(t, done, "a coordinator"); err != nil {
			t.Error(err)
		}
	}
}

func TestGeneratorsAreTaken(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.start(f.named("m0"), fake{})
	f.start(f.named("m1"), fake{})
	first := f.gather(1)
	second := f.connect("second")
	for n, words := range map[int][]string{
		0: {"2 answered", "1 are taken", "(coordinator)"},
		2: {"2 load generators were to join", "2 answered", "1 are taken"},
	} {
		_, err := Gather(t.Context(), second, f.named("second"), n, few)
		refused(t, err, storage.Unavailable, codeBusy, words...)
	}
	crew, err := Gather(t.Context(), second, f.named("second"), 1, patience) // the other one is free
	if err != nil {
		t.Fatal(err)
	}
	if a, b := first.Names()[0], crew.Names()[0]; a == b {
		t.Errorf("both have %s", a)
	}
	crew.Close()
	first.Close()
	all, err := Gather(t.Context(), second, f.named("second"), 0, few)
	if err != nil {
		t.Fatal(err)
	}
	if len(all.Names()) != 2 {
		t.Errorf("all are %q", all.Names())
	}
	all.Close()
}

// TestTakenMeanwhile: another coordinator took it between the call and the question.
func TestTakenMeanwhile(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.start(f.named("m0"), fake{})
	free := f.free()
	f.gather(1)
	crew := newCrew(t.Context(), f.connect("late"), f.named("late"))
	refused(t, crew.take(t.Context(), free), storage.Unavailable, codeBusy, "m0")
}

// free are the generators of the fleet.
func (f *fleet) free() []hello {
	f.t.Helper()
	r := &roll{cfg: &f.cfg, heard: map[string]hello{}}
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	for len(r.heard) == 0 && ctx.Err() == nil {
		if err := r.call(ctx, f.connect("roll"), 1); err != nil {
			f.t.Fatal(err)
		}
	}
	return r.sorted()
}

func TestTooFew(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	conn := f.connect("coordinator")
	_, err := Gather(t.Context(), conn, f.cfg, 0, time.Second)
	refused(t, err, storage.Unavailable, "generators_missing", "0 answered")
	f.start(f.named("m0"), fake{})
	_, err = Gather(t.Context(), conn, f.cfg, 2, few)
	refused(t, err, storage.Unavailable, "generators_missing", "2 load generators were to join; 1 answered")
	_, err = Gather(t.Context(), conn, f.cfg, -1, few)
	if storage.ClassOf(err) != storage.Invalid {
		t.Errorf("-1 generators: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Gather(ctx, conn, f.cfg, 2, patience); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	cfg := f.cfg
	cfg.Sealer = nil
	_, err = Gather(t.Context(), conn, cfg, 1, few)
	refused(t, err, storage.Invalid, "bench_key")
	refused(t, Serve(t.Context(), conn, cfg, nil), storage.Invalid, "bench_key")
}

func TestOtherVersion(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	other := f.named("m0")
	other.Version = "v0"
	f.start(other, fake{})
	conn := f.connect("coordinator")
	_, err := Gather(t.Context(), conn, f.cfg, 0, few)
	refused(t, err, storage.Invalid, "bench_version", "1 answered, of which 0 fit", "m0", "v0", "v1")
	// The generator refuses, too.
	crew := newCrew(t.Context(), conn, f.named("c"))
	refused(t, crew.take(t.Context(), f.free()), storage.Invalid, "bench_version", "m0", "v0", "v1")
}

func TestOtherKey(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.start(f.named("m0"), fake{})
	cfg := f.cfg
	cfg.Sealer, _ = protocol.NewSealer(protocol.NewSealKey())
	_, err := Gather(t.Context(), f.connect("coordinator"), cfg, 1, few)
	refused(t, err, storage.Invalid, "bench_key", "m0")
}

func TestOneOfThreeDoesNotOpen(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	denied := &storage.Error{Class: storage.Denied, Code: "http_403", Op: "open", Subject: "s3://bench", Message: "no", Hint: "Ask.", Status: 403, Err: errors.New("why")}
	machines := []*machine{
		f.start(f.named("m0"), fake{}), f.start(f.named("m1"), fake{openError: denied}), f.start(f.named("m2"), fake{}),
	}
	crew := f.gather(3)
	err := crew.Open(t.Context(), "run1", []byte(`{"secret":"s3cr3t"}`))
	refused(t, err, storage.Denied, "http_403", "generator m1", "s3://bench", "no: why")
	if e, _ := errors.AsType[*storage.Error](err); e.Hint != "Ask." || e.Status != 403 || e.Op != "open" {
		t.Errorf("got %#v", e)
	}
	crew.Close()
	for _, m := range machines {
		select {
		case g := <-m.made:
			within(t, g.closed, "the load to be closed")
		default: // it was not asked any more
		}
	}
	f.gather(3).Close() // they are free again
}

func TestPrepareFails(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	full := &loadtest.PrepareError{Fault: record.Fault{Class: "no_space", Code: "http_507", Message: "it is full"}}
	f.start(f.named("m0"), fake{prepare: func(context.Context) error { return fmt.Errorf("prepare: %w", full) }})
	f.start(f.named("m1"), fake{prepare: func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }})
	crew := f.gather(2)
	if err := crew.Open(t.Context(), "run1", nil); err != nil {
		t.Fatal(err)
	}
	err := crew.Prepare(t.Context())
	if e, ok := errors.AsType[*storage.Error](err); !ok || e.Class != storage.NoSpace || e.Code != "http_507" || e.Message != "it is full" || !strings.Contains(err.Error(), "m0") {
		t.Errorf("prepare: %v", err)
	}
	crew.Close() // ends the other one, which would prepare for ever
	f.gather(2).Close()
}

func TestRunFails(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.start(f.named("m0"), fake{panics: true})
	crew := f.ready(1)
	_, err := crew.Run(t.Context(), nil)
	if e, ok := errors.AsType[*storage.Error](err); !ok || e.Code != "generator_panicked" || strings.Contains(err.Error(), "secret") {
		t.Errorf("run: %v", err)
	}
	crew.Close()
	f.start(f.named("m1"), fake{name: "a", ops: 1})
	f.start(f.named("m2"), fake{fail: errors.New("no disk")})
	crew = f.ready(3)
	run, err := crew.Run(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(run.Partial, "\n"); len(run.Partial) != 2 || !strings.Contains(got, "generator m0: ") || !strings.Contains(got, "generator m2: running the load: no disk") {
		t.Errorf("partial: %q", run.Partial)
	}
}

package join

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/storage"
)

// silence is short enough to wait for, and longer than a slow machine pauses.
const silence = 20 * time.Second

// ran is what a run of a crew came to.
type ran struct {
	run *record.Run
	err error
}

func (f *fleet) run(ctx context.Context, crew *Crew, progress func(loadtest.Progress)) <-chan ran {
	done := make(chan ran, 1)
	go func() {
		run, err := crew.Run(ctx, progress)
		done <- ran{run, err}
	}()
	return done
}

func TestCoordinatorDies(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	cfg := f.named("m0")
	cfg.silence = silence
	m := f.start(cfg, fake{ops: 1, endless: true})
	conn := f.connect("dies")
	crew, err := Gather(t.Context(), conn, f.cfg, 1, patience)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(crew.Open(t.Context(), "run1", nil), crew.Prepare(t.Context())); err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	crew.cfg.silence = silence // it has to see that it is cut off, for the test to end
	done := f.run(ctx, crew, nil)
	g := within(t, m.made, "the job")
	within(t, g.running, "the load to begin")
	conn.Close()
	within(t, g.closed, "the load to be closed")
	again := f.gather(1) // it is free for others
	again.Close()
	interrupt()
	if got := within(t, done, "the run to end"); got.err == nil {
		t.Error("a coordinator that is cut off has a result")
	}
	crew.Close()
}

func TestGeneratorDies(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.cfg.silence = silence
	dies := f.start(f.named("m0"), fake{name: "a", ops: 3, endless: true})
	f.start(f.named("m1"), fake{name: "b", ops: 4})
	f.start(f.named("m2"), fake{name: "b", ops: 5})
	crew := f.ready(3)
	done := f.run(t.Context(), crew, nil)
	within(t, within(t, dies.made, "the job").running, "the load to begin")
	dies.conn.Close()
	got := within(t, done, "the run to end")
	if got.err != nil {
		t.Fatal(got.err)
	}
	if want := []string{"generator m0: it was lost: no word for " + silence.String()}; !slices.Equal(got.run.Partial, want) {
		t.Errorf("partial: %q, want %q", got.run.Partial, want)
	}
	if n := got.run.Totals.Groups[0].Ops; len(got.run.Totals.Groups) != 1 || n != 9 {
		t.Errorf("%d operations in %d groups, want the 9 of the others", n, len(got.run.Totals.Groups))
	}
}

func TestGeneratorDiesBeforeTheRun(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.cfg.silence = silence
	m := f.start(f.named("m0"), fake{prepare: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }})
	f.start(f.named("m1"), fake{})
	crew := f.gather(2)
	if err := crew.Open(t.Context(), "run1", nil); err != nil {
		t.Fatal(err)
	}
	m.conn.Close()
	err := crew.Prepare(t.Context())
	if e, ok := errors.AsType[*storage.Error](err); !ok || e.Class != storage.Unavailable || e.Code != codeLost || !strings.Contains(err.Error(), "m0") || e.Hint == "" {
		t.Errorf("prepare: %v", err)
	}
}

func TestAllGeneratorsDie(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.cfg.silence = silence
	m := f.start(f.named("m0"), fake{endless: true})
	crew := f.ready(1)
	done := f.run(t.Context(), crew, nil)
	within(t, within(t, m.made, "the job").running, "the load to begin")
	m.conn.Close()
	if got := within(t, done, "the run to end"); storage.ClassOf(got.err) != storage.Unavailable {
		t.Errorf("got %+v, want that it is unavailable", got)
	}
}

// TestInterrupted also shows that progress is that of all together.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for i, name := range []string{"m0", "m1", "m2"} {
		f.start(f.named(name), fake{name: name, ops: i + 1, endless: true})
	}
	crew := f.ready(3)
	ctx, interrupt := context.WithCancel(t.Context())
	want := loadtest.Progress{Elapsed: time.Second, Ended: 6, Second: record.Second{Ops: 6, Bytes: 3, Errors: 3}}
	got := within(t, f.run(ctx, crew, func(p loadtest.Progress) {
		if p == want {
			interrupt()
		}
	}), "the run to end")
	if got.err != nil {
		t.Fatal(got.err)
	}
	if !slices.Equal(got.run.Partial, []string{loadtest.Interrupted}) || len(got.run.Headers) != 3 {
		t.Errorf("partial: %q, of %d generators", got.run.Partial, len(got.run.Headers))
	}
}

// TestGeneratorIsToldToEnd ends one of two: its coordinator has the result of both, and it does not wait for longer than that takes.
func TestGeneratorIsToldToEnd(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.cfg.silence = 2 * patience
	m0 := f.start(f.named("m0"), fake{name: "a", ops: 1, endless: true})
	m1 := f.start(f.named("m1"), fake{name: "b", ops: 2, endless: true})
	crew := f.ready(2)
	ctx, interrupt := context.WithCancel(t.Context())
	done := f.run(ctx, crew, nil)
	within(t, within(t, m1.made, "the job").running, "the load to begin")
	g0 := within(t, m0.made, "the job")
	within(t, g0.running, "the load to begin")
	m0.end()
	if err := within(t, m0.ended, "Serve to return"); err != nil {
		t.Error(err)
	}
	m0.ended <- nil // for the end of the test
	within(t, g0.closed, "the load to be closed")
	interrupt()
	got := within(t, done, "the run to end")
	if got.err != nil || len(got.run.Headers) != 2 || !slices.Equal(got.run.Partial, []string{loadtest.Interrupted}) {
		t.Errorf("got %+v", got)
	}
	for _, m := range crew.members { // it is not waited for, though it cannot say any more that it is free
		within(t, m.done, "the beats to end")
	}
}

// TestGeneratorEndsWithoutItsCoordinator: nobody fetches the result, and Serve returns all the same.
func TestGeneratorEndsWithoutItsCoordinator(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	cfg := f.named("m0")
	cfg.silence = silence
	m := f.start(cfg, fake{endless: true})
	crew := f.gather(1)
	crew.end() // no more beats
	m.end()
	if err := within(t, m.ended, "Serve to return"); err != nil {
		t.Error(err)
	}
	m.ended <- nil
}

func TestConnectionBreaksForAMoment(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.start(f.named("m0"), fake{name: "a", ops: 2, endless: true})
	crew := f.ready(1)
	ctx, interrupt := context.WithCancel(t.Context())
	done := f.run(ctx, crew, nil)
	within(t, within(t, m.made, "the job").running, "the load to begin")
	if err := errors.Join(m.conn.ForceReconnect(t.Context()), crew.conn.ForceReconnect(t.Context())); err != nil {
		t.Fatal(err)
	}
	interrupt()
	if got := within(t, done, "the run to end"); got.err != nil || !slices.Equal(got.run.Partial, []string{loadtest.Interrupted}) {
		t.Errorf("got %+v", got)
	}
}

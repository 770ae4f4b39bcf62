package loadtest

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/workload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is a target on the clock of a bubble.
type store struct {
	takes   func(n int64) time.Duration // of operation n
	fails   func(n int64) bool
	n       atomic.Int64
	running atomic.Int64
	most    atomic.Int64
	cut     atomic.Int64
}

func (s *store) Do(ctx context.Context, op *workload.Op) Result {
	n := s.n.Add(1) - 1
	s.most.Store(max(s.most.Load(), s.running.Add(1)))
	defer s.running.Add(-1)
	timer := time.NewTimer(s.takes(n))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		s.cut.Add(1)
		return Result{Fault: &record.Fault{Class: "Temporary", Code: "cut_off"}}
	}
	if s.fails != nil && s.fails(n) {
		return Result{Fault: &record.Fault{Class: "Temporary", Code: "refused", Message: "nothing answers"}, Down: true}
	}
	result := Result{Host: "here"}
	if op.Kind == workload.Get {
		result.First = time.Millisecond
	}
	return result
}

func always(d time.Duration) func(int64) time.Duration { return func(int64) time.Duration { return d } }

func load(t *testing.T, cfg workload.Config, rate float64) *workload.Load {
	t.Helper()
	var err error
	if cfg.Sizes, err = workload.ParseSizes("1000", nil); err != nil {
		t.Fatal(err)
	}
	if rate > 0 {
		if cfg.Arrivals, err = workload.ParseArrivals("even", rate, 1, 0); err != nil {
			t.Fatal(err)
		}
	}
	return workload.NewLoad(cfg)
}

func totalsOf(t *testing.T, r *record.Recorder) *record.Totals {
	t.Helper()
	totals, err := r.Totals()
	if err != nil {
		t.Fatal(err)
	}
	return totals
}

func sum(totals *record.Totals) (s record.Group) {
	for _, g := range totals.Groups {
		s.Ops, s.Errors, s.Done = s.Ops+g.Ops, s.Errors+g.Errors, s.Done+g.Done
		s.Latency.Merge(&g.Latency)
		s.First.Merge(&g.First)
	}
	return s
}

func near(got, want time.Duration) bool {
	return math.Abs(float64(got-want)) <= 0.002*float64(want)
}

func TestClosedLoopKeepsItsPlacesBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{takes: always(10 * time.Millisecond)}
		r := record.NewRecorder(2*time.Second, nil)
		var seen []Progress
		plan := Plan{
			Load: load(t, workload.Config{Mix: workload.Only(workload.Put)}, 0), Concurrency: 8, WarmUp: 2 * time.Second, Duration: 12 * time.Second,
			Progress: func(p Progress) { seen = append(seen, p) },
		}
		if partial := Run(t.Context(), &plan, s, r); partial != "" {
			t.Error(partial)
		}
		totals := totalsOf(t, r)
		all := sum(totals)
		if rate := all.Done / totals.Length().Seconds(); math.Abs(rate-800) > 1 || totals.Length() != 10*time.Second {
			t.Errorf("%v a second in %v", rate, totals.Length())
		}
		if !near(all.Latency.Quantile(0.5), 10*time.Millisecond) || !near(all.Latency.Quantile(1), 10*time.Millisecond) || s.most.Load() != 8 {
			t.Errorf("p50 %v, max %v, %d at once", all.Latency.Quantile(0.5), all.Latency.Quantile(1), s.most.Load())
		}
		if len(seen) < 10 || math.Abs(seen[5].Second.Ops-800) > 10 {
			t.Errorf("%+v", seen)
		}
	})
}

// A store that stalls for a second is charged for all that were due meanwhile: with 100 a second, 1 % of them wait for most of it.
func TestStallShowsInAnOpenLoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s := &store{takes: func(int64) time.Duration {
			if at := time.Since(start); at >= 5*time.Second && at < 6*time.Second {
				return 6*time.Second - at
			}
			return time.Millisecond
		}}
		r := record.NewRecorder(0, nil)
		plan := Plan{Load: load(t, workload.Config{Mix: workload.Only(workload.Get), Objects: 1}, 100), Concurrency: 4, Duration: 20 * time.Second}
		if err := Prepare(t.Context(), plan.Load, 1, &store{takes: always(0)}); err != nil {
			t.Fatal(err)
		}
		if partial := Run(t.Context(), &plan, s, r); partial != "" {
			t.Error(partial)
		}
		all := sum(totalsOf(t, r))
		if p := all.Latency.Quantile(0.99); p < 700*time.Millisecond || p > 900*time.Millisecond {
			t.Errorf("p99 is %v", p)
		}
		if p := all.Latency.Quantile(0.5); !near(p, time.Millisecond) {
			t.Errorf("p50 is %v", p)
		}
		if all.Ops < 1990 || s.most.Load() > 4 || all.First.Quantile(1) < 900*time.Millisecond {
			t.Errorf("%d operations, %d at once, first byte %v", all.Ops, s.most.Load(), all.First.Quantile(1))
		}
	})
}

func TestStoreThatCannotKeepUpIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := record.NewRecorder(0, nil)
		plan := Plan{Load: load(t, workload.Config{Mix: workload.Only(workload.Put)}, 100), Concurrency: 2, Duration: 10 * time.Second}
		Run(t.Context(), &plan, &store{takes: always(40 * time.Millisecond)}, r) // does 50 a second
		totals := totalsOf(t, r)
		if all := sum(totals); math.Abs(all.Done-500) > 2 || totals.NotBegun < 490 || totals.NotBegun > 500 || all.Latency.Quantile(1) < 4*time.Second {
			t.Errorf("%v done, %d not begun, at most %v", all.Done, totals.NotBegun, all.Latency.Quantile(1))
		}
	})
}

func TestCountEndsBothLoops(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{0, 50} {
		synctest.Test(t, func(t *testing.T) {
			s := &store{takes: always(time.Millisecond)}
			r := record.NewRecorder(0, nil)
			plan := Plan{Load: load(t, workload.Config{Mix: workload.Only(workload.Put), Count: 101}, rate), Concurrency: 7}
			if partial := Run(t.Context(), &plan, s, r); partial != "" {
				t.Error(partial)
			}
			totals := totalsOf(t, r)
			if all := sum(totals); all.Ops != 101 || totals.Outside != 0 || totals.NotBegun != 0 || rate > 0 && !near(totals.To, 2*time.Second) {
				t.Errorf("%d operations, %d outside, %d not begun, in %v", all.Ops, totals.Outside, totals.NotBegun, totals.To)
			}
		})
	}
}

func TestRunEndsWhenThroughputHasSettled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s := &store{takes: func(int64) time.Duration { // faster and faster for 20 seconds
			return max(5*time.Millisecond, 50*time.Millisecond-time.Since(start)*45/20/1000)
		}}
		r := record.NewRecorder(time.Second, nil)
		plan := Plan{
			Load: load(t, workload.Config{Mix: workload.Only(workload.Put)}, 0), Concurrency: 4, WarmUp: time.Second, Duration: time.Hour,
			AutoTerm: AutoTerm{Window: 3 * time.Second, Windows: 3, Tolerance: 0.05},
		}
		if partial := Run(t.Context(), &plan, s, r); partial != "" {
			t.Error(partial)
		}
		if at := time.Since(start); at < 25*time.Second || at > 35*time.Second {
			t.Errorf("it ended after %v", at)
		}
	})
}

func TestInterruptedRunTellsWhatItDid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		s := &store{takes: func(n int64) time.Duration {
			if n == 7 {
				return time.Hour // hangs
			}
			return time.Second
		}}
		r := record.NewRecorder(0, nil)
		start := time.Now()
		plan := Plan{Load: load(t, workload.Config{Mix: workload.Only(workload.Put)}, 0), Concurrency: 2}
		if partial := Run(ctx, &plan, s, r); partial != Interrupted {
			t.Errorf("%q", partial)
		}
		all := sum(totalsOf(t, r))
		if took := time.Since(start); took != 7*time.Second || s.cut.Load() != 1 || all.Ops != 8 || all.Errors != 1 {
			t.Errorf("%v, %d cut off, %d went well, %d failed", took, s.cut.Load(), all.Ops, all.Errors)
		}
	})
}

func TestDeadStoreEndsTheRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{takes: always(time.Millisecond), fails: func(n int64) bool { return n >= 1000 }}
		r := record.NewRecorder(0, nil)
		start := time.Now()
		plan := Plan{Load: load(t, workload.Config{Mix: workload.Only(workload.Put)}, 0), Concurrency: 4, Duration: time.Hour}
		if partial := Run(t.Context(), &plan, s, r); partial != NoSuccess {
			t.Errorf("%q", partial)
		}
		all := sum(totalsOf(t, r))
		if took := time.Since(start); took > 33*time.Second || all.Ops != 1000 || all.Errors > 1500 || all.Errors < 100 {
			t.Errorf("%v, %d went well, %d failed", took, all.Ops, all.Errors)
		}
	})
}

func TestPrepareStopsAtTheFirstFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{takes: always(time.Millisecond), fails: func(n int64) bool { return n == 20 }}
		l := load(t, workload.Config{Mix: workload.Only(workload.Get), Objects: 1000}, 0)
		err := Prepare(t.Context(), l, 4, s)
		if e, ok := errors.AsType[*PrepareError](err); !ok || e.Fault.Code != "refused" || s.n.Load() > 30 {
			t.Errorf("%v after %d", err, s.n.Load())
		}
		whole := load(t, workload.Config{Mix: workload.Only(workload.Get), Objects: 50}, 0)
		if err := Prepare(t.Context(), whole, 4, &store{takes: always(time.Millisecond)}); err != nil || whole.Objects() != 50 {
			t.Errorf("%v, %d objects", err, whole.Objects())
		}
	})
}

// A store that dies before the run's end leaves a run that is partial, though it has not been silent for long; one that came back does not.
func TestStoreThatIsGoneAtTheEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fails func(n int64) bool
		want  string
	}{
		"gone":       {func(n int64) bool { return n > 500 }, NoAnswer},
		"came back":  {func(n int64) bool { return n > 500 && n < 520 }, ""},
		"was always": {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &store{takes: always(time.Millisecond), fails: c.fails}
				r := record.NewRecorder(0, nil)
				plan := Plan{Load: load(t, workload.Config{Mix: workload.Only(workload.Put)}, 0), Concurrency: 2, Duration: 5 * time.Second}
				if partial := Run(t.Context(), &plan, s, r); partial != c.want {
					t.Errorf("partial %q, want %q", partial, c.want)
				}
			})
		})
	}
}

// asking is a target that asks to be left alone, and looks at what it did afterwards.
type asking struct{ n atomic.Int64 }

func (a *asking) Do(context.Context, *workload.Op) Result {
	a.n.Add(1)
	time.Sleep(30 * time.Millisecond)
	return Result{Rest: time.Second, After: 20 * time.Millisecond, Fault: &record.Fault{Class: "throttled", Code: "queue_full"}}
}

// A place of a closed loop rests as long as it is asked to; arrivals of an open loop do not. What a target does after an operation is no part of it.
func TestRestAndAfter(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{0, 20} {
		synctest.Test(t, func(t *testing.T) {
			a := &asking{}
			raw := record.NewRecorder(0, nil)
			Run(t.Context(), &Plan{Load: load(t, workload.Config{Mix: workload.Only(workload.Put)}, rate), Concurrency: 1, Duration: 10 * time.Second}, a, raw)
			want := int64(10) // of a second and 30 ms each
			if rate > 0 {
				want = 201 // 20 a second, and one at the end
			}
			if a.n.Load() != want {
				t.Errorf("at a rate of %v: %d operations, not %d", rate, a.n.Load(), want)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		r := record.NewRecorder(0, nil)
		target := &lasting{}
		Run(t.Context(), &Plan{Load: load(t, workload.Config{Mix: workload.Only(workload.Put), Count: 5}, 0), Concurrency: 1}, target, r)
		all := sum(totalsOf(t, r))
		if p50 := all.Latency.Quantile(0.5); !near(p50, 10*time.Millisecond) {
			t.Errorf("it took %v, not 10ms", p50)
		}
	})
}

// lasting takes 10 ms, and 20 ms more to look at what it did.
type lasting struct{}

func (lasting) Do(context.Context, *workload.Op) Result {
	time.Sleep(30 * time.Millisecond)
	return Result{After: 20 * time.Millisecond}
}

package loadtest

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/workload"
)

// The last operation of a count is done in the interval, too: without its time the throughput would be too high, of a single operation by any factor.
func TestThroughputOfACountIsThatOfItsWholeTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		count  uint64
		places int
		want   float64 // a second
	}{{1, 1, 10}, {2, 1, 10}, {10, 1, 10}, {8, 8, 80}, {40, 8, 80}, {3, 8, 30}} {
		synctest.Test(t, func(t *testing.T) {
			r := record.NewRecorder(0, nil)
			plan := Plan{Load: load(t, workload.Config{Mix: workload.Only(workload.Put), Count: c.count}, 0), Concurrency: c.places}
			Run(t.Context(), &plan, &store{takes: always(100 * time.Millisecond)}, r)
			totals := totalsOf(t, r)
			all := sum(totals)
			if rate := all.Done / totals.Length().Seconds(); math.Abs(rate-c.want) > 0.01*c.want || all.Ops != int64(c.count) || totals.Outside != 0 {
				t.Errorf("%d by %d: %v a second in %v, %d operations", c.count, c.places, rate, totals.Length(), all.Ops)
			}
		})
	}
}

// A store to which nothing is sent for a while, or whose operations are long, is not down.
func TestQuietStoreIsNotDown(t *testing.T) {
	t.Parallel()
	const minute = time.Minute
	for name, c := range map[string]struct {
		rate  float64
		store *store
		want  string
	}{
		"one in 50 s":         {0.02, &store{takes: always(time.Second)}, ""},
		"a minute each":       {0, &store{takes: always(minute)}, ""},
		"one fails, all long": {0, &store{takes: func(n int64) time.Duration { return min(minute, time.Duration(n)*minute) }, fails: func(n int64) bool { return n == 0 }}, ""},
		"hangs":               {0, &store{takes: func(n int64) time.Duration { return time.Duration(1+n/100*1e6) * time.Millisecond }}, NoSuccess},
		"hangs, one in 50 s":  {0.02, &store{takes: func(n int64) time.Duration { return time.Duration(1+n/3*1e6) * time.Millisecond }}, NoSuccess},
		"never answers":       {0, &store{takes: always(0), fails: func(int64) bool { return true }}, NoSuccess},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := record.NewRecorder(0, nil)
				plan := Plan{Load: load(t, workload.Config{Mix: workload.Only(workload.Put)}, c.rate), Concurrency: 4, Duration: 5 * minute, Grace: 2 * minute}
				if partial := Run(t.Context(), &plan, c.store, r); partial != c.want {
					t.Errorf("%q, not %q", partial, c.want)
				}
				if to := totalsOf(t, r).To; c.want == "" && to != 5*minute {
					t.Errorf("it stopped after %v", to)
				}
			})
		})
	}
}

// Windows in which nothing was done have not settled.
func TestStoreThatFailsHasNotSettled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := record.NewRecorder(0, nil)
		plan := Plan{
			Load: load(t, workload.Config{Mix: workload.Only(workload.Put)}, 0), Concurrency: 2, Duration: time.Hour,
			AutoTerm: AutoTerm{Window: time.Second, Windows: 3, Tolerance: 0.05},
		}
		s := &store{takes: always(time.Millisecond), fails: func(int64) bool { return time.Since(start) > 500*time.Millisecond }}
		if partial := Run(t.Context(), &plan, s, r); partial != NoSuccess {
			t.Errorf("%q after %v", partial, time.Since(start))
		}
	})
}

// What does not fit into the bytes that may be moved was never to begin, though the generator itself was late.
func TestSpentBytesLeaveNothingThatHasNotBegun(t *testing.T) {
	t.Parallel()
	l := load(t, workload.Config{Mix: workload.Only(workload.Put), MaxBytes: 10_000}, 1000)
	for ok := true; ok; {
		_, ok = l.Next()
	}
	if n := l.DueBefore(time.Second); n != 0 {
		t.Errorf("%d operations have not begun", n)
	}
}

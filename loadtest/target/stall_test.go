package target_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/nulls3"
	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/workload"
)

// A store that stalls for a second, over real sockets. In an open loop all that were due meanwhile have waited. A closed loop has asked for next to nothing
// meanwhile: one operation of each of its places is slow. That is why there are open loops.
func TestStallShowsOverSockets(t *testing.T) {
	t.Parallel()
	const (
		rate        = 200
		concurrency = 4
		stall       = time.Second
	)
	slow := func(arrivals workload.Arrivals) (count int64, p99 time.Duration) {
		s, server := onNull(t, nulls3.Options{})
		var once sync.Once
		r := record.NewRecorder(0, nil)
		partial := loadtest.Run(t.Context(), &loadtest.Plan{
			Load:        workload.NewLoad(workload.Config{Mix: workload.Only(workload.Put), Sizes: sizes(t, "1KiB"), Arrivals: arrivals}),
			Concurrency: concurrency, Duration: 4 * time.Second,
			Progress: func(loadtest.Progress) { once.Do(func() { server.Stall(stall) }) },
		}, s, r)
		totals, err := r.Totals()
		if err != nil || partial != "" || len(totals.Faults) > 0 || len(totals.Groups) != 1 {
			t.Fatalf("%v, %q, %+v", err, partial, totals)
		}
		g := totals.Groups[0]
		if g.Latency.Quantile(1) < stall/2 {
			t.Errorf("the slowest operation took %v", g.Latency.Quantile(1))
		}
		g.Latency.Each(func(value time.Duration, n int64) {
			if value >= stall/2 {
				count += n
			}
		})
		return count, g.Latency.Quantile(0.99)
	}
	closed, _ := slow(nil)
	open, p99 := slow(perSecond(t, rate))
	if p99 < stall/2 {
		t.Errorf("p99 of the open loop is %v", p99)
	}
	if closed >= open { // counted: on a machine that does little, few are a percent
		t.Errorf("%d operations of the closed loop were slow, and %d of the open one", closed, open)
	}
}

// A store that has too much to do, and one that dies, are told as what they are, and the dead one ends the run.
func TestStoreThatFailsInMidRun(t *testing.T) {
	t.Parallel()
	s, server := onNull(t, nulls3.Options{})
	var well, busy sync.Once
	r := record.NewRecorder(0, nil)
	partial := loadtest.Run(t.Context(), &loadtest.Plan{
		Load:        workload.NewLoad(workload.Config{Mix: workload.Only(workload.Put), Sizes: sizes(t, "1KiB"), Arrivals: perSecond(t, 100)}),
		Concurrency: 4, Down: 5 * time.Second,
	}, seen{s, func(result *loadtest.Result) {
		switch {
		case result.Fault == nil:
			well.Do(func() { server.Turn(nulls3.Busy) })
		case result.Fault.Class == "throttled":
			busy.Do(server.Close)
		}
	}}, r)
	totals, err := r.Totals()
	if err != nil || partial != loadtest.NoSuccess {
		t.Errorf("%v, %q", err, partial)
	}
	found := map[string]int64{}
	for _, f := range totals.Faults {
		found[f.Fault.Class+" "+f.Fault.Code] += f.Count
	}
	if found["throttled s3_SlowDown"] == 0 || found["unavailable s3_unavailable"] == 0 || totals.Groups[0].Ops == 0 {
		t.Errorf("%v, %d went well", found, totals.Groups[0].Ops)
	}
}

// seen is a target of which each result is looked at.
type seen struct {
	loadtest.Target

	look func(*loadtest.Result)
}

// Do implements loadtest.Target.
func (s seen) Do(ctx context.Context, op *workload.Op) loadtest.Result {
	result := s.Target.Do(ctx, op)
	s.look(&result)
	return result
}

func perSecond(t *testing.T, rate float64) workload.Arrivals {
	t.Helper()
	arrivals, err := workload.ParseArrivals("even", rate, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	return arrivals
}

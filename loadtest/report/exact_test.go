package report

import (
	"cmp"
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/workload"
)

// raw is what one generator did, in the order in which it ended.
type raw struct {
	ops      []record.Op
	from, to time.Duration
	notBegun int
}

// randomRaw makes up what a generator might do: overlapping, waiting and failing operations, some at once, some without any length.
func randomRaw(r *rand.Rand) raw {
	g := raw{from: time.Duration(r.IntN(4)) * 700 * time.Millisecond, to: time.Duration(r.Int64N(int64(8 * time.Second))), notBegun: r.IntN(3)}
	if r.IntN(3) == 0 {
		g.from = 0
	}
	sizes := []int64{0, 1 << 10, 1<<10 + 1, 1 << 30}
	for range r.IntN(300) {
		op := record.Op{
			Kind: workload.Kinds()[r.IntN(len(workload.Kinds()))], Due: time.Duration(r.Int64N(int64(max(g.to, 1)))), Bytes: sizes[r.IntN(len(sizes))],
			Host: []string{"a", "b", ""}[r.IntN(3)], Took: time.Duration(math.Exp(r.Float64() * math.Log(float64(3*time.Second)))),
		}
		switch r.IntN(10) {
		case 0:
			op.Took = 0
		case 1:
			op.Due = op.Due.Truncate(time.Second)
			op.Took = time.Duration(r.IntN(3)) * time.Second
		case 2:
			op.Wait = op.Took / time.Duration(1+r.IntN(3))
		case 3:
			op.Fault = &record.Fault{Class: "c", Code: []string{"x", "y"}[r.IntN(2)]}
		case 4:
			op.Lag = time.Duration(1 + r.IntN(1e8))
		}
		if op.Kind == workload.Get && op.Fault == nil {
			op.First = op.Took / 2
		}
		g.ops = append(g.ops, op)
	}
	slices.SortStableFunc(g.ops, func(a, b record.Op) int { return cmp.Compare(a.Due+a.Took, b.Due+b.Took) })
	return g
}

// run is what the program makes of it.
func (g *raw) run(t *rapid.T) *record.Run {
	recorder := record.NewRecorder(g.from, nil)
	stopped := false
	for i := range g.ops {
		if op := &g.ops[i]; !stopped && op.Due+op.Took > g.to {
			recorder.Stop(g.to, g.notBegun)
			stopped = true
		}
		recorder.Add(&g.ops[i])
	}
	if !stopped {
		recorder.Stop(g.to, g.notBegun)
	}
	totals, err := recorder.Totals()
	if err != nil {
		t.Fatal(err)
	}
	return &record.Run{Totals: totals, Headers: []*record.Header{{}}}
}

// part is the share of an operation's time in an interval.
func part(op *record.Op, from, to time.Duration) float64 {
	begin, end := op.Due+op.Wait, op.Due+op.Took
	switch {
	case to <= from:
		return 0
	case begin >= end && begin >= from && begin < to:
		return 1
	case begin >= end:
		return 0
	}
	return max(0, float64(min(end, to)-max(begin, from))) / float64(end-begin)
}

// exactly are the figures of some operations of all generators, the slow way.
func exactly(all []raw, want func(op *record.Op) bool) Figures {
	var f Figures
	var latencies, firsts []time.Duration
	for i := range all {
		g := &all[i]
		length := (g.to - g.from).Seconds()
		for k := range g.ops {
			op := &g.ops[k]
			if !want(op) {
				continue
			}
			due := op.Due >= g.from && op.Due < g.to
			switch {
			case op.Fault != nil && due:
				f.Errors++
			case op.Fault != nil:
			default:
				if share := part(op, g.from, g.to); share > 0 {
					f.Ops += share / length
					if op.Kind != workload.Stat && op.Kind != workload.List && op.Kind != workload.Delete {
						f.MiB += share * float64(op.Bytes) / mib / length
					}
				}
				if due {
					f.Operations++
					latencies = append(latencies, op.Took)
					if op.First > 0 {
						firsts = append(firsts, op.First)
					}
				}
			}
		}
	}
	f.Latency, f.First = ranks(latencies), ranks(firsts)
	return f
}

func ranks(list []time.Duration) (q Quantiles) {
	if len(list) == 0 {
		return q
	}
	slices.Sort(list)
	at := func(share float64) float64 {
		return millis(list[max(0, int(math.Ceil(share*float64(len(list))-1e-9))-1)])
	}
	for _, d := range list {
		q.Mean += millis(d) / float64(len(list))
	}
	q.P50, q.P90, q.P99, q.P999, q.Max = at(0.5), at(0.9), at(0.99), at(0.999), at(1)
	return q
}

// What the sums say is what a slow computation over every operation says, of one generator and of several that are merged.
func TestSummaryIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 5))
		all := make([]raw, 1+r.IntN(3))
		var run *record.Run
		for i := range all {
			all[i] = randomRaw(r)
			one := all[i].run(t)
			if run == nil {
				run = one
			} else {
				run.Merge(one)
			}
		}
		s := Summarize(run)
		same(t, "all", s.Figures, exactly(all, func(*record.Op) bool { return true }))
		for name, f := range s.ByOperation {
			same(t, name, f, exactly(all, func(op *record.Op) bool { return op.Kind.String() == name }))
		}
		for name, f := range s.ByHost {
			same(t, name, f, exactly(all, func(op *record.Op) bool { return op.Host == name }))
		}
		for name, f := range s.BySize {
			same(t, name, f, exactly(all, func(op *record.Op) bool {
				return op.Kind != workload.List && op.Kind != workload.Delete && record.ClassOf(op.Bytes).String() == name
			}))
		}
		outside, notBegun, faults, longest := 0, 0, int64(0), all[0]
		for _, g := range all {
			notBegun += g.notBegun
			if max(0, g.to-g.from) > max(0, longest.to-longest.from) {
				longest = g
			}
			for i := range g.ops {
				if op := &g.ops[i]; op.Due < g.from || op.Due >= g.to {
					outside++
				}
			}
		}
		for _, f := range s.Failures {
			faults += f.Count
		}
		if s.Outside != outside || s.NotBegun != notBegun || faults != s.Errors {
			t.Errorf("%d outside, not %d; %d not begun, not %d; %d faults of %d", s.Outside, outside, s.NotBegun, notBegun, faults, s.Errors)
		}
		near(t, "the interval", s.Interval, max(0, longest.to-longest.from).Seconds(), 1e-9)
		sameSeconds(t, s.Seconds, all, longest)
		if _, err := json.Marshal(s); err != nil {
			t.Error(err)
		}
	})
}

func same(t *rapid.T, what string, got, want Figures) {
	if got.Operations != want.Operations || got.Errors != want.Errors {
		t.Errorf("%s: %d operations and %d errors, not %d and %d", what, got.Operations, got.Errors, want.Operations, want.Errors)
	}
	near(t, what+" operations a second", got.Ops, want.Ops, 1e-6)
	near(t, what+" MiB a second", got.MiB, want.MiB, 1e-6)
	for name, q := range map[string][2]Quantiles{"latency": {got.Latency, want.Latency}, "first byte": {got.First, want.First}} {
		const digits = 1e-3
		near(t, what+" "+name+" p50", q[0].P50, q[1].P50, digits)
		near(t, what+" "+name+" p90", q[0].P90, q[1].P90, digits)
		near(t, what+" "+name+" p99", q[0].P99, q[1].P99, digits)
		near(t, what+" "+name+" p999", q[0].P999, q[1].P999, digits)
		near(t, what+" "+name+" mean", q[0].Mean, q[1].Mean, digits)
		near(t, what+" "+name+" max", q[0].Max, q[1].Max, 0)
	}
}

// near allows for a share, and for a nanosecond.
func near(t *rapid.T, what string, got, want, share float64) {
	const nanosecond = 1e-6
	if !(math.Abs(got-want) <= share*want+nanosecond) {
		t.Errorf("%s: %v, not %v", what, got, want)
	}
}

// sameSeconds adds every operation up for every second.
func sameSeconds(t *rapid.T, got Seconds, all []raw, longest raw) {
	var rates []Rate
	for at := time.Duration(0); at+time.Second <= longest.to; at += time.Second {
		if at < longest.from {
			continue
		}
		rate := Rate{At: int(at / time.Second)}
		for _, g := range all {
			for i := range g.ops {
				op := &g.ops[i]
				if op.Fault != nil {
					continue
				}
				share := part(op, at, at+time.Second)
				rate.Ops += share
				if op.Kind.Moves() {
					rate.MiB += share * float64(op.Bytes) / mib
				}
			}
		}
		rates = append(rates, rate)
	}
	if got.Count != len(rates) {
		t.Fatalf("%d seconds, not %d", got.Count, len(rates))
	}
	if len(rates) == 0 {
		return
	}
	slices.SortFunc(rates, func(a, b Rate) int { return cmp.Or(cmp.Compare(a.MiB, b.MiB), cmp.Compare(a.Ops, b.Ops)) })
	for name, pair := range map[string][2]Rate{
		"fastest": {got.Fastest, rates[len(rates)-1]}, "median": {got.Median, rates[len(rates)/2]}, "slowest": {got.Slowest, rates[0]},
	} {
		near(t, name+" second", pair[0].MiB, pair[1].MiB, 1e-6)
		if pair[0].MiB > 0 {
			near(t, name+" second", pair[0].Ops, pair[1].Ops, 1e-6)
		}
	}
}

// Whatever the run, its summary is JSON, and the same run has the same one.
func TestSummaryIsJSON(t *testing.T) {
	t.Parallel()
	for name, run := range runs(t) {
		text, err := json.MarshalIndent(Summarize(run), "", "  ")
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "mixed" || name == "nothing" || name == "failed" {
			golden(t, "summary-"+name+".json", string(text)+"\n")
		}
	}
}

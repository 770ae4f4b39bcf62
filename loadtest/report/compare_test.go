package report

import (
	"encoding/json"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/workload"
)

const pieceLength = 2500 * time.Millisecond

// piece is a window of a made-up run in which operations take about as long as slow says, with noise that lasts for the window, and noise of each operation.
func piece(r *rand.Rand, from time.Duration, slow float64) *record.Totals {
	sum := record.NewRecorder(from, nil)
	drift := slow * math.Exp(0.05*r.NormFloat64())
	for _, kind := range []workload.Kind{workload.Put, workload.Get} {
		for at := from; at < from+pieceLength; {
			took := time.Duration(float64(20*time.Millisecond) * drift * math.Exp(0.3*r.NormFloat64()))
			sum.Add(&record.Op{Kind: kind, Due: at, Took: took, Bytes: 1 << 20, Host: "h"})
			at += took
		}
	}
	sum.Stop(from+pieceLength, 0)
	totals, err := sum.Totals()
	if err != nil {
		panic(err)
	}
	return totals
}

func side(seed uint64, runs int, slow float64) Side {
	r := rand.New(rand.NewPCG(seed, 1))
	var s Side
	for range runs {
		var pieces []*record.Totals
		for i := range Windows {
			pieces = append(pieces, piece(r, time.Duration(i)*pieceLength, slow))
		}
		s = append(s, pieces)
	}
	return s
}

// verdicts are how many changes of all operations there are in each direction, and how many of any.
func verdicts(t *testing.T, a, b Side) (worse, better, anyOf int) {
	t.Helper()
	changes, err := Compare(a, b, 0.05)
	if err != nil || len(changes) < 15 { // all, put, get
		t.Fatalf("%+v, %v", changes, err)
	}
	for _, c := range changes {
		if c.Verdict != Same {
			anyOf++
		}
		if c.Operation != "all" || c.Figure != "ops_per_second" && c.Figure != "p50_ms" {
			continue
		}
		switch c.Verdict {
		case Worse:
			worse++
		case Better:
			better++
		case Same:
		}
	}
	return worse, better, anyOf
}

// Of 20 tries with the same thing at least 18 find no difference in any figure. A fifth more time is found as often between single runs, whose windows differ
// by a twentieth, and each time between five, in either direction.
func TestCompareTellsChangeFromNoise(t *testing.T) {
	t.Parallel()
	same, slow := side(1, 40, 1), side(2, 40, 1.2)
	for runs, least := range map[int]int{1: 18, 5: 20} {
		r := rand.New(rand.NewPCG(3, 4))
		alike, slower, faster := 0, 0, 0
		for range 20 {
			order := r.Perm(len(same))
			pick := func(from Side, at int) Side {
				var s Side
				for _, i := range order[at*runs : (at+1)*runs] {
					s = append(s, from[i])
				}
				return s
			}
			a, b, c := pick(same, 0), pick(same, 1), pick(slow, 2)
			if _, _, differ := verdicts(t, a, b); differ == 0 {
				alike++
			}
			if worse, _, _ := verdicts(t, a, c); worse == 2 {
				slower++
			}
			if _, better, _ := verdicts(t, c, a); better == 2 {
				faster++
			}
		}
		if alike < 18 || slower < least || faster < least {
			t.Errorf("%d runs: of 20 the same is the same in %d, a fifth slower is found in %d, a fifth faster in %d", runs, alike, slower, faster)
		}
	}
}

func TestCompareSaysByHowMuch(t *testing.T) {
	t.Parallel()
	changes, err := Compare(side(1, 5, 1), side(2, 5, 2), 0.05)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		half := c.Figure == "ops_per_second" || c.Figure == "mib_per_second"
		want := map[bool]float64{true: -50, false: 100}[half]
		if math.Abs(c.Percent-want) > 15 || c.Low > c.Percent || c.High < c.Percent || c.Verdict != Worse {
			t.Errorf("%+v", c)
		}
	}
	if _, err := json.Marshal(changes); err != nil {
		t.Error(err)
	}
}

// steady is a run of pieces, each of so many operations that all took as long.
func steady(kind workload.Kind, each []int, took time.Duration, fault *record.Fault) [][]*record.Totals {
	var pieces []*record.Totals
	for i, n := range each {
		from := time.Duration(i) * 10 * time.Second
		r := record.NewRecorder(from, nil)
		for at := range n {
			r.Add(&record.Op{Kind: kind, Due: from + time.Duration(at)*10*time.Millisecond, Took: took, Bytes: 1 << 10, Fault: fault})
		}
		r.Stop(from+10*time.Second, 0)
		totals, err := r.Totals()
		if err != nil {
			panic(err)
		}
		pieces = append(pieces, totals)
	}
	return [][]*record.Totals{pieces}
}

// Runs that are not as one would like them lead to nothing that is no number, and to no verdict without a ground.
func TestCompareOfOddRuns(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	full, few, gap := []int{200, 200, 200, 200, 200, 200}, []int{20, 20, 20, 20, 20, 20}, []int{300, 0, 300, 300, 300, 0}
	fault := &record.Fault{Class: "denied"}
	for name, row := range map[string]struct {
		before, after Side
		want          map[string]Verdict // by figure; others are left out
	}{
		"no variance, no change": {steady(workload.Put, full, ms, nil), steady(workload.Put, full, ms, nil), map[string]Verdict{
			"ops_per_second": Same, "mib_per_second": Same, "mean_ms": Same, "p50_ms": Same, "p90_ms": Same, "p99_ms": Same,
		}},
		"no variance, below the tolerance": {steady(workload.Stat, full, 100*ms, nil), steady(workload.Stat, full, 104*ms, nil), map[string]Verdict{
			"ops_per_second": Same, "mean_ms": Same, "p50_ms": Same, "p90_ms": Same, "p99_ms": Same,
		}},
		"no variance, more than runs differ by": {steady(workload.Stat, full, 100*ms, nil), steady(workload.Stat, full, 120*ms, nil), map[string]Verdict{
			"ops_per_second": Same, "mean_ms": Worse, "p50_ms": Worse, "p90_ms": Worse, "p99_ms": Same, // which differs by most
		}},
		"no variance, less than runs differ by": {steady(workload.Stat, full, 100*ms, nil), steady(workload.Stat, full, 108*ms, nil), map[string]Verdict{
			"ops_per_second": Same, "mean_ms": Same, "p50_ms": Same, "p90_ms": Same, "p99_ms": Same,
		}},
		"too few for a p99": {steady(workload.Put, few, ms, nil), steady(workload.Put, few, 2*ms, nil), map[string]Verdict{
			"ops_per_second": Same, "mib_per_second": Same, "mean_ms": Worse, "p50_ms": Worse, "p90_ms": Worse,
		}},
		"windows without operations": {steady(workload.Stat, full, ms, nil), steady(workload.Stat, gap, ms, nil), map[string]Verdict{
			"ops_per_second": Same, "mean_ms": Same, "p50_ms": Same, "p90_ms": Same, "p99_ms": Same,
		}},
		"fewer windows": {steady(workload.Stat, full[:2], ms, nil), steady(workload.Stat, full, 2*ms, nil), map[string]Verdict{
			"ops_per_second": Same, "mean_ms": Worse, "p50_ms": Worse, "p90_ms": Worse, "p99_ms": Worse,
		}},
		"a single window": {steady(workload.Stat, full[:1], ms, nil), steady(workload.Stat, full, 2*ms, nil), map[string]Verdict{}},
		"all failed": {steady(workload.Put, full, ms, nil), steady(workload.Put, full, ms, fault), map[string]Verdict{
			"ops_per_second": Worse, "mib_per_second": Worse, "error_percent": Worse,
		}},
		"all failed before": {steady(workload.Put, full, ms, fault), steady(workload.Put, full, ms, nil), map[string]Verdict{
			"ops_per_second": Better, "mib_per_second": Better, "error_percent": Better,
		}},
		"no operation in common": {steady(workload.Put, full, ms, nil), steady(workload.Get, full, ms, nil), map[string]Verdict{
			"ops_per_second": Same, "mib_per_second": Same, "mean_ms": Same, "p50_ms": Same, "p90_ms": Same, "p99_ms": Same, // of all
		}},
		"nothing": {steady(workload.Put, []int{0, 0}, ms, nil), steady(workload.Put, []int{0, 0}, ms, nil), map[string]Verdict{}},
	} {
		changes, err := Compare(row.before, row.after, 0.05)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]Verdict{}
		for _, c := range changes {
			got[c.Figure] = c.Verdict
			if !(c.Low <= c.Percent && c.Percent <= c.High) {
				t.Errorf("%s: %+v", name, c)
			}
		}
		if !maps.Equal(got, row.want) {
			t.Errorf("%s: %+v", name, changes)
		}
		if _, err := json.Marshal(changes); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := ChangesText(io.Discard, changes, Look{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Compare(nil, side(1, 1, 1), 0.05); err == nil {
		t.Error("nothing is compared")
	}
	if _, err := Compare(side(1, 1, 1), Side{}, 0.05); err == nil {
		t.Error("something is compared with nothing")
	}
}

// A change is not certain while the runs of one side differ by as much: of two runs a side, the pieces of each are alike, and that says nothing of the next run.
func TestCompareKnowsThatRunsDiffer(t *testing.T) {
	t.Parallel()
	full := []int{200, 200, 200, 200, 200, 200}
	run := func(took ...int) (s Side) {
		for _, ms := range took {
			s = append(s, steady(workload.Stat, full, time.Duration(ms)*time.Millisecond, nil)...)
		}
		return s
	}
	for _, row := range []struct {
		before, after Side
		want          Verdict
	}{
		{run(100, 140), run(130, 170), Same},                // they overlap
		{run(100, 110), run(130, 140), Worse},               // they do not
		{run(130), run(100, 110, 90), Better},               // other numbers of runs
		{run(105), run(100, 110, 130), Same},                // it is one of them
		{run(100, 100, 100, 100, 101, 130), run(130), Same}, // many on one side only
	} {
		changes, err := Compare(row.before, row.after, 0.05)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			if c.Figure == "p50_ms" && c.Verdict != row.want {
				t.Errorf("%+v", c)
			}
		}
	}
}

// Which side is the first one decides only what is called better.
func TestCompareIsTheSameBothWaysRound(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		a, b := side(10+seed, 2, 1), side(20+seed, 1, 1.15)
		there, err := Compare(a, b, 0)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Compare(b, a, 0)
		if err != nil || len(back) != len(there) {
			t.Fatal(err)
		}
		opposite := map[Verdict]Verdict{Same: Same, Better: Worse, Worse: Better}
		for i := range there {
			x, y := there[i], back[i]
			if x.Verdict != opposite[y.Verdict] || math.Abs((1+x.Low/100)*(1+y.High/100)-1) > 1e-9 {
				t.Errorf("%+v and back %+v", x, y)
			}
		}
	}
}

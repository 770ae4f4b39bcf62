package aggregator

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/copyfleet/copyfleet/protocol"
)

// failing makes receipts of which many failed, in few or many ways.
func failing(ways int) *rapid.Generator[protocol.Receipt] {
	return rapid.Custom(func(t *rapid.T) protocol.Receipt {
		r := protocol.Receipt{Index: rapid.IntRange(0, 599).Draw(t, "index"), State: protocol.ItemSucceeded, Attempts: make([]protocol.Attempt, 1)}
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
		case 1:
			r.State = protocol.ItemRetrying
			r.Failure = &protocol.Failure{Class: protocol.Timeout, Code: "retried"}
		default:
			r.State = protocol.ItemFailed
			r.Failure = &protocol.Failure{Class: protocol.NotFound, Code: "x", Host: fmt.Sprintf("h%d", rapid.IntRange(0, ways).Draw(t, "host")), Message: "m"}
		}
		return r
	})
}

// TestGroupsAgreeWithTheDumbOnes folds reports page-wise, forgets pages now and then as the ledger does, and compares with a
// count of all receipts.
func TestGroupsAgreeWithTheDumbOnes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ways := rapid.SampledFrom([]int{0, 3, 200}).Draw(t, "ways")
		pages := map[int][]protocol.Receipt{}
		summary := protocol.Summary{Total: 600}
		for _, r := range rapid.SliceOfN(failing(ways), 0, 300).Draw(t, "news") {
			n := protocol.PageOf(r.Index)
			before := slices.Clone(pages[n])
			pages[n], _ = fold(pages[n], r)
			summary.Tally.Replace(tally(before), tally(pages[n]))
			summary.Groups = regroup(summary.Groups, group(before), group(pages[n]))
		}
		summary.GroupsLeft = ungrouped(&summary)
		count := map[cause]int{}
		failed := 0
		for _, page := range pages {
			for _, r := range page {
				if r.State == protocol.ItemFailed {
					count[cause{r.Failure.Class, r.Failure.Code, r.Failure.Host}]++
					failed++
				}
			}
		}
		if want := min(len(count), protocol.MaxGroups); len(summary.Groups) != want {
			t.Fatalf("%d groups, want %d", len(summary.Groups), want)
		}
		for i, g := range summary.Groups {
			if g.Count != count[causeOf(&g)] {
				t.Errorf("group %v counts %d, want %d", causeOf(&g), g.Count, count[causeOf(&g)])
			}
			at, found := slices.BinarySearchFunc(pages[protocol.PageOf(g.Example)], g.Example, func(r protocol.Receipt, i int) int { return r.Index - i })
			if !found {
				t.Fatalf("the example of %v is no item", causeOf(&g))
			}
			if example := pages[protocol.PageOf(g.Example)][at]; example.State != protocol.ItemFailed || example.Failure.Host != g.Host {
				t.Errorf("the example of %v is %+v", causeOf(&g), example)
			}
			if i > 0 && summary.Groups[i-1].Count < g.Count {
				t.Error("the largest group does not stand first")
			}
			failed -= g.Count
		}
		if failed != summary.GroupsLeft {
			t.Errorf("%d are left, want %d", summary.GroupsLeft, failed)
		}
	})
}

func TestPaceFollowsWhatHappens(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_000_000, 0)
	p := pace(protocol.Pace{}, start, start.Add(100*time.Millisecond), 100, 1000)
	if math.Abs(p.Items-1000) > 1 {
		t.Errorf("the first 100 items within 100 ms make %v a second", p.Items)
	}
	now := start.Add(100 * time.Millisecond)
	for range 20 { // the first two seconds after it, at 2,000 a second
		now = now.Add(100 * time.Millisecond)
		p = pace(p, start, now, 200, 20_000)
	}
	if p.Items < 1900 || p.Items > 2000 {
		t.Errorf("2,000 a second are told as %v", p.Items)
	}
	for range 300 { // half a minute of 1,000 a second, told ten times a second
		now = now.Add(100 * time.Millisecond)
		p = pace(p, start, now, 100, 10_000)
	}
	if math.Abs(p.Items-1000) > 10 || math.Abs(p.Bytes-100_000) > 1000 {
		t.Errorf("1,000 a second are told as %+v", p)
	}
	for range 10 { // the same, told by two clocks that differ
		p = pace(p, start, now.Add(-time.Second), 50, 5000)
		now = now.Add(100 * time.Millisecond)
		p = pace(p, start, now, 50, 5000)
	}
	if math.Abs(p.Items-1000) > 50 {
		t.Errorf("1,000 a second are told as %+v", p)
	}
	if p = pace(p, start, now.Add(20*time.Second), 0, 0); p.Items > 20 {
		t.Errorf("20 s of nothing leave %v a second", p.Items)
	}
}

func TestRestIsCanceled(t *testing.T) {
	t.Parallel()
	before := protocol.Summary{Total: 1000, Tally: protocol.Tally{Succeeded: 10, Failed: 5, Canceled: 1, Retrying: 3, Bytes: 7}, State: protocol.BatchRunning}
	now := time.Unix(1, 0)
	after := rest(before, protocol.ReasonCaller, []int{1}, now)
	want := protocol.Summary{
		Version: protocol.SummaryVersion, Total: 1000, Tally: protocol.Tally{Succeeded: 10, Failed: 5, Canceled: 985, Bytes: 7},
		State: protocol.BatchCanceled, Rest: protocol.ItemCanceled, Reason: protocol.ReasonCaller, Unsure: []int{1}, Ended: now,
	}
	if diff := cmp.Diff(want, after); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

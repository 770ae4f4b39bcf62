package aggregator

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/copyfleet/copyfleet/protocol"
)

// dumb keeps for each item the first final receipt, else the one with the most attempts. It looks at all news at once.
func dumb(news []protocol.Receipt) []protocol.Receipt {
	best := map[int]protocol.Receipt{}
	for _, r := range news {
		old, seen := best[r.Index]
		switch {
		case !seen:
			best[r.Index] = r
		case old.State.Final():
		case r.State.Final() || len(r.Attempts) > len(old.Attempts):
			best[r.Index] = r
		}
	}
	var page []protocol.Receipt
	for _, r := range best {
		page = append(page, r)
	}
	slices.SortFunc(page, func(a, b protocol.Receipt) int { return a.Index - b.Index })
	return page
}

func receipts() *rapid.Generator[protocol.Receipt] {
	return rapid.Custom(func(t *rapid.T) protocol.Receipt {
		r := protocol.Receipt{Index: rapid.IntRange(0, 12).Draw(t, "index")}
		r.Attempts = make([]protocol.Attempt, rapid.IntRange(1, 4).Draw(t, "attempts"))
		r.State = rapid.SampledFrom([]protocol.ItemState{protocol.ItemRetrying, protocol.ItemSucceeded, protocol.ItemFailed, protocol.ItemSkipped, protocol.ItemCanceled}).Draw(t, "state")
		if r.State == protocol.ItemSucceeded {
			r.Bytes = rapid.Int64Range(0, 1<<40).Draw(t, "bytes")
		}
		return r
	})
}

func TestFoldAgreesWithTheDumbOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		news := rapid.SliceOfN(receipts(), 0, 60).Draw(t, "news")
		var page []protocol.Receipt
		var counted protocol.Tally
		for _, r := range news {
			before := tally(page)
			next, changed := fold(slices.Clone(page), r)
			if changed == cmp.Equal(page, next) {
				t.Fatalf("changed is %v, but the page is %v and was %v", changed, next, page)
			}
			page = next
			counted.Replace(before, tally(page))
		}
		if diff := cmp.Diff(dumb(news), page); diff != "" {
			t.Fatalf("fold differs from the dumb one (-dumb +fold):\n%s", diff)
		}
		if diff := cmp.Diff(tally(page), counted); diff != "" {
			t.Fatalf("replaced tallies drift from a fresh count:\n%s", diff)
		}
	})
}

func TestFoldAnyOrderOfOneItemEndsWithOneOutcome(t *testing.T) {
	t.Parallel()
	// Attempts of one item differ, its final receipt is one: then no order and no repetition matters.
	rapid.Check(t, func(t *rapid.T) {
		final := protocol.Receipt{Index: 1, State: protocol.ItemFailed, Attempts: make([]protocol.Attempt, 3)}
		news := []protocol.Receipt{
			{Index: 1, State: protocol.ItemRetrying, Attempts: make([]protocol.Attempt, 1)},
			{Index: 1, State: protocol.ItemRetrying, Attempts: make([]protocol.Attempt, 2)}, final,
		}
		var page []protocol.Receipt
		for _, r := range append(rapid.Permutation(news).Draw(t, "order"), rapid.SliceOf(rapid.SampledFrom(news)).Draw(t, "repeated")...) {
			page, _ = fold(page, r)
		}
		if diff := cmp.Diff([]protocol.Receipt{final}, page); diff != "" {
			t.Fatalf("want the final receipt only (-want +got):\n%s", diff)
		}
	})
}

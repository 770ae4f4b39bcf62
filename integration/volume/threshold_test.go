package volume

import (
	"strconv"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// TestCanary runs the first items of a large batch and then no more until the resume.
func TestCanary(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *mixtest.Fleet) {
		const n, first = 1200, 300
		batch := f.Small("canary", n)
		id := f.Submit(t, batch, "canary=300")
		f.API.WaitState(t, id, protocol.BatchPaused, limit)
		other := f.Small("other", 300)
		f.Check(t, f.Submit(t, other, ""), other, limit)
		view, err := f.API.Batch(t.Context(), id)
		if err != nil || view.State != protocol.BatchPaused || view.Reason != protocol.ReasonCanary || view.Counts["succeeded"] != first || view.Counts["queued"] != n-first {
			t.Errorf("%+v %v", view, err)
		}
		for i := range batch {
			if asked := f.Asked("/get/canary/" + strconv.Itoa(i) + ".txt"); (asked > 0) != (i < first) {
				t.Errorf("the source of item %d was asked %d times", i, asked)
			}
		}
		f.API.Act(t, id, "resume")
		f.Check(t, id, batch, limit)
	})
}

// TestMaxFailed submits batches whose items fail, and has them stopped soon after as many have failed as may.
func TestMaxFailed(t *testing.T) {
	t.Parallel()
	f, _ := up(t, "SLOTS=8")
	const n = 5000
	for _, c := range []struct {
		name string
		max  any
		most int
	}{{"count", 20, 20}, {"percent", "2%", 100}, {"share", 0.01, 50}} {
		batch := failing(f, c.name, n)
		id := f.SubmitJSON(t, batch, map[string]any{"max_failed": c.max})
		view := f.API.WaitFinal(t, id, limit)
		if view.State != protocol.BatchCanceled || view.Reason != protocol.ReasonMaxFailed || view.Ended() != n {
			t.Errorf("%s: %+v", c.name, view)
		}
		// What was in the queue already may have run: at most two chunks of it.
		if failed := view.Counts["failed"]; failed <= c.most || failed > c.most+2000 {
			t.Errorf("%s: %d have failed", c.name, failed)
		}
		receipts, err := f.API.Receipts(t.Context(), id)
		if err != nil || len(receipts) != n {
			t.Fatalf("%s: %d receipts, %v", c.name, len(receipts), err)
		}
		counted := map[string]int{}
		for i := range receipts {
			counted[string(receipts[i].State)]++
		}
		for state, count := range view.Counts {
			if counted[state] != count {
				t.Errorf("%s: counts %d %s, of the receipts %d are", c.name, count, state, counted[state])
			}
		}
		t.Logf("%s: %d of %d ran, %d were allowed to fail", c.name, view.Counts["failed"], n, c.most)
	}
	// One that stays within the threshold is not stopped.
	batch := append(failing(f, "few", 20), f.Small("many", 980)...)
	f.Check(t, f.Submit(t, batch, "max_failed=20"), batch, limit)
}

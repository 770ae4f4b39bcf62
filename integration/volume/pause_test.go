package volume

import (
	"fmt"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// slowly makes a batch of n items whose sources answer so much later each.
func slowly(f *mixtest.Fleet, name string, n int, delay time.Duration) mixtest.Batch {
	batch := make(mixtest.Batch, n)
	for i := range batch {
		path := fmt.Sprintf("/%s/%d.txt", name, i)
		c := mixtest.Copy{ID: fmt.Sprintf("%s-%d", name, i), Content: fmt.Appendf(nil, "slow %d of %s", i, name), Dest: mixtest.ToSandbox("/out" + path)}
		c.Src = mixtest.FromURL(f.GiveSlowly("/get"+path, c.Content, delay))
		batch[i] = c
	}
	return batch
}

// asked waits until the sources of a batch had some requests.
func asked(t *testing.T, f interface{ AskedBelow(string) int }, name string, n int) {
	t.Helper()
	if !mixtest.Until(limit, func() bool { return f.AskedBelow("/get/"+name+"/") >= n }) {
		t.Fatalf("%d requests for %s, must come to %d", f.AskedBelow("/get/"+name+"/"), name, n)
	}
}

// still waits until nothing of a paused batch is with a worker any more.
func still(t *testing.T, f *mixtest.Fleet, id string) mixtest.BatchView {
	t.Helper()
	var view mixtest.BatchView
	if !mixtest.Until(limit, func() bool {
		var err error
		view, err = f.API.Batch(t.Context(), id)
		return err == nil && view.State == protocol.BatchPaused && view.Counts["running"] == 0
	}) {
		t.Fatalf("the batch does not stand still: %+v", view)
	}
	return view
}

// TestPausedBatchHoldsNoSlot pauses a batch one of whose items has every slot but one for as long as it likes. Others have the slots then,
// nothing of it runs, and after the resume all of it does.
func TestPausedBatchHoldsNoSlot(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *mixtest.Fleet) {
		const n, stuck = 600, 12
		gate := make(chan struct{})
		batch := slowly(f, "paused", n, 10*time.Millisecond)
		for i := range stuck { // as many as the bulk lane has slots
			c := &batch[i*7]
			c.Src = mixtest.FromURL(f.GiveHalf(fmt.Sprint("/get/stuck/", i), c.Content, gate))
		}
		id := f.Submit(t, batch, "")
		asked(t, f, "stuck", stuck)
		f.API.Act(t, id, "pause")
		other := f.Small("other", 300)
		f.Check(t, f.Submit(t, other, ""), other, limit) // while items of the paused one would have every slot
		view := still(t, f, id)
		before := f.AskedBelow("/get/paused/")
		third := f.Small("third", 300) // their turn would have been the paused one's, too
		f.Check(t, f.Submit(t, third, ""), third, limit)
		if after := f.AskedBelow("/get/paused/"); after != before {
			t.Errorf("%d requests came of a paused batch", after-before)
		}
		if view.Reason != string(protocol.ReasonCaller) || view.Ended() >= n {
			t.Errorf("paused: %+v", view)
		}
		close(gate)
		acted := f.API.Act(t, id, "resume")
		if acted.NotStarted+acted.Midway+acted.Ended != n {
			t.Errorf("the numbers do not add up: %+v", acted)
		}
		f.Check(t, id, batch, limit)
	}, "SLOTS=16")
}

func TestPausedAndResumedTenTimes(t *testing.T) {
	t.Parallel()
	f, _ := roles(t)
	batch := slowly(f, "often", 1500, 5*time.Millisecond)
	id := f.Submit(t, batch, "")
	for i := range 10 {
		asked(t, f, "often", i*20)
		f.API.Act(t, id, "pause")
		f.API.Act(t, id, "resume")
	}
	receipts := f.Check(t, id, batch, limit)
	for i := range receipts {
		if n := len(receipts[i].Attempts); n != 1 {
			t.Errorf("item %d was charged %d attempts", i, n)
		}
	}
}

// TestPausedKilledResumed kills everything while a batch is paused and resumes it afterwards.
func TestPausedKilledResumed(t *testing.T) {
	t.Parallel()
	f, running := roles(t)
	batch := slowly(f, "killed", 1500, 5*time.Millisecond)
	id := f.Submit(t, batch, "")
	asked(t, f, "killed", 200)
	f.API.Act(t, id, "pause")
	kill(t, running, "api", "aggregator", "worker", "nats")
	start(t, f, running, "nats", "aggregator", "worker", "api")
	view := still(t, f, id)
	before := f.AskedBelow("/get/killed/")
	f.API.WaitFinal(t, f.Submit(t, f.Small("other", 300), ""), limit) // hidden files of the paused one wait for the resume
	if after := f.AskedBelow("/get/killed/"); after != before || view.Ended() >= len(batch) {
		t.Errorf("%d requests came of a paused batch: %+v", after-before, view)
	}
	f.API.Act(t, id, "resume")
	f.Check(t, id, batch, limit)
	t.Logf("%d items, 1 fault (all killed while paused), 0 lost", len(batch))
}

// kill kills processes with SIGKILL.
func kill(t *testing.T, running map[string]*mixtest.Process, roles ...string) {
	t.Helper()
	for _, role := range roles {
		running[role].Kill9(t)
	}
}

// start starts them again.
func start(t *testing.T, f *mixtest.Fleet, running map[string]*mixtest.Process, roles ...string) {
	t.Helper()
	for _, role := range roles {
		if role == "nats" {
			running[role] = f.StartNATS(t)
			continue
		}
		running[role] = f.Start(t, role)
	}
}

package volume

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// stuck is how many items of [busy] are. A host gets no more than that at once before it has shown what it can do.
const stuck = 4

// busy makes a batch of n items: the first are large ones whose sources stop in the middle until gate is closed, some are refused with 503
// at first, the others are slow. Those that are stuck have a host of their own: at one that refuses, they would take all the places that it has left.
func busy(t *testing.T, f *mixtest.Fleet, name string, n int, gate <-chan struct{}) (mixtest.Batch, *mixtest.Peer) {
	t.Helper()
	batch, peer := slowly(f, name, n, 20*time.Millisecond), mixtest.NewPeer(t)
	for i := range batch {
		c := &batch[i]
		switch {
		case i < stuck:
			c.Content = make([]byte, 1<<20)
			c.Src = mixtest.FromURL(peer.GiveHalf(fmt.Sprintf("/get/%s/stuck/%d", name, i), c.Content, gate))
		case i < 2*stuck:
			c.Src = mixtest.FromURL(f.GiveAfter(fmt.Sprintf("/get/%s/busy/%d", name, i), c.Content, 1000))
		}
	}
	return batch, peer
}

// checkCanceled holds a canceled batch to the invariant, and its numbers to what the cancel has told.
func checkCanceled(t *testing.T, f *mixtest.Fleet, id string, batch mixtest.Batch, told mixtest.Acted) {
	t.Helper()
	view := f.API.WaitFinal(t, id, limit)
	receipts, err := f.API.Receipts(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]int{}
	midway, bytes := 0, int64(0)
	for i := range receipts {
		r := &receipts[i]
		counted[string(r.State)]++
		bytes += r.Bytes
		if r.State == protocol.ItemCanceled && len(r.Attempts) > 0 {
			midway++
		}
		if !r.State.Final() || r.ID != batch[i].ID {
			t.Errorf("item %d: %+v", i, r)
		}
		arrived, err := f.Arrived(t.Context(), &batch[i])
		switch there := err == nil; {
		case there && r.State == protocol.ItemCanceled && r.Failure != nil && r.Failure.Code == "outcome_unknown": // its worker was killed right then
			if mixtest.SHA256(arrived) != mixtest.SHA256(batch[i].Content) {
				t.Errorf("item %d became visible, but not whole", i)
			}
		case there != (r.State == protocol.ItemSucceeded):
			t.Errorf("item %d is %s; at its destination: %v", i, r.State, there)
		case there && (mixtest.SHA256(arrived) != r.SHA256 || mixtest.SHA256(batch[i].Content) != r.SHA256):
			t.Errorf("item %d has other bytes than its receipt", i)
		}
	}
	if view.State != protocol.BatchCanceled || len(receipts) != len(batch) || view.Total != len(batch) || view.Ended() != len(batch) || view.Bytes != bytes {
		t.Errorf("%d receipts of %d items: %+v", len(receipts), len(batch), view)
	}
	for state, n := range view.Counts {
		if n != counted[state] {
			t.Errorf("counts %d %s, of the receipts %d are", n, state, counted[state])
		}
	}
	if told.Batch.State == protocol.BatchCanceled {
		if told.Midway != midway || told.Ended != len(batch)-counted["canceled"] || told.NotStarted != counted["canceled"]-midway {
			t.Errorf("told %+v, but %d were stopped midway, and counted are %v", told, midway, counted)
		}
	}
	f.CheckNothingHidden(t)
}

// TestCancel cancels a batch of which items run, are tried again and wait. Once the answer is there nothing of it runs or will.
func TestCancel(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *mixtest.Fleet) {
		const n = 1500
		gate := make(chan struct{})
		batch, holding := busy(t, f, "stop", n, gate)
		id := f.Submit(t, batch, "")
		asked(t, holding, "stop/stuck", stuck)
		asked(t, f, "stop/busy", stuck+1) // one was tried again
		asked(t, f, "stop", 100)
		var told mixtest.Acted // an answer waits 10 s for the end, and says then that it has not come yet
		if !mixtest.Until(limit, func() bool { told = f.API.Act(t, id, "cancel"); return told.Batch.State == protocol.BatchCanceled }) || told.NotStarted == 0 || told.Midway < stuck {
			t.Errorf("told %+v", told)
		}
		requests := func() int { return f.AskedBelow("/get/stop/") + holding.AskedBelow("/get/stop/") }
		before := requests()
		close(gate)
		checkCanceled(t, f, id, batch, told)
		other := f.Small("other", 300) // whatever was still on its way would have come before it
		f.Check(t, f.Submit(t, other, ""), other, limit)
		if after := requests(); after != before {
			t.Errorf("%d requests came after the answer", after-before)
		}
		again := f.API.Act(t, id, "cancel")
		if again.Batch.State != protocol.BatchCanceled || again.Ended+again.Midway+again.NotStarted != n {
			t.Errorf("told again: %+v", again)
		}
		for _, verb := range []string{"pause", "resume"} {
			if answer, err := f.API.Call(t.Context(), http.MethodPost, "/v1/batches/"+id+"/"+verb, nil, nil); err != nil || answer.Status != http.StatusConflict {
				t.Errorf("%s of a canceled batch: %d %v", verb, answer.Status, err)
			}
		}
		checkCanceled(t, f, id, batch, told)
	}, "SLOTS=16", "IDLE_TIMEOUT=10m") // what is stuck is to stay so
}

// TestCanceledWhileAWorkerSleeps stops a worker in its tracks, cancels the batch, and lets it go on when the batch is over: what it held
// must not become visible any more.
func TestCanceledWhileAWorkerSleeps(t *testing.T) {
	t.Parallel()
	f, running := roles(t, "SLOTS=16")
	const n = 600
	gate := make(chan struct{})
	batch, holding := busy(t, f, "asleep", n, gate)
	id := f.Submit(t, batch, "")
	asked(t, holding, "asleep/stuck", stuck)
	running["worker"].Signal(t, syscall.SIGSTOP)
	f.API.Act(t, id, "cancel") // its answer may come before the end: the lease of the sleeper is waited for
	f.API.WaitState(t, id, protocol.BatchCanceled, limit)
	close(gate) // it finds all of the bytes when it wakes up
	running["worker"].Signal(t, syscall.SIGCONT)
	other := f.Small("other", 300)
	f.API.WaitFinal(t, f.Submit(t, other, ""), limit) // the sleeper is awake
	if !mixtest.Until(limit, func() bool { return f.Hidden() == 0 }) {
		t.Error("what the sleeper was at was not removed")
	}
	checkCanceled(t, f, id, batch, mixtest.Acted{})
}

// TestCanceledWhileDead cancels a batch by a front, kills that front, and every worker before, and has the end nevertheless.
func TestCanceledWhileDead(t *testing.T) {
	t.Parallel()
	f, running := roles(t, "SLOTS=16")
	const n = 600
	batch, holding := busy(t, f, "dead", n, make(chan struct{}))
	id := f.Submit(t, batch, "")
	asked(t, holding, "dead/stuck", stuck)
	asked(t, f, "dead", 100) // so that the death comes between the visible bytes of one or the other and its outcome
	kill(t, running, "worker")
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		_, _ = f.API.Call(t.Context(), http.MethodPost, "/v1/batches/"+id+"/cancel", nil, nil) // its front dies
	}()
	f.API.WaitState(t, id, protocol.BatchCanceling, limit)
	kill(t, running, "api")
	<-answered
	start(t, f, running, "api")
	f.API.WaitState(t, id, protocol.BatchCanceled, limit)
	start(t, f, running, "worker")
	other := f.Small("other", 300)
	f.API.WaitFinal(t, f.Submit(t, other, ""), limit)
	if !mixtest.Until(limit, func() bool { return f.Hidden() == 0 }) {
		t.Error("what the dead worker was at was not removed")
	}
	checkCanceled(t, f, id, batch, mixtest.Acted{})
}

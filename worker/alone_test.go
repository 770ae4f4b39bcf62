package worker

import (
	"context"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/hosts"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
)

// missing is a source that is not there.
type missing struct{}

func (missing) Open(context.Context) (*storage.Object, error) {
	return nil, storage.Errorf(storage.NotFound, "sandbox_file_not_found", "read", "/in", "it is not there")
}

// TestWhoRanAloneIsAloneUntilThatIsStored runs an item that two workers died of to its end: the next one of its kind might kill the worker before the
// end of this one is known, which would then be charged with a third death.
func TestWhoRanAloneIsAloneUntilThatIsStored(t *testing.T) {
	t.Parallel()
	k := newPartsKitOn(t, brokerWaiting(t, 2*time.Minute), missing{}, &memory.Destination{}) // nobody extends the claim
	k.died(t, 0, soloCrashes-1)
	w, err := New(t.Context(), k.config("w1"), k.conn, Drivers{Sandboxes: k}, k.sealer)
	if err != nil {
		t.Fatal(err)
	}
	if w.intake, err = k.conn.Intake(t.Context(), protocol.DefaultPool); err != nil {
		t.Fatal(err)
	}
	defer w.intake.Close()
	k.publish(t, func(_ *protocol.ManifestItem, work *protocol.Work) { work.Recheck = true })
	var fetched []*broker.Delivery
	until(t, "the item is fetched", func() bool {
		fetched, err = w.intake.Fetch(t.Context(), 1, 1)
		return err == nil && len(fetched) == 1
	})
	j := &job{delivery: fetched[0]}
	if !w.admit(t.Context(), j, map[batchName]bool{}) {
		t.Fatal("the item is not to be run")
	}
	w.slots.take(j.bulk())
	j.begin(t.Context(), newClearance())
	if err := w.claims.add(t.Context(), []*job{j}, func() {}); err != nil {
		t.Fatal(err)
	}
	j.clearance.stored(nil)
	res, told := w.inSlot(t.Context(), j)
	if !told || res.failure == nil || j.held.Crashes != soloCrashes || j.held.Waiting {
		t.Fatalf("the attempt came to %+v under the claim %+v", res, j.held.HeldClaim)
	}
	if len(w.alone) != 1 {
		t.Error("another item may run alone, though nobody knows the end of this one")
	}
	w.finish(t.Context(), j, res)
	w.retrying.Wait()
	w.reportBundle(t.Context(), w.reporter.take())
	if r := k.final(t); r.State != protocol.ItemFailed || r.Failure.Class != protocol.NotFound {
		t.Errorf("the receipt says %s, %+v", r.State, r.Failure)
	}
	if len(w.alone) != 0 || len(w.reporter.room) != 0 {
		t.Error("no other item may run alone, though the end of this one is stored")
	}
}

// TestWhoRanAloneAndIsPutAwayIsAloneNoMore has an item that two workers died of find its host resting: it is told that it waits, and so is the next
// one.
func TestWhoRanAloneAndIsPutAwayIsAloneNoMore(t *testing.T) {
	t.Parallel()
	k := newPartsKitOn(t, brokerWaiting(t, time.Hour), missing{}, &memory.Destination{})
	w, err := New(t.Context(), k.config("w1"), k.conn, Drivers{Sandboxes: inStore{k}}, k.sealer)
	if err != nil {
		t.Fatal(err)
	}
	k.rests(t, w)
	k.start(t, w)
	for index := range 3 {
		k.ref.Index = index
		if index < 2 {
			k.died(t, 0, soloCrashes-1)
		}
		k.publish(t, func(_ *protocol.ManifestItem, work *protocol.Work) {
			work.Index, work.Total, work.Recheck = index, 3, index < 2
		})
		if r := k.next(t); r.State != protocol.ItemRetrying || r.Index != index || len(r.Attempts) != 0 {
			t.Errorf("the receipt of item %d says %+v", index, r)
		}
	}
	until(t, "another item may run alone", func() bool { return len(w.alone) == 0 })
}

// rests has a worker know that the store is to be left alone.
func (k *partsKit) rests(t *testing.T, w *Worker) {
	t.Helper()
	there, err := w.hosts.Enter(t.Context(), hosts.Ask{Keys: []hosts.Key{{Side: hosts.Source, Host: objectHost}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	there.Leave(hosts.Result{Kind: hosts.Refused, RetryAfter: time.Hour, Cause: "it wants a pause", Class: string(protocol.Throttled)})
}

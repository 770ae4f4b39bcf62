package worker

import (
	"testing"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage/memory"
)

// inStore is a kit whose sandboxes are at a host.
type inStore struct{ *partsKit }

func (inStore) InStore() {}

// TestItemWhoseHostRestsIsNotCharged has a worker find that the host of a part rests, while its item is spread.
func TestItemWhoseHostRestsIsNotCharged(t *testing.T) {
	t.Parallel()
	data, dest := bytesOf(manyParts, 3), &memory.Destination{}
	gate := make(chan struct{})
	k := newPartsKit(t, sourceOf(data), gated{dest, func(number int) error {
		if number > 1 {
			<-gate
		}
		return nil
	}})
	w, err := New(t.Context(), k.spreading("w1"), k.conn, Drivers{Sandboxes: inStore{k}}, k.sealer)
	if err != nil {
		t.Fatal(err)
	}
	k.start(t, w)
	k.publish(t, nil)
	until(t, "the item is spread", func() bool {
		plan, _, err := k.records.plan(t.Context(), k.ref)
		return err == nil && plan.Spread && len(k.reported()) == 1
	})
	plan, _, err := k.records.plan(t.Context(), k.ref)
	if err != nil {
		t.Fatal(err)
	}
	ref := k.ref
	ref.Part = 4
	failure := protocol.Failure{Class: protocol.Unavailable, Code: codeHostRest, Host: "endpoint", Message: "it rests"}
	state := protocol.PartState{Number: 4, Upload: plan.Upload, Worker: "w9", Failure: &failure}
	if err := k.keep(t.Context(), &protocol.PartReport{Ref: ref, Epoch: plan.Epoch, State: state}); err != nil {
		t.Fatal(err)
	}
	r := k.next(t)
	if r.State != protocol.ItemRetrying || r.Failure.Code != codeHostRest || len(r.Attempts) != 0 || r.RetryAt.IsZero() {
		t.Errorf("the receipt says %+v", r)
	}
	close(gate)
	r = k.final(t)
	k.arrived(t, dest, &r, data)
	if len(r.Attempts) != 1 || r.ResumedFrom < testPart {
		t.Errorf("the receipt says %+v", r)
	}
}

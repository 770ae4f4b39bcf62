package producer

import (
	"fmt"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// TestProgressOfRunningItems: of those in parts what is stored and moves, and of all others what is heard. It does not go back where another worker
// goes on with a copy.
func TestProgressOfRunningItems(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	d := newDescription(t, apiDescription)
	a := s.accept(3)
	parts, err := s.conn.Bucket(t.Context(), broker.PartBucket)
	if err != nil {
		t.Fatal(err)
	}
	begun, size := time.Now().UTC(), int64(1000)
	plan := protocol.PartPlan{Version: protocol.PartVersion, Epoch: 1, Size: size, PartSize: 100, Count: 300, Upload: "u", Created: begun}
	s.put(parts, protocol.PartPlanKey(a.Org, a.Batch, 0), plan)
	state := func(number int, bytes int64) protocol.PartState {
		return protocol.PartState{Number: number, Size: bytes, Upload: "u"}
	}
	lost := state(3, 100)
	lost.Failure = &protocol.Failure{Class: protocol.Unavailable, Code: "x", Message: "m"}
	s.put(parts, protocol.PartPageKey(a.Org, a.Batch, 0, 0), protocol.PartPage{Version: protocol.PartVersion, Upload: "u", Parts: []protocol.PartState{state(1, 100), state(2, 100), lost}})
	s.put(parts, protocol.PartPageKey(a.Org, a.Batch, 0, 1), protocol.PartPage{Version: protocol.PartVersion, Upload: "u", Parts: []protocol.PartState{state(300, 50)}})
	item := func(index int) itemView {
		t.Helper()
		got := s.call("one/read", "GET", fmt.Sprintf("/v1/batches/%s/items/%d", a.Batch, index), "").want(200, "")
		d.check(t, "GET", "/v1/batches/{id}/items/{index}", got)
		return decode[itemView](got)
	}
	batch := func() batchView {
		t.Helper()
		got := s.call("one/read", "GET", "/v1/batches/"+string(a.Batch), "").want(200, "")
		d.check(t, "GET", "/v1/batches/{id}", got)
		return decode[batchView](got)
	}
	shown := func(index int) int64 {
		t.Helper()
		if v := item(index); v.Progress != nil {
			return v.Progress.Bytes
		}
		return -1
	}
	tell := func(index int, begun time.Time, bytes int64, size *int64) {
		t.Helper()
		news, err := protocol.Encode(protocol.Progress{Index: index, Worker: "w", Bytes: bytes, Size: size, Start: begun, Begun: begun})
		if err == nil {
			err = s.conn.TellProgress(a.Org, a.Batch, news)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	becomes := func(index int, want int64) {
		t.Helper()
		eventually(t, fmt.Sprintf("item %d is shown with %d bytes", index, want), func() bool { return shown(index) == want })
	}

	if got := shown(0); got != -1 {
		t.Errorf("%d bytes are shown of an item that does not run", got)
	}
	s.holds("w", "", ref(&a, 0), ref(&a, 1))
	if v := item(0); v.State != protocol.ItemRunning || v.Progress == nil || v.Progress.Bytes != 250 || v.Progress.Size == nil || *v.Progress.Size != size {
		t.Errorf("what is stored: %+v", v.Progress)
	}
	if got := shown(1); got != -1 {
		t.Errorf("%d bytes are shown of an item of which nothing is known", got)
	}
	eventually(t, "what moves counts", func() bool { tell(0, begun, 420, &size); return shown(0) == 420 })
	tell(0, begun, 250, &size) // the next owner does not know what moved
	tell(1, begun, 7, nil)     // comes behind it
	becomes(1, 7)
	if got := shown(0); got != 420 {
		t.Errorf("it went back to %d", got)
	}
	if v := batch(); v.Moving != 427 || v.Bytes != 0 || v.StartedAt == nil || !v.StartedAt.Equal(begun) {
		t.Errorf("the batch: %d bytes, %d moving, started at %v, want 0, 427, %s", v.Bytes, v.Moving, v.StartedAt, begun)
	}
	tell(0, begun, 5000, &size)
	becomes(0, size) // no more than there is

	plan.Upload, plan.Created = "v", begun.Add(time.Second) // all begins anew
	s.put(parts, protocol.PartPlanKey(a.Org, a.Batch, 0), plan)
	tell(0, plan.Created, 30, &size)
	becomes(0, 30)
	tell(1, begun.Add(time.Second), 3, nil) // another attempt
	becomes(1, 3)
	s.holds("w", "")
	if got := shown(0); got != -1 {
		t.Errorf("%d bytes are shown of an item that does not run any more", got)
	}
	if v := batch(); v.Moving != 0 || v.StartedAt != nil {
		t.Errorf("the batch: %d bytes moving, started at %v", v.Moving, v.StartedAt)
	}
}

package worker

import (
	"testing"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// TestOutcomeIsFoundByTheNextDelivery has an item looked up before it has its outcome, and again when it comes once more: its acknowledgement was
// lost right after. What was read for the first delivery must not decide about the second.
func TestOutcomeIsFoundByTheNextDelivery(t *testing.T) {
	t.Parallel()
	k := newEarlyKit(t)
	bucket := bucketFor(t, k.conn, broker.BatchBucket)
	s := newSettled(bucket)
	work := protocol.Work{Org: k.ref.Org, Batch: k.ref.Batch, Index: 1, Total: 3}
	look := func(index int) bool {
		work.Index = index
		standing, err := s.look(t.Context(), &work, true)
		if err != nil {
			t.Fatal(err)
		}
		return standing == standingEnded
	}
	s.delivered()
	if look(1) {
		t.Fatal("an item that nothing is known of has ended")
	}
	value, err := protocol.Encode(protocol.Summary{
		Version: protocol.SummaryVersion, Org: k.ref.Org, Batch: k.ref.Batch, Total: 3, State: protocol.BatchRunning,
		Receipts: []protocol.Receipt{{Index: 0, State: protocol.ItemRetrying}, {Index: 1, State: protocol.ItemSucceeded}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bucket.Put(t.Context(), protocol.SummaryKey(k.ref.Org, k.ref.Batch), value); err != nil {
		t.Fatal(err)
	}
	s.delivered()
	if !look(1) {
		t.Error("an item whose receipt is there when it is delivered is to be copied again")
	}
	if look(0) || look(2) {
		t.Error("an item without an outcome has ended")
	}
	read := s.pages[protocol.SummaryKey(k.ref.Org, k.ref.Batch)].read
	if look(2); !s.pages[protocol.SummaryKey(k.ref.Org, k.ref.Batch)].read.Equal(read) {
		t.Error("the page is read again for each item of a delivery")
	}
	s.delivered()
	if look(1); !s.pages[protocol.SummaryKey(k.ref.Org, k.ref.Batch)].read.Equal(read) {
		t.Error("the page is read again for what is known to have ended")
	}
}

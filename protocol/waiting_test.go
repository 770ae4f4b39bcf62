package protocol_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/protocol"
)

// TestWaitingWorksComeApartAsTheyWere puts works together and takes them apart: nothing of one is lost, or comes to another.
func TestWaitingWorksComeApartAsTheyWere(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	shared := protocol.Work{
		Version: protocol.WorkVersion, Org: "ORG", Batch: "bat_1", Total: 900, Lane: protocol.Bulk, Pool: "default", Kind: protocol.KindCopy, Generation: 4,
		Shard: 5, Trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", MaxAttempts: 7,
	}
	works := []protocol.Work{shared, shared, shared}
	works[0].Index, works[0].ID, works[0].Sealed, works[0].Fence = 700, "a", []byte{1}, 9
	works[1].Index, works[1].Attempts, works[1].Since = 3, []protocol.Attempt{{Number: 1, Worker: "w", Start: at, End: at}}, at
	works[2].Index, works[2].Fence = 4, 1
	data, err := protocol.Encode(protocol.WaitWith(protocol.WaitingHost{Name: "http://h:80", Resting: true}, works))
	if err != nil {
		t.Fatal(err)
	}
	var together protocol.Work
	if err := json.Unmarshal(data, &together); err != nil {
		t.Fatal(err)
	}
	if together.Kind != protocol.KindWaiting || together.Ref().Batch != "bat_1" || together.Host.Name != "http://h:80" || !together.Host.Resting || together.Host.Dest {
		t.Errorf("together they are %+v", together)
	}
	for i := range works {
		works[i].Recheck = true // another worker may have them already
	}
	if diff := cmp.Diff(works, together.Apart()); diff != "" {
		t.Errorf("apart (-want +got):\n%s", diff)
	}
}

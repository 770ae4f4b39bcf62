package aggregator

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/protocol"
)

// TestSoleSummaryIsThatOfTheAggregator compares what a worker writes of a batch of one item with what comes of its report.
func TestSoleSummaryIsThatOfTheAggregator(t *testing.T) {
	t.Parallel()
	begun := time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)
	for _, state := range []protocol.ItemState{protocol.ItemSucceeded, protocol.ItemSkipped} {
		report := protocol.Report{
			Ref: protocol.Ref{Org: "O", Batch: "b"}, Total: 1, Lane: protocol.Interactive,
			Receipt: protocol.Receipt{
				State: state, ID: "one", Bytes: 4096, SHA256: "00ff", ETag: "e", Verified: true, Status: 200, Method: protocol.MethodStream,
				Attempts: []protocol.Attempt{{Number: 1, Worker: "w", Start: begun, End: begun.Add(time.Second), Bytes: 4096}},
			},
		}
		key := batchKey{"O", "b"}
		l := newLedger(nil)
		l.books[key] = &book{pages: map[int]*sheet{0: {}}, summary: protocol.Summary{
			Version: protocol.SummaryVersion, Batch: "b", Org: "O", Lane: report.Lane, Total: 1, State: protocol.BatchQueued,
		}}
		b, err := l.fold(t.Context(), &report)
		if err != nil {
			t.Fatal(err)
		}
		b.count()
		u, err := b.unit(key)
		if err != nil {
			t.Fatal(err)
		}
		sole, err := protocol.Encode(protocol.SoleSummary(&report))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(u.changes[0].Value), string(sole)); diff != "" {
			t.Errorf("%s (-aggregator +worker): %s", state, diff)
		}
	}
}

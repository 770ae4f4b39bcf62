package aggregator_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/aggregator"
	"github.com/copyfleet/copyfleet/protocol"
)

// BenchmarkFoldReports folds the reports of one batch, which come in order, 256 a bundle.
func BenchmarkFoldReports(b *testing.B) {
	s := newBundleOf(b)
	batch := protocol.NewBatchID()
	now := time.Now().UTC()
	reports := make([]protocol.Report, 0, protocol.PageSize)
	for i := range b.N {
		reports = append(reports, protocol.Report{
			Ref: protocol.Ref{Org: "ORG", Batch: batch, Index: i}, Total: b.N, Lane: protocol.Bulk,
			Receipt: protocol.Receipt{
				Index: i, ID: fmt.Sprintf("item-%d", i), State: protocol.ItemSucceeded, Bytes: 4096,
				SHA256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", Verified: true, Status: 200,
				Attempts: []protocol.Attempt{{Number: 1, Worker: "host-1234-abcdef", Start: now, End: now.Add(time.Millisecond), Bytes: 4096}},
				TraceID:  "0af7651916cd43dd8448eb211c80319c",
			},
		})
		if len(reports) == cap(reports) || i == b.N-1 {
			s.publish(reports...)
			reports = reports[:0]
		}
	}
	b.ResetTimer()
	stop := s.run(aggregator.Config{})
	s.final(batch)
	b.StopTimer()
	stop()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reports/s")
}

package aggregator_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/aggregator"
	"github.com/copyfleet/copyfleet/protocol"
)

// BenchmarkManyFedBatches feeds many batches of 10 items while somebody takes them, and tells what a batch costs.
func BenchmarkManyFedBatches(b *testing.B) {
	s := newBundleOf(b)
	for range b.N {
		a := accepted("ORG", 10, protocol.Options{})
		s.accept(a)
	}
	c := s.crew()
	runtime.GC()
	b.ResetTimer()
	stop := s.run(aggregator.Config{})
	defer stop()
	begun := time.Now()
	for got := 0; got < 10*b.N; {
		works := c.fetch(1000)
		got += len(works)
		if len(works) == 0 {
			_ = c.intake.Wait(b.Context(), true, nil)
		}
	}
	b.ReportMetric(float64(b.N)/time.Since(begun).Seconds(), "batches/s")
}

package aggregator

import (
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// TestSettlingWaitsForAFoldThatIsBehind settles a batch while reports are folded slowly: what they tell would be lost to "canceled". Only reports that cannot
// be folded are not waited for.
func TestSettlingWaitsForAFoldThatIsBehind(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.accept(t, 300)
	f := s.feeder("f", a)
	r := f.rows[protocol.ControlKey(a.Org, a.Batch)]
	for range 2 {
		if err := s.conn.PublishReports(t.Context(), []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	settled := func() bool {
		t.Helper()
		free, err := f.letGo(t.Context(), r, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		return free
	}
	// passes is the time that a fold may stand still.
	passes := func() { r.marked, r.moved = r.marked.Add(-2*foldLimit), r.moved.Add(-2*foldLimit) }
	if settled() {
		t.Error("it is settled at once, although nothing is folded")
	}
	passes()
	s.foldOne()
	if settled() {
		t.Error("it is settled, although the reports are being folded")
	}
	passes()
	if !settled() {
		t.Error("it waits for a report that cannot be folded")
	}
}

// foldOne folds the next report, as an aggregator does.
func (s *stage) foldOne() {
	s.t.Helper()
	reports, err := s.conn.Reports(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	defer reports.Close()
	before, _, err := s.conn.ReportFloor(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	if err := (<-reports.Bundles()).Done(); err != nil {
		s.t.Fatal(err)
	}
	limit := time.After(4 * time.Minute)
	for {
		floor, _, err := s.conn.ReportFloor(s.t.Context())
		if err == nil && floor > before {
			return
		}
		select {
		case <-limit:
			s.t.Fatalf("reports are folded up to %d: %v", floor, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

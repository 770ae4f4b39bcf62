package triggers

import (
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// found publishes what a sweep of the rule "copy" has listed. end may be nil: more follows.
func (s *stage) found(sweep string, end *sweepEnd, keys ...string) {
	s.Helper()
	m := sweepMessage{Sweep: sweep, Rule: "copy", Bucket: "inbox", Started: time.Now(), End: end}
	for _, key := range keys {
		m.Objects = append(m.Objects, sweptObject{Key: key, ETag: "etag-" + key, Size: 1, Modified: time.Now()})
	}
	s.publish(protocol.EventSweep, &m)
}

// told is what was said of a sweep when all of it was decided on.
func (s *stage) told(sweep string) (sweepTally, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.swept["copy "+sweep]
	return t, ok
}

// TestSweepThatFailedIsNotDone: what it found is copied, and nobody says that it came to its end, which would make the next one skip what it did not list.
func TestSweepThatFailedIsNotDone(t *testing.T) {
	t.Parallel()
	s := newStage(t, copyRule)
	s.found("first", nil, "a", "b")
	s.found("first", &sweepEnd{Listed: 2, Failed: true})
	s.run()
	until(t, "all of it is decided on", func() bool {
		orgs, _, err := s.conn.EventOrgs(t.Context())
		return err == nil && len(orgs) == 0
	})
	s.found("second", &sweepEnd{Listed: 2}, "a", "c")
	until(t, "the second sweep is told of", func() bool { _, ok := s.told("second"); return ok })
	if got, _ := s.told("second"); got != (sweepTally{Listed: 2, Known: 1, Recovered: 1}) {
		t.Errorf("the second sweep is %+v", got)
	}
	if got, ok := s.told("first"); ok {
		t.Errorf("the sweep that failed is told of as done: %+v", got)
	}
	if got := len(s.desk.items()); got != 3 {
		t.Errorf("%d copies were asked for", got)
	}
}

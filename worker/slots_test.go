package worker

import (
	"testing"
	"time"
)

func TestFetchOfBulkWorkWaitsForAQuarter(t *testing.T) {
	t.Parallel()
	s := newSlots(16, 12)
	now := time.Now()
	expect := func(free, freeBulk int, waits bool) {
		t.Helper()
		f, b, wait := s.available(now)
		if f != free || b != freeBulk || (wait > 0) != waits {
			t.Errorf("%d free, %d of them for bulk work, to be waited for %s; want %d, %d, %t", f, b, wait, free, freeBulk, waits)
		}
	}
	expect(16, 12, false)
	for range 12 {
		s.take(true)
	}
	expect(4, 0, false)
	s.give(true)
	expect(5, 0, true) // the interactive lane has all of them meanwhile
	now = now.Add(gather)
	expect(5, 1, false) // it has waited for long enough
	s.take(true)
	s.give(true)
	s.give(true)
	expect(6, 0, true)
	s.give(true)
	expect(7, 3, false) // a quarter
	for range 5 {
		s.take(false)
	}
	expect(2, 0, true) // what the interactive lane has taken lacks the other one as well
}

package worker

import (
	"sync"
	"time"
)

// slots counts the items that may still be taken: all of them for the interactive lane, fewer for the rest. A slot is occupied from
// the fetch of an item until its destination is visible, or it failed. While items are short, as many again as there are slots for
// the rest may be taken, to wait in the line.
type slots struct {
	line      *line
	all, bulk int // bulk: those for the rest

	mu        sync.Mutex
	taken     int           // by the interactive lane
	takenBulk int           // by the rest; beyond bulk they wait in the line
	away      int           // of taken: they wait for a host, and others may have their slots meanwhile
	awayBulk  int           // of takenBulk
	scarce    time.Time     // since when some, but few, of those for the rest are free; zero: they are not
	released  chan struct{} // holds a token after a release, or when it is time to look again
}

// A fetch of bulk work waits until a quarter of its slots is free, or for gather: one claim then serves many items. What waits in
// the interactive lane is fetched meanwhile.
const (
	gatherShare = 4
	gather      = time.Millisecond
)

func newSlots(all, bulk int) *slots {
	return &slots{line: newLine(all, bulk), all: all, bulk: bulk, released: make(chan struct{}, 1)}
}

// available returns what may be fetched now. Only the intake takes slots, so that what is available stays so. wait, unless 0, is
// how long it is worth waiting for more bulk slots, none of which are given out meanwhile.
func (s *slots) available(now time.Time) (free, freeBulk int, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken, takenBulk := s.taken-s.away, s.takenBulk-s.awayBulk
	free = max(s.all-taken-min(takenBulk, s.bulk), 0)
	if s.line.short(now) {
		freeBulk = max(2*s.bulk-takenBulk, 0)
	} else {
		freeBulk = max(min(s.bulk-takenBulk, free), 0)
	}
	if freeBulk == 0 || freeBulk*gatherShare >= s.bulk {
		s.scarce = time.Time{}
		return max(free, freeBulk), freeBulk, 0
	}
	if s.scarce.IsZero() {
		s.scarce = now
	}
	if wait = gather - now.Sub(s.scarce); wait > 0 {
		return free, 0, wait
	}
	s.scarce = time.Time{}
	return max(free, freeBulk), freeBulk, 0
}

// take occupies a slot.
func (s *slots) take(bulk bool) { s.change(-1, bulk) }

// give releases one.
func (s *slots) give(bulk bool) {
	s.change(+1, bulk)
	s.poke()
}

// stepAside leaves the slot of an item that waits for a host to others, and reports whether it could: as many may wait so as there are slots. Parts, of
// which an item has many, leave half of that to items.
func (s *slots) stepAside(bulk, part bool) bool {
	most := s.all
	if part {
		most = max(s.all/2, 1)
	}
	s.mu.Lock()
	ok := s.away+s.awayBulk < most
	if ok {
		s.moveAway(1, bulk)
	}
	s.mu.Unlock()
	if ok {
		s.poke()
	}
	return ok
}

// stepBack counts an item that stepped aside among those with a slot again. There may be more of them than slots for a moment; they wait
// in the line.
func (s *slots) stepBack(bulk bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moveAway(-1, bulk)
}

func (s *slots) moveAway(n int, bulk bool) {
	if bulk {
		s.awayBulk += n
	} else {
		s.away += n
	}
}

// count returns how many are occupied and free.
func (s *slots) count() (busy, free int) {
	busy = s.line.running()
	return busy, s.all - busy
}

// poke wakes the intake.
func (s *slots) poke() {
	select {
	case s.released <- struct{}{}:
	default: // one token is enough
	}
}

func (s *slots) change(n int, bulk bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if bulk {
		s.takenBulk -= n
	} else {
		s.taken -= n
	}
}

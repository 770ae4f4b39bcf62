package worker

import "sync"

// slots counts the items that may still be taken: all of them for the interactive lane, fewer for the rest.
type slots struct {
	mu       sync.Mutex
	free     int
	freeBulk int
	released chan struct{} // holds a token after a release
}

func newSlots(all, bulk int) *slots {
	return &slots{free: all, freeBulk: bulk, released: make(chan struct{}, 1)}
}

// available returns what may be fetched now. Only the intake takes slots, so that what is available stays so.
func (s *slots) available() (free, freeBulk int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free, min(s.free, s.freeBulk)
}

// take occupies a slot; the returned function gives it back.
func (s *slots) take(bulk bool) (release func()) {
	s.change(-1, bulk)
	return func() {
		s.change(+1, bulk)
		select {
		case s.released <- struct{}{}:
		default: // one token is enough to wake the intake
		}
	}
}

func (s *slots) change(n int, bulk bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free += n
	if bulk {
		s.freeBulk += n
	}
}

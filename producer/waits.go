package producer

import (
	"context"
	"sync"
	"time"
)

// waits knows the calls that wait for the end of a batch, so that a shutdown can let them hear of it and then end them
// with an answer.
type waits struct {
	mu      sync.Mutex
	cancels map[int]context.CancelFunc
	next    int
	ended   bool
	empty   chan struct{} // closed while nobody waits
}

func newWaits() *waits {
	w := &waits{cancels: map[int]context.CancelFunc{}, empty: make(chan struct{})}
	close(w.empty)
	return w
}

// join enters a call, which cancel ends; the returned function takes it out.
func (w *waits) join(cancel context.CancelFunc) (leave func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		cancel()
	}
	if len(w.cancels) == 0 {
		w.empty = make(chan struct{})
	}
	id := w.next
	w.next++
	w.cancels[id] = cancel
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.cancels, id)
		if len(w.cancels) == 0 {
			close(w.empty)
		}
	}
}

// over reports whether waiting has been ended.
func (w *waits) over() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ended
}

// end ends all of them, now and from now on.
func (w *waits) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	for _, cancel := range w.cancels {
		cancel()
	}
}

// StopWaiting ends the wait of every call, now and from now on: each is told where to ask for its batch. Event streams end, too.
func (s *Server) StopWaiting() {
	s.waits.end()
	s.streaming.end()
}

// Settle returns when no call waits any more, or after the limit. Event streams are not waited for: their watchers come again.
func (s *Server) Settle(limit time.Duration) {
	s.waits.mu.Lock()
	empty := s.waits.empty
	s.waits.mu.Unlock()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-empty:
	case <-timer.C:
	}
}

package aggregator

import "sync"

// hints gathers what comes over core NATS until somebody has time for it.
type hints struct {
	news chan struct{} // holds one value when there is something

	mu      sync.Mutex
	changed map[string]bool   // batches by key: whether they are final
	feeders map[string]bool   // by token: whether they end
	failing map[batchKey]bool // batches with failed items
}

func newHints() *hints {
	return &hints{news: make(chan struct{}, 1), changed: map[string]bool{}, feeders: map[string]bool{}, failing: map[batchKey]bool{}}
}

func (h *hints) change(key string, final bool) {
	h.mu.Lock()
	h.changed[key] = h.changed[key] || final
	h.mu.Unlock()
	h.tell()
}

func (h *hints) feeder(id string, ends bool) {
	h.mu.Lock()
	h.feeders[id] = ends
	h.mu.Unlock()
	h.tell()
}

func (h *hints) suspect(key batchKey) {
	h.suspectAgain(key)
	h.tell()
}

// suspectAgain keeps a batch for the next time that there are news, or nothing else to do: what failed just now is not tried at once.
func (h *hints) suspectAgain(key batchKey) {
	h.mu.Lock()
	h.failing[key] = true
	h.mu.Unlock()
}

func (h *hints) tell() {
	select {
	case h.news <- struct{}{}:
	default:
	}
}

func (h *hints) take() (changed, feeders map[string]bool, failing map[batchKey]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed, feeders, failing = h.changed, h.feeders, h.failing
	h.changed, h.feeders, h.failing = map[string]bool{}, map[string]bool{}, map[batchKey]bool{}
	return changed, feeders, failing
}

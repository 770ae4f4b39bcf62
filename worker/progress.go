package worker

import (
	"context"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

const (
	progressAfter = time.Second // an item that ends sooner is never told of
	progressEvery = time.Second
)

// progress tells how far the items are that take long. A small item costs it nothing but a look at the clock; one goroutine tells
// of all others.
type progress struct {
	worker string
	conn   *broker.Conn

	mu    sync.Mutex
	large map[*meter]bool
}

func newProgress(worker string, conn *broker.Conn) *progress {
	return &progress{worker: worker, conn: conn, large: map[*meter]bool{}}
}

// watch has a copy told of once it has taken long enough. It runs on the goroutine that reads.
func (m *meter) watch() {
	if m.told || m.progress == nil || m.work == nil || time.Since(m.start) < progressAfter {
		return
	}
	m.told = true
	m.progress.mu.Lock()
	defer m.progress.mu.Unlock()
	m.progress.large[m] = true
}

// newCounter returns a meter that only counts, and tells how far its copy is.
func newCounter(t transfer, object *storage.Object, told *progress) *meter {
	return &meter{item: t.id, from: t.src, size: object.Size, most: -1, start: time.Now(), work: t.watched, progress: told}
}

// count notes bytes that were read.
func (m *meter) count(n int) {
	m.read.Add(int64(n))
	if n > 0 {
		failpoint.HitItem(failpoint.BytesMoving, m.item)
	}
	m.watch()
}

// end forgets a copy. p may be nil.
func (p *progress) end(m *meter) {
	if p == nil || !m.told {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.large, m)
}

// run tells until the context ends.
func (p *progress) run(ctx context.Context) {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.tell()
		}
	}
}

// tell sends one message an item. What is lost is told again a second later, so errors do not matter.
func (p *progress) tell() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for m := range p.large {
		news := protocol.Progress{Index: m.work.Index, ID: m.item, Worker: p.worker, Bytes: m.read.Load() + m.ahead.Load(), Start: m.start.UTC()}
		switch {
		case m.size != storage.UnknownSize:
			news.Size = &m.size
		case m.most >= 0:
			news.Size = &m.most
		}
		data, err := protocol.Encode(news)
		if err == nil {
			_ = p.conn.TellProgress(m.work.Org, m.work.Batch, data)
		}
	}
}

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
func newCounter(t *transfer, size int64, told *progress) *meter {
	return &meter{item: t.id, from: t.src, size: size, most: -1, start: time.Now(), work: t.watched, progress: told}
}

// shownProgress is what was told of a copy last: of the same one never less is told later.
type shownProgress struct{ begun, bytes int64 }

// next is what to tell of a copy.
func (s *shownProgress) next(begun, bytes int64) int64 {
	if s.begun != begun {
		*s = shownProgress{begun: begun}
	}
	s.bytes = max(s.bytes, bytes)
	return s.bytes
}

// goesOn says that so many bytes are there of a copy that began then, beside what has not been counted yet.
func (m *meter) goesOn(begun time.Time, bytes int64) {
	m.ahead.Store(bytes - m.read.Load())
	m.begun.Store(begun.UnixNano())
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
		begun := m.begun.Load()
		news := protocol.Progress{
			Index: m.work.Index, ID: m.item, Worker: p.worker, Bytes: m.shown.next(begun, m.read.Load()+m.ahead.Load()), Start: m.start.UTC(),
			Part:  m.work.Part,
			Begun: m.start.UTC(),
		}
		if begun != 0 {
			news.Begun = time.Unix(0, begun).UTC()
		}
		switch {
		case m.size != storage.UnknownSize:
			news.Size = &m.size
		case m.most >= 0:
			news.Size = &m.most
		}
		data, err := protocol.Encode(news)
		switch {
		case err != nil:
		case m.work.Kind == protocol.KindPart:
			_ = p.conn.TellPart(m.work.Org, m.work.Batch, m.work.Index, data)
		default:
			_ = p.conn.TellProgress(m.work.Org, m.work.Batch, data)
		}
	}
}

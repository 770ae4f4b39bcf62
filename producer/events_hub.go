package producer

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

const (
	// tellEvery is the least time between two events of a batch; the first and the last come at once.
	tellEvery = 500 * time.Millisecond
	// readEvery is the least time between two looks at a batch that changes all the time.
	readEvery = 50 * time.Millisecond
	// progressEvery is how often the progress of items is passed on, and maxProgress of how many at most: the largest.
	progressEvery = time.Second
	maxProgress   = 20
	// maxHeard bounds the items whose progress is remembered between two times.
	maxHeard = 2048
)

// streams are the hubs of the batches that are watched.
type streams struct {
	limit     int
	heartbeat time.Duration
	within    time.Duration

	mu       sync.Mutex
	watchers int
	byOrg    map[protocol.OrgID]int
	hubs     map[string]*hub
}

func newStreams() streams {
	return streams{limit: maxWatchers, heartbeat: heartbeatEvery, within: writeWithin, byOrg: map[protocol.OrgID]int{}, hubs: map[string]*hub{}}
}

// join enters a watcher of a batch; the first one starts its hub with run. The watchers of one org leave a quarter of the places to others.
func (s *streams) join(ctx context.Context, org protocol.OrgID, key string, run func(context.Context, *hub)) (*hub, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watchers >= s.limit || s.byOrg[org] >= s.limit-s.limit/4 {
		return nil, errWatchers
	}
	h := s.hubs[key]
	if h == nil {
		h = &hub{key: key, org: org, done: make(chan struct{}), now: tidings{next: make(chan struct{})}}
		s.hubs[key] = h
		ctx, h.stop = context.WithCancel(ctx)
		go func() {
			defer close(h.done)
			run(ctx, h)
		}()
	}
	h.watchers++
	s.watchers++
	s.byOrg[org]++
	return h, nil
}

// leave takes a watcher out; the last one waits for the end of the hub.
func (s *streams) leave(h *hub) {
	s.mu.Lock()
	s.watchers--
	if s.byOrg[h.org]--; s.byOrg[h.org] == 0 {
		delete(s.byOrg, h.org)
	}
	h.watchers--
	last := h.watchers == 0
	if last {
		delete(s.hubs, h.key)
	}
	s.mu.Unlock()
	if last {
		h.stop()
		<-h.done
	}
}

// hub reads one batch for all its watchers. It keeps the newest event only: a watcher that is slow misses what came between.
type hub struct {
	key      string
	org      protocol.OrgID
	watchers int // under the mutex of the streams
	stop     context.CancelFunc
	done     chan struct{}

	mu  sync.Mutex
	now tidings
}

// tidings are what there is to tell. Next is closed when there is something newer.
type tidings struct {
	batch    *event // nil: nothing was read yet
	progress *event // of items in the last second; nil: none
	over     bool   // nothing comes after this
	next     chan struct{}
}

// event is a part of a stream.
type event struct {
	id   string
	data []byte // as it is sent
}

func (h *hub) tidings() tidings {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *hub) tell(change func(*tidings)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(&h.now)
	close(h.now.next)
	h.now.next = make(chan struct{})
}

// observer is what the goroutine of a hub keeps.
type observer struct {
	*hub

	pipeline *Pipeline
	batch    protocol.BatchID
	last     *snapshot
	told     time.Time // when the last event was told
	heard    map[int]protocol.Progress
}

// observe tells what becomes of a batch, until it has ended or ctx does.
func (p *Pipeline) observe(ctx context.Context, h *hub, org protocol.OrgID, id protocol.BatchID) {
	o := &observer{hub: h, pipeline: p, batch: id, heard: map[int]protocol.Progress{}}
	changes, stop, err := p.conn.WatchChanges(org, id)
	if err != nil {
		p.log.Warn("an event stream hears of no changes; it looks now and then", "batch", id, logError, err)
		stop = func() {}
	}
	defer stop()
	progress, stopProgress, err := p.conn.WatchProgress(org, id)
	if err != nil {
		p.log.Warn("an event stream hears of no progress", "batch", id, logError, err)
		stopProgress = func() {}
	}
	defer stopProgress()
	o.follow(ctx, changes, progress)
}

// follow looks at the batch when it changed, but not all the time, and now and then without having been told: news may be lost.
func (o *observer) follow(ctx context.Context, changes <-chan []byte, progress <-chan []byte) {
	unasked := time.NewTicker(lookAgain)
	defer unasked.Stop()
	flush := time.NewTicker(progressEvery)
	defer flush.Stop()
	due := time.NewTimer(0) // the first look
	defer due.Stop()
	read := time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case data := <-progress:
			o.hear(data)
		case <-flush.C:
			o.passOn()
		case <-changes:
			due.Reset(time.Until(read.Add(readEvery)))
		case <-unasked.C:
			due.Reset(0)
		case <-due.C:
			over, again := o.look(ctx)
			if over {
				return
			}
			if read = time.Now(); again > 0 {
				due.Reset(again)
			}
		}
	}
}

// look reads the batch and tells of it if there is news and it is time. Again is when to look again if it is not, 0: when something
// happens.
func (o *observer) look(ctx context.Context) (over bool, again time.Duration) {
	now, found, err := o.pipeline.look(ctx, o.org, o.batch, o.last)
	switch {
	case err != nil:
		if ctx.Err() == nil {
			o.pipeline.log.Warn("an event stream cannot read its batch; it looks again", "batch", o.batch, logError, err)
		}
		return false, 0
	case !found: // removed
		o.tell(func(t *tidings) { t.over = true })
		return true, 0
	}
	o.last = now
	at := time.Now()
	news, err := batchEvent(now, at)
	if err != nil {
		o.pipeline.log.Error("an event cannot be written", "batch", o.batch, logError, err)
		return false, 0
	}
	over = now.ended()
	if old := o.tidings().batch; old != nil && !over {
		if bytes.Equal(old.data, news.data) {
			return false, 0
		}
		if wait := o.told.Add(tellEvery).Sub(at); wait > 0 {
			return false, wait
		}
	}
	o.told = at
	o.tell(func(t *tidings) { t.batch, t.over = news, over })
	return over, 0
}

// hear remembers the progress of an item for the next time that it is passed on.
func (o *observer) hear(data []byte) {
	var p protocol.Progress
	if json.Unmarshal(data, &p) != nil {
		return
	}
	if _, known := o.heard[p.Index]; known || len(o.heard) < maxHeard {
		o.heard[p.Index] = p
	}
}

// passOn tells the progress of the largest items that was heard of.
func (o *observer) passOn() {
	if len(o.heard) == 0 {
		if o.tidings().progress != nil {
			o.tell(func(t *tidings) { t.progress = nil })
		}
		return
	}
	list := make([]protocol.Progress, 0, len(o.heard))
	for _, p := range o.heard {
		list = append(list, p)
	}
	clear(o.heard)
	slices.SortFunc(list, func(a, b protocol.Progress) int {
		return cmp.Or(cmp.Compare(sizeOf(&b), sizeOf(&a)), cmp.Compare(a.Index, b.Index))
	})
	list = list[:min(len(list), maxProgress)]
	slices.SortFunc(list, func(a, b protocol.Progress) int { return cmp.Compare(a.Index, b.Index) })
	var out bytes.Buffer
	for i := range list {
		data, err := protocol.Encode(&list[i])
		if err != nil {
			continue // it was decoded a moment ago
		}
		fmt.Fprintf(&out, "event: item\ndata: %s\n\n", data)
	}
	o.tell(func(t *tidings) { t.progress = &event{data: out.Bytes()} })
}

// sizeOf is how large an item is, as far as is known.
func sizeOf(p *protocol.Progress) int64 {
	if p.Size != nil {
		return *p.Size
	}
	return p.Bytes
}

// batchEvent is the event that tells the state of a batch.
func batchEvent(now *snapshot, at time.Time) (*event, error) {
	data, err := protocol.Encode(now.view(at))
	if err != nil {
		return nil, fmt.Errorf("tell of batch %s: %w", now.record.Batch, err)
	}
	id := now.eventID()
	return &event{id: id, data: fmt.Appendf(nil, "id: %s\nevent: batch\ndata: %s\n\n", id, data)}, nil
}

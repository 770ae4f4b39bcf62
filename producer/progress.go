package producer

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// progressView is how far a running item is.
type progressView struct {
	Bytes int64  `json:"bytes"`
	Size  *int64 `json:"size,omitempty"` // nil: the source does not tell
}

const (
	// maxHeardItems bounds the running items of all batches that are remembered, of which news came within heardFor.
	maxHeardItems = 16384
	heardFor      = 10 * time.Minute
	// heardFresh is how long it counts what was heard of an item that is not copied in parts: nothing else tells that it still runs.
	heardFresh = 15 * time.Second
	// maxPlansShown bounds the items in parts of which the stored parts are counted for one answer.
	maxPlansShown = 64
)

// heardBoard remembers what workers say of running items. Of one copy it never goes back, also where another worker continues it with fewer bytes.
type heardBoard struct {
	mu    sync.Mutex
	items map[heardKey]heardItem
}

type heardKey struct {
	subject string
	index   int
}

type heardItem struct {
	begun time.Time
	bytes int64
	size  *int64
	at    time.Time
}

// hear notes news that came on the subject of a batch.
func (b *heardBoard) hear(subject string, data []byte) {
	var p protocol.Progress
	if json.Unmarshal(data, &p) != nil || p.Begun.IsZero() || p.Part != 0 {
		return
	}
	b.note(heardKey{subject, p.Index}, heardItem{begun: p.Begun, bytes: p.Bytes, size: p.Size, at: time.Now()})
}

// note joins what is known of an item with news, and returns it.
func (b *heardBoard) note(key heardKey, news heardItem) heardItem {
	b.mu.Lock()
	defer b.mu.Unlock()
	old, known := b.items[key]
	switch {
	case known && old.begun.Equal(news.begun):
		news.bytes = max(news.bytes, old.bytes)
	case known && old.begun.After(news.begun) && time.Since(old.at) < heardFresh: // of a worker that has lost the item
		return old
	case !known && len(b.items) >= maxHeardItems && !b.sweep():
		return news
	}
	if b.items == nil {
		b.items = map[heardKey]heardItem{}
	}
	b.items[key] = news
	return news
}

// sweep forgets what is old, and reports whether there is room then.
func (b *heardBoard) sweep() bool {
	for key, item := range b.items {
		if time.Since(item.at) > heardFor {
			delete(b.items, key)
		}
	}
	return len(b.items) < maxHeardItems
}

func (b *heardBoard) of(key heardKey) (heardItem, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	item, known := b.items[key]
	return item, known
}

// sum joins what was heard of some items of a batch: their bytes, and when the first of them began.
func (b *heardBoard) sum(subject string, indexes map[int]bool) (bytes int64, begun time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for index := range indexes {
		item, known := b.items[heardKey{subject, index}]
		if !known || time.Since(item.at) > heardFresh {
			continue
		}
		if item.size != nil {
			item.bytes = min(item.bytes, *item.size)
		}
		bytes, begun = bytes+item.bytes, earliest(begun, item.begun)
	}
	return bytes, begun
}

// progressTable tells how far the items of one batch are. The plans of those in parts are read once.
type progressTable struct {
	pipeline *Pipeline
	now      *snapshot
	plans    map[string][]byte
	asked    bool
	counted  int
}

// of returns how far an item is; nil: it does not run, or nothing is known.
func (t *progressTable) of(ctx context.Context, r *protocol.Receipt) (*progressView, error) {
	if r.State != protocol.ItemRunning {
		return nil, nil //nolint:nilnil // an item that does not run is no error
	}
	record := &t.now.record
	key := heardKey{protocol.ProgressSubject(record.Org, record.Batch), r.Index}
	heard, known := t.pipeline.views.heard.of(key)
	plan, found, err := t.plan(ctx, r.Index)
	if err != nil {
		return nil, err
	}
	switch {
	case found && t.counted < maxPlansShown:
		t.counted++
		stored, err := t.stored(ctx, r.Index, plan)
		if err != nil {
			return nil, err
		}
		heard = t.pipeline.views.heard.note(key, heardItem{begun: plan.Created, bytes: stored, size: &plan.Size, at: time.Now()})
	case !known, !found && time.Since(heard.at) > heardFresh:
		return nil, nil //nolint:nilnil // as above
	}
	if heard.size != nil {
		heard.bytes = min(heard.bytes, *heard.size)
	}
	return &progressView{Bytes: heard.bytes, Size: heard.size}, nil
}

// plan finds the plan of an item that is copied in parts.
func (t *progressTable) plan(ctx context.Context, index int) (*protocol.PartPlan, bool, error) {
	record := &t.now.record
	if !t.asked {
		entries, err := t.pipeline.parts.List(ctx, protocol.PartPlanFilter(record.Org, record.Batch))
		if err != nil {
			return nil, false, fmt.Errorf("read the plans of items of %s: %w", record.Batch, err)
		}
		t.plans, t.asked = make(map[string][]byte, len(entries)), true
		for _, e := range entries {
			t.plans[e.Key] = e.Value
		}
	}
	value := t.plans[protocol.PartPlanKey(record.Org, record.Batch, index)]
	var plan protocol.PartPlan
	readable := value != nil && json.Unmarshal(value, &plan) == nil && plan.Version <= protocol.PartVersion && plan.Count > 0
	return &plan, readable, nil
}

// stored is how many bytes of an item are in parts that are stored.
func (t *progressTable) stored(ctx context.Context, index int, plan *protocol.PartPlan) (int64, error) {
	record := &t.now.record
	sum := int64(0)
	for number := range protocol.PartPageOf(plan.Count) + 1 {
		var page protocol.PartPage
		revision, err := readInto(ctx, t.pipeline.parts, protocol.PartPageKey(record.Org, record.Batch, index, number), &page)
		if err != nil {
			return 0, err
		}
		if revision == 0 || page.Upload != plan.Upload {
			continue
		}
		for i := range page.Parts {
			if page.Parts[i].Failure == nil {
				sum += page.Parts[i].Size
			}
		}
	}
	return sum, nil
}

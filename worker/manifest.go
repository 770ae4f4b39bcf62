package worker

import (
	"container/list"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// manifests reads what the callers of fed batches asked for: an item of them travels without its locations. A page is read and
// opened once for all its items that run here, and kept while there is room. All slots share it.
type manifests struct {
	pages   *broker.Bucket
	batches *broker.Bucket // the accept record of a small batch holds its only page
	sealer  *protocol.Sealer

	mu    sync.Mutex
	kept  map[sheetName]*sheet
	used  list.List // of *sheet that are loaded, the latest used first
	bytes int
}

// Bounds of what is kept. One page that is larger than sheetBytes is kept alone.
const (
	sheetsKept = 128
	sheetBytes = 32 << 20
	sheetLoad  = 10 * time.Second // within which a page must have come
	// sheetFresh is how long a page is relied on. A caller who uses an Idempotency-Key again when its batch was removed gets another
	// batch with the same id, and other pages of the same names.
	sheetFresh = time.Minute
)

// errGone says that the batch of an item was removed.
var errGone = errors.New("the manifest of the batch is gone")

type sheetName struct {
	org        protocol.OrgID
	batch      protocol.BatchID
	generation int
	page       int
}

// sheet is an open page. items and err are written before loaded is closed, and not changed after.
type sheet struct {
	name   sheetName
	loaded chan struct{}
	items  []protocol.ManifestItem
	err    error
	read   time.Time // before it was

	// Guarded by manifests.mu.
	bytes int
	place *list.Element // nil while it is being loaded, and after it was dropped
}

func newManifests(pages, batches *broker.Bucket, sealer *protocol.Sealer) *manifests {
	return &manifests{pages: pages, batches: batches, sealer: sealer, kept: map[sheetName]*sheet{}}
}

// item returns what was asked for: from the message itself, or from the manifest. The error is [errGone], wraps [protocol.ErrSeal], or
// says that the broker is away. What is returned is shared and must not be changed.
func (m *manifests) item(ctx context.Context, work *protocol.Work) (*protocol.ManifestItem, error) {
	if len(work.Sealed) > 0 {
		ref := work.Ref()
		ref.Part = 0 // it is sealed for the item
		item, err := m.sealer.OpenItem(ref, work.Sealed)
		if item.ID == "" {
			item.ID = work.ID
		}
		return &item, err //nolint:wrapcheck // it names the item
	}
	items, err := m.items(ctx, sheetName{work.Org, work.Batch, work.Generation, protocol.PageOf(work.Index)})
	if err != nil {
		return nil, err
	}
	place := work.Index % protocol.PageSize
	if work.Index < 0 || place >= len(items) {
		return nil, fmt.Errorf("item %d of %s is not in its manifest: %w", work.Index, work.Batch, protocol.ErrSeal)
	}
	return &items[place], nil
}

// items returns a page. Whoever asks while it is being loaded waits for that.
func (m *manifests) items(ctx context.Context, name sheetName) ([]protocol.ManifestItem, error) {
	m.mu.Lock()
	s, known := m.kept[name]
	if known && s.place != nil && time.Since(s.read) > sheetFresh {
		m.drop(s.place)
		known = false
	}
	if !known {
		s = &sheet{name: name, loaded: make(chan struct{}), read: time.Now()}
		m.kept[name] = s
	} else if s.place != nil {
		m.used.MoveToFront(s.place)
	}
	m.mu.Unlock()
	if !known {
		m.load(ctx, s)
		return s.items, s.err
	}
	select {
	case <-s.loaded:
		return s.items, s.err
	case <-ctx.Done():
		return nil, context.Cause(ctx) //nolint:wrapcheck // the caller's own
	}
}

// load reads a page. It is not given up when the item that asked first is: others wait for it too.
func (m *manifests) load(ctx context.Context, s *sheet) {
	defer close(s.loaded)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sheetLoad)
	defer cancel()
	s.err = errGone // of a load that panics
	defer func() { m.keep(s) }()
	var sealed []byte
	sealed, s.err = m.read(ctx, s.name)
	if s.err == nil {
		s.items, s.err = m.sealer.OpenPage(s.name.org, s.name.batch, s.name.page, sealed)
	}
}

func (m *manifests) read(ctx context.Context, name sheetName) ([]byte, error) {
	bucket, key := m.pages, protocol.ManifestKey(name.org, name.batch, name.generation, name.page)
	if name.generation == 0 {
		bucket, key = m.batches, protocol.AcceptKey(name.org, name.batch)
	}
	entry, err := bucket.Get(ctx, key)
	if errors.Is(err, broker.ErrNotFound) {
		return nil, errGone
	}
	if err != nil {
		return nil, fmt.Errorf("read the manifest of %s: %w", name.batch, err)
	}
	if name.generation != 0 {
		return entry.Value, nil
	}
	var record protocol.Acceptance
	if err := json.Unmarshal(entry.Value, &record); err != nil {
		return nil, fmt.Errorf("read the accept record of %s: %w: %w", name.batch, protocol.ErrSeal, err)
	}
	if record.State == protocol.AcceptAbandoned {
		return nil, errGone
	}
	return record.Manifest, nil
}

// keep keeps a page that was loaded, and drops those that were not used for longest. A failure is not kept.
func (m *manifests) keep(s *sheet) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.err != nil {
		delete(m.kept, s.name)
		return
	}
	s.bytes = sizeOf(s.items)
	s.place = m.used.PushFront(s)
	m.bytes += s.bytes
	for m.used.Len() > 1 && (m.used.Len() > sheetsKept || m.bytes > sheetBytes) {
		m.drop(m.used.Back())
	}
}

func (m *manifests) drop(place *list.Element) {
	s, _ := m.used.Remove(place).(*sheet)
	s.place = nil
	m.bytes -= s.bytes
	delete(m.kept, s.name)
}

// sizeOf is roughly what a page takes in memory.
func sizeOf(items []protocol.ManifestItem) int {
	const fixed, perPair = 512, 64
	n := fixed * len(items)
	for i := range items {
		it := &items[i]
		n += len(it.ID) + len(it.SHA256) + len(it.MD5)
		for _, l := range []*protocol.Location{&it.Src, &it.Dest} {
			n += len(l.Sandbox) + len(l.Path) + len(l.URL) + len(l.FileField) + len(l.Bucket) + len(l.Key)
			for _, pairs := range []map[string]string{l.Headers, l.Form} {
				for k, v := range pairs {
					n += len(k) + len(v) + perPair
				}
			}
		}
	}
	return n
}

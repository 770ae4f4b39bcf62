package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// settled knows which items need no work: they have their outcome, or their batch was never accepted. A page of
// receipts is read once for all its items and kept for a moment; a stale answer only means that an item is
// copied again. Used by the intake's goroutine only.
type settled struct {
	bucket   *broker.Bucket
	pages    map[string]page
	accepted map[string]bool // batches in several chunks that are known to be whole
	pending  map[string]pending
}

type page struct {
	read  time.Time
	final map[int]bool
}

// pending is a batch that is still being accepted.
type pending struct{ read, created time.Time }

type itemState int

const (
	itemOpen    itemState = iota
	itemSettled           // drop it
	itemNotYet            // its batch is still being accepted
)

const (
	pageFresh     = 2 * time.Second
	pagesKept     = 256
	acceptedsKept = 4096

	notYetLeast = 200 * time.Millisecond
	notYetMost  = 30 * time.Second
	notYetShare = 4
	notYetItem  = 100 * time.Microsecond // roughly what it costs to look at one
)

func newSettled(bucket *broker.Bucket) *settled {
	return &settled{bucket: bucket, pages: map[string]page{}, accepted: map[string]bool{}, pending: map[string]pending{}}
}

// look tells what is to be done with an item. repeated: it may have been delivered before, or is a retry, which a crash
// between planning it and reporting leaves beside the old delivery.
func (s *settled) look(ctx context.Context, work *protocol.Work, repeated bool) (itemState, error) {
	if work.Chunks > 1 {
		state, err := s.acceptance(ctx, work)
		if err != nil || state != itemOpen {
			return state, err
		}
	}
	if !repeated {
		return itemOpen, nil
	}
	p, err := s.page(ctx, work)
	if err != nil {
		return itemOpen, err
	}
	if p.final[work.Index] {
		return itemSettled, nil
	}
	return itemOpen, nil
}

// acceptance holds back the items of a batch until all its chunks are in the queue: it is accepted whole or not at all.
func (s *settled) acceptance(ctx context.Context, work *protocol.Work) (itemState, error) {
	key := protocol.AcceptKey(work.Org, work.Batch)
	if s.accepted[key] {
		return itemOpen, nil
	}
	if p, ok := s.pending[key]; ok && time.Since(p.read) < notYetLeast {
		return itemNotYet, nil
	}
	entry, err := s.bucket.Get(ctx, key)
	if errors.Is(err, broker.ErrNotFound) {
		return itemSettled, nil // the batch was removed
	}
	if err != nil {
		return itemOpen, fmt.Errorf("read an accept record: %w", err)
	}
	var record protocol.Acceptance
	if err := json.Unmarshal(entry.Value, &record); err != nil {
		return itemOpen, fmt.Errorf("read the accept record of %s: %w", work.Batch, err)
	}
	delete(s.pending, key)
	switch record.State {
	case protocol.AcceptPending:
		if len(s.pending) >= acceptedsKept {
			clear(s.pending)
		}
		s.pending[key] = pending{read: time.Now(), created: record.Created}
		return itemNotYet, nil
	case protocol.AcceptAbandoned:
		return itemSettled, nil
	case protocol.AcceptComplete:
	}
	if len(s.accepted) >= acceptedsKept {
		clear(s.accepted)
	}
	s.accepted[key] = true
	return itemOpen, nil
}

// again is how long an item waits whose batch is still being accepted: as long as it takes to look at all of the batch, and a share
// of the time that the acceptance takes already. Redeliveries come before everything new in their shard, so that the
// items of a batch whose front died would keep all others from the workers if they came again any faster.
func (s *settled) again(work *protocol.Work) time.Duration {
	age := time.Since(s.pending[protocol.AcceptKey(work.Org, work.Batch)].created)
	return min(max(age/notYetShare, time.Duration(work.Total)*notYetItem, notYetLeast), notYetMost)
}

func (s *settled) page(ctx context.Context, work *protocol.Work) (page, error) {
	key := protocol.PageKey(work.Org, work.Batch, protocol.PageOf(work.Index))
	if protocol.Inline(work.Total) {
		key = protocol.SummaryKey(work.Org, work.Batch)
	}
	if p, ok := s.pages[key]; ok && time.Since(p.read) < pageFresh {
		return p, nil
	}
	p := page{read: time.Now(), final: map[int]bool{}}
	entry, err := s.bucket.Get(ctx, key)
	if err != nil && !errors.Is(err, broker.ErrNotFound) {
		return p, fmt.Errorf("read receipts: %w", err)
	}
	if err == nil {
		var receipts struct {
			Receipts []protocol.Receipt `json:"receipts"` // so named in a page and in a summary
		}
		if err := json.Unmarshal(entry.Value, &receipts); err != nil {
			return p, fmt.Errorf("read the receipts %s: %w", key, err)
		}
		for r := range slices.Values(receipts.Receipts) {
			p.final[r.Index] = r.State.Final()
		}
	}
	if len(s.pages) >= pagesKept {
		clear(s.pages)
	}
	s.pages[key] = p
	return p, nil
}

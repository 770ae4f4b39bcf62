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

// settled knows which items need no work because they have their outcome. A page of receipts is read once for all items that were delivered
// together, and again for those that are delivered later: what comes again because its acknowledgement was lost got its outcome before it came,
// but maybe after the page was read. That an item has its outcome stays true. Used by the intake's goroutine only.
type settled struct {
	bucket *broker.Bucket
	pages  map[string]page
	since  time.Time // when the deliveries came that are looked at
}

// delivered says that deliveries came: what was read before is not enough to call them unsettled.
func (s *settled) delivered() { s.since = time.Now() }

// page is what is known of the items whose receipts stand together.
type page struct {
	read  time.Time
	all   bool         // the batch was stopped: what has not ended never will
	final map[int]bool // by index
}

// ended reports whether an item has its outcome.
func (p page) ended(work *protocol.Work) bool {
	return p.final[work.Index] || p.all && work.Kind == protocol.KindCopy
}

const pagesKept = 512

func newSettled(bucket *broker.Bucket) *settled {
	return &settled{bucket: bucket, pages: map[string]page{}}
}

// look reports whether an item needs no work any more. repeated: it may have been delivered before.
func (s *settled) look(ctx context.Context, work *protocol.Work, repeated bool) (bool, error) {
	if !repeated {
		return false, nil
	}
	return s.ended(ctx, work)
}

// ended looks an item up, in its page and in the summary of its batch.
func (s *settled) ended(ctx context.Context, work *protocol.Work) (bool, error) {
	ended, err := s.page(ctx, protocol.SummaryKey(work.Org, work.Batch), work)
	if err != nil || ended {
		return ended, err
	}
	if protocol.Inline(work.Total) || work.Kind != protocol.KindCopy {
		return false, nil
	}
	return s.page(ctx, protocol.PageKey(work.Org, work.Batch, protocol.PageOf(work.Index)), work)
}

// page looks an item up in a page of receipts, or in a summary, which may hold the only one and the receipt of the notice.
func (s *settled) page(ctx context.Context, key string, work *protocol.Work) (bool, error) {
	if p, ok := s.pages[key]; ok && (p.ended(work) || !p.read.Before(s.since)) {
		return p.ended(work), nil
	}
	p := page{read: time.Now()}
	entry, err := s.bucket.Get(ctx, key)
	if err != nil && !errors.Is(err, broker.ErrNotFound) {
		return false, fmt.Errorf("read receipts: %w", err)
	}
	if err == nil {
		if err := p.fill(entry.Value); err != nil {
			return false, fmt.Errorf("read the receipts %s: %w", key, err)
		}
	}
	if len(s.pages) >= pagesKept {
		clear(s.pages)
	}
	s.pages[key] = p
	return p.ended(work), nil
}

func (p *page) fill(value []byte) error {
	var record struct {
		Rest     protocol.ItemState `json:"rest"`
		Receipts []protocol.Receipt `json:"receipts"` // so named in a page and in a summary
		Webhook  *protocol.Receipt  `json:"webhook"`
	}
	if err := json.Unmarshal(value, &record); err != nil {
		return err //nolint:wrapcheck // the caller names the key
	}
	p.all, p.final = record.Rest != "", map[int]bool{}
	for r := range slices.Values(record.Receipts) {
		p.final[r.Index] = r.State.Final()
	}
	if record.Webhook != nil {
		p.final[protocol.WebhookIndex] = record.Webhook.State.Final()
	}
	return nil
}

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

// standing is what the receipts say of an item.
type standing uint8

const (
	standingOpen    standing = iota
	standingStopped          // it has no outcome of its own, and will not have one: its batch was stopped
	standingEnded            // it has its outcome
)

// page is what is known of the items whose receipts stand together.
type page struct {
	read  time.Time
	all   bool         // the batch was stopped: what has not ended never will
	final map[int]bool // by index
}

// standing says what the page knows of an item.
func (p page) standing(work *protocol.Work) standing {
	switch {
	case p.final[work.Index]:
		return standingEnded
	case p.all && work.Kind == protocol.KindCopy:
		return standingStopped
	default:
		return standingOpen
	}
}

const pagesKept = 512

func newSettled(bucket *broker.Bucket) *settled {
	return &settled{bucket: bucket, pages: map[string]page{}}
}

// look says how an item stands that may have been delivered before; one that was not is open.
func (s *settled) look(ctx context.Context, work *protocol.Work, repeated bool) (standing, error) {
	if !repeated {
		return standingOpen, nil
	}
	return s.standing(ctx, work)
}

// standing looks an item up, in the summary of its batch and in its page.
func (s *settled) standing(ctx context.Context, work *protocol.Work) (standing, error) {
	whole, err := s.page(ctx, protocol.SummaryKey(work.Org, work.Batch), work)
	if err != nil || whole == standingEnded || protocol.Inline(work.Total) || work.Kind != protocol.KindCopy {
		return whole, err
	}
	own, err := s.page(ctx, protocol.PageKey(work.Org, work.Batch, protocol.PageOf(work.Index)), work)
	return max(whole, own), err
}

// page looks an item up in a page of receipts, or in a summary, which may hold the only one and the receipt of the notice.
func (s *settled) page(ctx context.Context, key string, work *protocol.Work) (standing, error) {
	if p, ok := s.pages[key]; ok && (p.standing(work) != standingOpen || !p.read.Before(s.since)) {
		return p.standing(work), nil
	}
	p := page{read: time.Now()}
	entry, err := s.bucket.Get(ctx, key)
	if err != nil && !errors.Is(err, broker.ErrNotFound) {
		return standingOpen, fmt.Errorf("read receipts: %w", err)
	}
	if err == nil {
		if err := p.fill(entry.Value); err != nil {
			return standingOpen, fmt.Errorf("read the receipts %s: %w", key, err)
		}
	}
	if len(s.pages) >= pagesKept {
		clear(s.pages)
	}
	s.pages[key] = p
	return p.standing(work), nil
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

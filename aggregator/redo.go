package aggregator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

// redoPages is how many pages of receipts are looked through at a time.
const redoPages = 64

// resume lets a batch run again: what had been fed and has not ended is fed again first. The queue was recalled at the pause,
// or is now, so that no item waits there twice.
func (f *feeder) resume(ctx context.Context, r *row, w wish) (time.Duration, error) {
	f.leave(r)
	if wait := resumeDelay - time.Since(r.wished); wait > 0 {
		return wait, nil // workers, which drop the items of paused batches, hear of it meanwhile
	}
	// Whoever still has an item when the claims of dead workers are old was not told of the pause before it was over, and runs the item
	// to its end, be it for hours. The others need not wait for that.
	free, err := f.letGo(ctx, r, w.revision, 2*f.held.stale)
	if err != nil || !free {
		return settleTick, err
	}
	feed := r.feed
	feed.Resumes = w.Resumes
	if _, err := f.again(ctx, r, feed); err != nil {
		return 0, err
	}
	return soonTick, nil
}

// again begins a pass over all that was fed.
func (f *feeder) again(ctx context.Context, r *row, feed protocol.Feed) (bool, error) {
	feed.Pass++
	feed.Redo, feed.RedoEnd = 0, feed.Next
	begun, err := f.save(ctx, r, feed)
	if begun {
		r.mine = true
		failpoint.Hit(failpoint.RedoBegun)
	}
	return begun, err
}

// redoSome feeds items again that have no outcome, and returns how many it were.
func (f *feeder) redoSome(ctx context.Context, r *row, most int) (int, error) {
	works, first, end, err := f.unfinished(ctx, r, most)
	if err != nil {
		return 0, err
	}
	if len(works) > 0 {
		if end, err = f.publish(ctx, r, first, end, works); err != nil {
			return 0, err
		}
	}
	feed := r.feed
	feed.Redo = end
	if end >= feed.RedoEnd {
		feed.Redo, feed.RedoEnd = 0, 0
	}
	moved, err := f.save(ctx, r, feed)
	if err != nil || !moved {
		return 0, err
	}
	return len(works), nil
}

// unfinished makes the messages of the next items of a pass that have no outcome, at most so many. first is the index of
// the first of them, end where the pass goes on.
func (f *feeder) unfinished(ctx context.Context, r *row, most int) (works [][]byte, first, end int, err error) {
	forms, err := formsOf(r)
	if err != nil {
		return nil, 0, 0, err
	}
	end = r.feed.Redo
	for range redoPages {
		page := protocol.PageOf(end)
		known, err := f.receipts(ctx, r, page)
		if err != nil {
			return nil, 0, 0, err
		}
		for last := min((page+1)*protocol.PageSize, r.feed.RedoEnd); end < last; end++ {
			if len(works) == most {
				return works, first, end, nil
			}
			receipt := known[end]
			if receipt.State.Final() || r.spares(end) {
				continue
			}
			if len(works) == 0 {
				first = end
			}
			work := forms.works(end, 1, true)
			if len(receipt.Attempts) > 0 {
				if work, err = tried(r, receipt); err != nil {
					return nil, 0, 0, err
				}
			}
			works = append(works, work...)
		}
		if end >= r.feed.RedoEnd {
			break
		}
	}
	return works, first, end, nil
}

// tried makes the message of an item that was tried already.
func tried(r *row, receipt protocol.Receipt) ([][]byte, error) {
	work := workOf(r)
	work.Index, work.Attempts, work.Recheck = receipt.Index, receipt.Attempts, true
	value, err := protocol.Encode(work)
	if err != nil {
		return nil, fmt.Errorf("prepare item %d: %w", receipt.Index, err)
	}
	return [][]byte{value}, nil
}

// receipts reads a page of receipts, by index.
func (f *feeder) receipts(ctx context.Context, r *row, page int) (map[int]protocol.Receipt, error) {
	key := protocol.PageKey(r.key.org, r.key.batch, page)
	if protocol.Inline(r.record.total) {
		key = protocol.SummaryKey(r.key.org, r.key.batch)
	}
	entry, err := f.batches.Get(ctx, key)
	if errors.Is(err, broker.ErrNotFound) {
		return nil, nil //nolint:nilnil // no news of these items, and no error
	}
	if err != nil {
		return nil, fmt.Errorf("read receipts: %w", err)
	}
	var p struct {
		Receipts []protocol.Receipt `json:"receipts"` // so named in a page and in a summary
	}
	if err := json.Unmarshal(entry.Value, &p); err != nil {
		return nil, fmt.Errorf("read the receipts %s: %w", key, err)
	}
	known := make(map[int]protocol.Receipt, len(p.Receipts))
	for i := range p.Receipts {
		known[p.Receipts[i].Index] = p.Receipts[i]
	}
	return known, nil
}

// lastRetry is when the last of the planned retries of a batch is due.
func (f *feeder) lastRetry(ctx context.Context, r *row) (time.Time, error) {
	var last time.Time
	for page := range protocol.Pages(r.feed.Next) {
		known, err := f.receipts(ctx, r, page)
		if err != nil {
			return last, err
		}
		for _, receipt := range known {
			if receipt.State == protocol.ItemRetrying && receipt.RetryAt.After(last) {
				last = receipt.RetryAt
			}
		}
	}
	return last, nil
}

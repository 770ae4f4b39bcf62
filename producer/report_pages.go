package producer

import (
	"context"
	"errors"
	"fmt"

	"github.com/sourcegraph/conc/stream"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// pagesAtOnce is how many pages one call reads and renders at once: as many are in memory, whatever the size of a batch.
const pagesAtOnce = 3

// inOrder calls read for the pages from first to last-1, several at once, and use for what each returned, in order, one at a time. It
// returns the first error of either, and calls nothing any more after it.
func inOrder[T any](ctx context.Context, first, last int, read func(ctx context.Context, page int) (T, error), use func(page int, got T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pages := stream.New().WithMaxGoroutines(pagesAtOnce)
	var failed error // owned by the callbacks, which run one at a time
	for number := first; number < last && ctx.Err() == nil; number++ {
		pages.Go(func() stream.Callback {
			var got T
			err := context.Cause(ctx)
			if err == nil {
				got, err = read(ctx, number)
			}
			return func() {
				if failed == nil && err == nil {
					err = use(number, got)
				}
				if failed == nil && err != nil {
					failed = err
					cancel(err)
				}
			}
		})
	}
	pages.Wait()
	if failed == nil && ctx.Err() != nil {
		return fmt.Errorf("read pages: %w", context.Cause(ctx))
	}
	return failed
}

// row is an item of a batch: what was asked for, and what has become of it.
type row struct {
	item    protocol.ManifestItem
	receipt protocol.Receipt
}

// rows returns the items of a page that a query asks for, in order. The limit and the start of the query mean nothing here.
func (p *Pipeline) rows(ctx context.Context, now *snapshot, number int, q *itemsQuery) ([]row, error) {
	first := number * protocol.PageSize
	n := min(protocol.PageSize, now.record.Total-first)
	receipts, none, err := p.pageOf(ctx, now, first, n, q)
	if err != nil || none {
		return nil, err
	}
	list := make([]row, 0, n)
	for i := range receipts {
		r := &receipts[i]
		now.run(r)
		if q.matches(r) {
			list = append(list, row{receipt: *r})
		}
	}
	if len(list) == 0 {
		return nil, nil
	}
	items, err := p.manifestPage(ctx, &now.record, number)
	if err != nil {
		return nil, err
	}
	if len(items) != n {
		return nil, fmt.Errorf("page %d of %s: it has %d items: %w", number, now.record.Batch, len(items), protocol.ErrSeal)
	}
	for i := range list {
		list[i].item = items[list[i].receipt.Index-first]
		list[i].receipt.ID = list[i].item.ID
	}
	return list, nil
}

// stillThere returns [errBatchRemoved] if a batch of which there was a summary has none any more. Retention removes receipts before or with it,
// so that what was read before a call that returns nil was whole.
func (p *Pipeline) stillThere(ctx context.Context, now *snapshot) error {
	if !now.told {
		return nil
	}
	_, err := p.batches.Get(ctx, protocol.SummaryKey(now.record.Org, now.record.Batch))
	switch {
	case errors.Is(err, broker.ErrNotFound):
		return fmt.Errorf("batch %s: %w", now.record.Batch, errBatchRemoved)
	case err != nil:
		return fmt.Errorf("look whether batch %s is still there: %w", now.record.Batch, err)
	}
	return nil
}

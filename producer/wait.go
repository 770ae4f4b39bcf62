package producer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// lookAgain is how often a waiting call reads the state without having been told of a change: news over core NATS may be
// lost.
const lookAgain = 2 * time.Second

// acceptance reads the accept record of a batch.
func (p *Pipeline) acceptance(ctx context.Context, org protocol.OrgID, id protocol.BatchID) (protocol.Acceptance, bool, error) {
	var record protocol.Acceptance
	found, err := p.read(ctx, protocol.AcceptKey(org, id), &record)
	return record, found, err
}

// summary reads the summary of a batch; there is none before the first news of an item.
func (p *Pipeline) summary(ctx context.Context, org protocol.OrgID, id protocol.BatchID) (protocol.Summary, bool, error) {
	var s protocol.Summary
	found, err := p.read(ctx, protocol.SummaryKey(org, id), &s)
	return s, found, err
}

func (p *Pipeline) read(ctx context.Context, key string, into any) (bool, error) {
	entry, err := p.batches.Get(ctx, key)
	if errors.Is(err, broker.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", key, err)
	}
	if err := json.Unmarshal(entry.Value, into); err != nil {
		return false, fmt.Errorf("read %s: %w", key, err)
	}
	return true, nil
}

// batchWaiter waits for the end of one batch. It listens from its creation on, so that it is made before the first
// item is published.
type batchWaiter struct {
	pipeline *Pipeline
	org      protocol.OrgID
	batch    protocol.BatchID
	changes  <-chan []byte
	stop     func()
}

func (p *Pipeline) wait(org protocol.OrgID, id protocol.BatchID) (*batchWaiter, error) {
	changes, stop, err := p.conn.WatchChanges(org, id)
	if err != nil {
		return nil, fmt.Errorf("wait for batch %s: %w", id, err)
	}
	return &batchWaiter{pipeline: p, org: org, batch: id, changes: changes, stop: stop}, nil
}

// end returns the final summary, or false when ctx ended first. A broker that is away is waited for.
func (w *batchWaiter) end(ctx context.Context) (protocol.Summary, bool) {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		if s, ended := w.look(ctx); ended {
			return s, true
		}
		select {
		case <-ctx.Done():
			return protocol.Summary{}, false
		case news := <-w.changes:
			if s, ended := w.told(news); ended {
				return s, true
			}
		case <-tick.C:
		}
	}
}

// look reads the summary, and reports whether it is final.
func (w *batchWaiter) look(ctx context.Context) (protocol.Summary, bool) {
	s, found, err := w.pipeline.summary(ctx, w.org, w.batch)
	if err != nil && ctx.Err() == nil {
		w.pipeline.log.Warn("a waiting call cannot read its batch; it looks again", "batch", w.batch, "error", err)
	}
	return s, err == nil && found && s.State.Final()
}

// told reads the summary that came with the news of a change, if one did, and reports whether it is final.
func (w *batchWaiter) told(news []byte) (protocol.Summary, bool) {
	var s protocol.Summary
	if len(news) == 0 || json.Unmarshal(news, &s) != nil {
		return s, false
	}
	return s, s.Org == w.org && s.Batch == w.batch && s.State.Final()
}

// receipts returns the receipts of the items from first on, at most n, in index order. An item without news
// comes as queued, or as the rest ended where the batch was stopped.
func (p *Pipeline) receipts(ctx context.Context, record *protocol.Acceptance, summary *protocol.Summary, first, n int) ([]protocol.Receipt, error) {
	n = min(n, record.Total-first)
	if n <= 0 {
		return nil, nil
	}
	list := noNews(record, first, n)
	if protocol.Inline(record.Total) {
		lay(list, summary.Receipts)
	} else {
		for number := protocol.PageOf(first); number <= protocol.PageOf(first+n-1); number++ {
			var page protocol.Page
			if _, err := p.read(ctx, protocol.PageKey(record.Org, record.Batch, number), &page); err != nil {
				return nil, err
			}
			lay(list, page.Receipts)
		}
	}
	for i := range list {
		list[i] = summary.Settle(list[i])
	}
	return list, nil
}

// noNews returns n receipts of items that nothing is known of, from first on. There is at least one.
func noNews(record *protocol.Acceptance, first, n int) []protocol.Receipt {
	list := make([]protocol.Receipt, n)
	for i := range list {
		list[i] = protocol.Receipt{Index: first + i, State: protocol.ItemQueued}
		if first+i < len(record.IDs) {
			list[i].ID = record.IDs[first+i]
		}
	}
	return list
}

// lay puts what is stored in the place of what is in the list.
func lay(list, stored []protocol.Receipt) {
	for i := range stored {
		if at := stored[i].Index - list[0].Index; at >= 0 && at < len(list) {
			list[at] = stored[i]
		}
	}
}

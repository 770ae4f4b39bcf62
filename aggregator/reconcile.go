package aggregator

import (
	"context"
	"time"
)

const (
	maxWaits  = 4 // bounds how much longer the reconciler waits each time it found nothing
	heldWaits = 6 // times as long it waits while anything was delivered and not acknowledged, be it of another batch
)

// reconcile notices what got lost inside the queue: a batch that is fed as far as it may be, of which nothing was heard for long, nothing waits in
// the queue and no worker holds anything. Its items are fed again. If they were not lost after all, workers find that by
// their receipts and the claims on them.
func (f *feeder) reconcile(ctx context.Context, r *row, s glimpse) error {
	if r.record.empty || time.Since(r.stirred) < f.cfg.RecoverAfter<<min(r.waits, maxWaits) {
		return nil
	}
	if somewhere, err := f.somewhere(ctx, r); err != nil || somewhere {
		return err
	}
	if s.Tally.Retrying > 0 {
		due, err := f.lastRetry(ctx, r)
		if err != nil || time.Now().Before(due) {
			return err
		}
	}
	free, err := f.letGo(ctx, r, recoverKey+uint64(r.feed.Pass), 0) //nolint:gosec // never negative
	if err != nil || !free {
		return err
	}
	begun, err := f.again(ctx, r, r.feed)
	if err != nil || !begun {
		return err
	}
	r.stirred = time.Now()
	r.waits++
	f.soon(r)
	f.log.Warn("items of a batch seem to be lost in the queue and are fed again", "batch", r.key.batch, "ended", s.Tally.Ended(), "total", r.record.total)
	return nil
}

// somewhere reports whether something of a batch waits in the queue, is planned for later, or may have been handed back for a while.
func (f *feeder) somewhere(ctx context.Context, r *row) (bool, error) {
	shard := r.record.shard(r.key.org)
	waits, err := f.conn.Waits(ctx, shard, r.key.org, r.key.batch) // of this batch: something of others waits in a busy shard at all times
	if err != nil || waits {
		return waits, err //nolint:wrapcheck // says what it was
	}
	backlog, err := f.conn.Backlog(ctx, shard)
	if err != nil {
		return false, err //nolint:wrapcheck // says what it was
	}
	if backlog.Held > 0 && time.Since(r.stirred) < heldWaits*f.cfg.RecoverAfter {
		return true, nil // they may be its items, handed back for a while
	}
	return f.conn.Planned(ctx, r.key.org, r.key.batch) //nolint:wrapcheck // says what it was
}

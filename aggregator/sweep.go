package aggregator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	deadClaim  = 10 * time.Minute // since a worker last wrote its record; living ones do so every 30 s
	watchAgain = time.Second
)

// open is a batch that is not known to have ended.
type open struct {
	created  time.Time
	progress uint64    // of a manifest that is being written
	moved    time.Time // when that changed
}

// sweep finds what crashes left: acceptances that nobody completes, accepted batches that nobody looks after, the claims of dead
// workers whose items have all ended, and what is left of items in parts.
func (a *Aggregator) sweep(ctx context.Context) {
	pending := map[string]*open{} // by key of the accept record
	for ctx.Err() == nil {
		watching, cancel := context.WithCancel(ctx)
		records, err := a.bucket.Watch(watching, "*.*.accept")
		if err != nil {
			a.warn(ctx, "watch acceptances", err)
			waitFor(ctx, watchAgain)
		} else {
			a.sweepRecords(ctx, records, pending)
		}
		cancel()
	}
}

func (a *Aggregator) sweepRecords(ctx context.Context, records <-chan broker.Watched, pending map[string]*open) {
	tick := time.NewTicker(a.cfg.SweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case w, ok := <-records:
			if !ok {
				return
			}
			note(pending, w)
		case <-a.ends.news:
			ended, _, _ := a.ends.take()
			for key := range ended {
				delete(pending, key+".accept")
			}
		case <-tick.C:
			a.settleAll(ctx, pending)
			if err := a.sweepClaims(ctx); err != nil {
				a.warn(ctx, "sweep claims", err)
			}
			if err := a.sweepParts(ctx); err != nil {
				a.warn(ctx, "sweep parts", err)
			}
		}
	}
}

func note(pending map[string]*open, w broker.Watched) {
	if w.Current {
		return
	}
	var record protocol.Acceptance
	if w.Deleted || json.Unmarshal(w.Entry.Value, &record) != nil {
		delete(pending, w.Entry.Key)
		return
	}
	pending[w.Entry.Key] = &open{created: record.Created, moved: time.Now()} // not the record: there may be many
}

func (a *Aggregator) settleAll(ctx context.Context, pending map[string]*open) {
	for key, o := range pending {
		if time.Since(o.created) < a.cfg.AbandonAfter {
			continue
		}
		settled, err := a.settleAcceptance(ctx, key, o)
		if err != nil {
			a.warn(ctx, "settle an acceptance", err)
			if ctx.Err() != nil {
				return
			}
			continue
		}
		if settled {
			delete(pending, key)
		}
	}
}

// settleAcceptance looks after one acceptance and reports whether it needs no more looking after.
func (a *Aggregator) settleAcceptance(ctx context.Context, key string, o *open) (bool, error) {
	entry, err := a.bucket.Get(ctx, key)
	if errors.Is(err, broker.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", key, err)
	}
	var record protocol.Acceptance
	if err := json.Unmarshal(entry.Value, &record); err != nil {
		return true, fmt.Errorf("read %s: %w", key, err)
	}
	accepted := record.State == protocol.AcceptComplete
	switch {
	case record.State == protocol.AcceptAbandoned:
		return a.dropManifest(ctx, &record)
	case time.Since(record.Created) < a.cfg.AbandonAfter:
		return false, nil
	case accepted:
	case record.Fed():
		moves, err := a.moves(ctx, &record, o)
		if err != nil || moves {
			return false, err
		}
	case record.Chunks == 1:
		if accepted, err = published(ctx, a.conn, a.bucket, a.feeder.controls, &record); err != nil {
			return false, err
		}
	}
	if accepted {
		return a.lookedAfter(ctx, &record)
	}
	return a.abandon(ctx, &record, entry)
}

// moves reports whether somebody is still writing the manifest of a pending batch.
func (a *Aggregator) moves(ctx context.Context, record *protocol.Acceptance, o *open) (bool, error) {
	name := protocol.ControlKey(record.Org, record.Batch)
	pages, err := a.manifests.Count(ctx, manifestFilter(record, record.Generation))
	if err != nil {
		return false, err //nolint:wrapcheck // says what it was
	}
	feed, err := a.feeder.feeds.Get(ctx, name)
	if err != nil && !errors.Is(err, broker.ErrNotFound) {
		return false, err //nolint:wrapcheck // says what it was
	}
	if progress := feed.Revision + uint64(pages); progress != o.progress { //nolint:gosec // never negative
		o.progress, o.moved = progress, time.Now()
	}
	return time.Since(o.moved) < a.cfg.AbandonAfter, nil
}

// lookedAfter sees to it that an accepted batch that has not ended by now has a feed record: the feeder notices if its items are lost.
func (a *Aggregator) lookedAfter(ctx context.Context, record *protocol.Acceptance) (bool, error) {
	over, err := a.ended(ctx, protocol.Ref{Org: record.Org, Batch: record.Batch})
	if err != nil || over {
		return over, err
	}
	if err := lookAfter(ctx, a.feeder.feeds, record); err != nil {
		return false, err
	}
	return true, nil
}

func (a *Aggregator) abandon(ctx context.Context, record *protocol.Acceptance, entry broker.Entry) (bool, error) {
	record.State = protocol.AcceptAbandoned
	value, err := protocol.Encode(record)
	if err != nil {
		return false, fmt.Errorf("abandon %s: %w", record.Batch, err)
	}
	_, err = a.bucket.Update(ctx, broker.Change{Key: entry.Key, Value: value, Revision: entry.Revision})
	if errors.Is(err, broker.ErrConflict) {
		return true, nil // somebody was at it after all; the watch tells what it is now
	}
	if err != nil {
		return false, fmt.Errorf("abandon %s: %w", record.Batch, err)
	}
	a.cfg.Logger.Warn("abandoned a batch whose acceptance was never completed; its caller got no answer", "batch", record.Batch, "items", record.Total)
	return a.dropManifest(ctx, record)
}

// dropManifest removes the pages that an abandoned acceptance left. Those of a later try are not among them.
func (a *Aggregator) dropManifest(ctx context.Context, record *protocol.Acceptance) (bool, error) {
	if !record.Fed() {
		return true, nil
	}
	for generation := range record.Generation + 1 {
		if err := a.manifests.DropAll(ctx, manifestFilter(record, generation)); err != nil {
			return false, err //nolint:wrapcheck // says what it was
		}
	}
	return true, nil
}

func manifestFilter(record *protocol.Acceptance, generation int) string {
	return protocol.ControlKey(record.Org, record.Batch) + "." + strconv.Itoa(generation) + ".>"
}

// published reports whether a batch was accepted whose items the front publishes in one chunk: the chunk is in the queue, or there
// is news of its items, or somebody acted upon the batch, which takes the items out of the queue.
func published(ctx context.Context, conn *broker.Conn, batches, controls *broker.Bucket, record *protocol.Acceptance) (bool, error) {
	_, err := batches.Get(ctx, protocol.SummaryKey(record.Org, record.Batch))
	if errors.Is(err, broker.ErrNotFound) {
		_, err = controls.Get(ctx, protocol.ControlKey(record.Org, record.Batch))
	}
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, broker.ErrNotFound) {
		return false, fmt.Errorf("look for news of %s: %w", record.Batch, err)
	}
	for _, subject := range []string{record.Guard(0), record.Subject()} {
		there, err := conn.Published(ctx, record.Lane, subject)
		if err != nil {
			return false, fmt.Errorf("look for the items of %s: %w", record.Batch, err)
		}
		if there {
			return true, nil
		}
	}
	return false, nil
}

// sweepClaims removes the claims of dead workers once each item in them has its outcome. Until then they are
// what tells a later owner that the item has taken a worker down.
func (a *Aggregator) sweepClaims(ctx context.Context) error {
	entries, err := a.claims.List(ctx, ">")
	if err != nil {
		return fmt.Errorf("read claims: %w", err)
	}
	for _, e := range entries {
		var claim protocol.Claim
		if err := json.Unmarshal(e.Value, &claim); err != nil {
			return fmt.Errorf("read claim %s: %w", e.Key, err)
		}
		if time.Since(claim.Written) < deadClaim {
			continue
		}
		over, err := a.allEnded(ctx, claim.Held)
		if err != nil {
			return err
		}
		if over {
			if err := a.claims.Drop(ctx, e.Key); err != nil {
				return fmt.Errorf("remove claim %s: %w", e.Key, err)
			}
		}
	}
	return nil
}

func (a *Aggregator) allEnded(ctx context.Context, held []protocol.HeldClaim) (bool, error) {
	for _, h := range held {
		final, err := a.ended(ctx, h.Ref)
		if err != nil || !final {
			return false, err
		}
	}
	return true, nil
}

// ended reports whether an item has its outcome, or its batch is no more.
func (a *Aggregator) ended(ctx context.Context, ref protocol.Ref) (bool, error) {
	entry, err := a.bucket.Get(ctx, protocol.SummaryKey(ref.Org, ref.Batch))
	if errors.Is(err, broker.ErrNotFound) {
		_, err = a.bucket.Get(ctx, protocol.AcceptKey(ref.Org, ref.Batch))
		return errors.Is(err, broker.ErrNotFound), ignoreNotFound(err)
	}
	if err != nil {
		return false, fmt.Errorf("look for the outcome of %d of %s: %w", ref.Index, ref.Batch, err)
	}
	var summary protocol.Summary
	if err := json.Unmarshal(entry.Value, &summary); err != nil {
		return false, fmt.Errorf("read the summary of %s: %w", ref.Batch, err)
	}
	return summary.State.Final(), nil // an item of a running batch is looked at again later
}

func ignoreNotFound(err error) error {
	if errors.Is(err, broker.ErrNotFound) {
		return nil
	}
	return err
}

func waitFor(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

package aggregator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	settleTick                 = 50 * time.Millisecond // between looks at a batch that workers are to let go of
	haltLeast, haltMost        = time.Second, 30 * time.Second
	foldLimit                  = 30 * time.Second // without any report being folded, of those that were stored when workers had let go
	resumeDelay                = 200 * time.Millisecond
	maxTries                   = 20 // of a write that others are faster with
	maxBare                    = 10_000
	recoverKey          uint64 = 1 << 63 // as a revision: the queue was purged for a recovery, not for a control
)

// stop ends a batch: what waits is taken out of the queue, and once no worker holds anything of it, and all that was reported is
// folded, one write says for all other items that they were canceled.
func (f *feeder) stop(ctx context.Context, r *row, w wish) (time.Duration, error) {
	f.leave(r)
	s, err := f.glimpse(ctx, r)
	if err != nil {
		return 0, err
	}
	if s.State.Final() {
		return f.ended(ctx, r, s)
	}
	free, err := f.letGo(ctx, r, w.revision, 0)
	if err != nil || !free {
		return settleTick, err
	}
	if err := f.clean(ctx, r); err != nil {
		return 0, err
	}
	if err := f.cancelRest(ctx, r, w.Reason); err != nil {
		return 0, err
	}
	failpoint.Hit(failpoint.RestCanceled)
	if err := f.conn.Changed(r.key.org, r.key.batch, true); err != nil {
		f.log.Debug("a waiter was not told and will look by itself", "batch", r.key.batch, "error", err)
	}
	return soonTick, nil
}

// halt pauses a batch: it is not fed, and what waits is taken out of the queue. Workers let go of what runs.
func (f *feeder) halt(ctx context.Context, r *row, w wish) (time.Duration, error) {
	f.leave(r)
	s, err := f.glimpse(ctx, r)
	if err != nil {
		return 0, err
	}
	if s.State.Final() {
		return f.ended(ctx, r, s)
	}
	if err := f.recall(ctx, r, w.revision); err != nil {
		return 0, err
	}
	return r.later(haltLeast, haltMost), nil
}

// recall takes out of the queue what waits of a batch, once for each revision of its control.
func (f *feeder) recall(ctx context.Context, r *row, revision uint64) error {
	if r.recalled == revision {
		return nil
	}
	if err := f.conn.Recall(ctx, r.record.lane, r.record.pool, r.key.org, r.key.batch); err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	failpoint.Hit(failpoint.Recalled)
	r.recalled, r.recalledAt, r.mark, r.marked, r.spared = revision, time.Now(), 0, time.Time{}, nil
	return nil
}

// letGo reports whether nobody has anything to do with a batch any more whose queue was recalled for a control: no living
// worker claims an item without an outcome, and every report that was stored by then is folded. Who claims an item later finds
// the control. After patience, unless 0, the items that are still claimed are spared: they are left with those who run them.
func (f *feeder) letGo(ctx context.Context, r *row, revision uint64, patience time.Duration) (bool, error) {
	if err := f.recall(ctx, r, revision); err != nil {
		return false, err
	}
	if r.marked.IsZero() {
		indexes, err := f.held.of(ctx, r.key, r.recalledAt)
		if err != nil {
			return false, err
		}
		open, err := f.open(ctx, r, indexes)
		if err != nil || len(open) > 0 && (patience == 0 || time.Since(r.recalledAt) < patience) {
			return false, err
		}
		owned, err := f.held.owned(ctx, r.key, r.recalledAt)
		if err != nil {
			return false, err
		}
		// Who goes on with a part of an item that its owner let go of does not bring the item to its end.
		r.spared = slices.DeleteFunc(open, func(index int) bool { return !slices.Contains(owned, index) })
	}
	floor, last, err := f.conn.ReportFloor(ctx)
	if err != nil {
		return false, err //nolint:wrapcheck // says what it was
	}
	if r.marked.IsZero() {
		r.mark, r.marked = last, time.Now()
		r.folded, r.moved = floor, r.marked
	}
	if floor != r.folded {
		r.folded, r.moved = floor, time.Now() // a fold that is behind is waited for: what it has to tell is no less true
	}
	if floor < r.mark && time.Since(r.moved) > foldLimit {
		f.log.Warn("settling a batch although reports wait that cannot be folded", "batch", r.key.batch)
		return true, nil
	}
	return floor >= r.mark, nil
}

// cancelRest writes for all items without an outcome that they were canceled.
func (f *feeder) cancelRest(ctx context.Context, r *row, reason string) error {
	key := protocol.SummaryKey(r.key.org, r.key.batch)
	for range maxTries {
		summary := protocol.Summary{Batch: r.key.batch, Org: r.key.org, Lane: r.record.lane, Total: r.record.total, State: protocol.BatchQueued}
		entry, err := f.batches.Get(ctx, key)
		if err != nil && !errors.Is(err, broker.ErrNotFound) {
			return fmt.Errorf("stop batch %s: %w", r.key.batch, err)
		}
		if err == nil {
			if err := json.Unmarshal(entry.Value, &summary); err != nil {
				return fmt.Errorf("stop batch %s: %w", r.key.batch, err)
			}
		}
		if summary.State.Final() {
			return nil
		}
		value, err := protocol.Encode(rest(summary, reason, r.unsure, time.Now().UTC()))
		if err != nil {
			return fmt.Errorf("stop batch %s: %w", r.key.batch, err)
		}
		_, err = f.batches.Update(ctx, broker.Change{Key: key, Value: value, Revision: entry.Revision})
		if !errors.Is(err, broker.ErrConflict) {
			return err //nolint:wrapcheck // says what it was
		}
	}
	return fmt.Errorf("stop batch %s: %w", r.key.batch, broker.ErrConflict)
}

// order writes what an option of a batch demands. What was wanted before goes on to count: a stop is final.
func (f *feeder) order(ctx context.Context, key batchKey, wanted protocol.Wanted, reason string) error {
	name := protocol.ControlKey(key.org, key.batch)
	control := protocol.Control{Org: key.org, Batch: key.batch}
	entry, err := f.controls.Get(ctx, name)
	if err != nil && !errors.Is(err, broker.ErrNotFound) {
		return fmt.Errorf("act upon batch %s: %w", key.batch, err)
	}
	if err == nil {
		if err := json.Unmarshal(entry.Value, &control); err != nil {
			return fmt.Errorf("act upon batch %s: %w", key.batch, err)
		}
	}
	if control.Wanted == protocol.WantStop || reason == protocol.ReasonCanary && control.CanaryDone {
		f.wished(name, wish{control, entry.Revision})
		return nil
	}
	control.Version, control.At = protocol.ControlVersion, time.Now().UTC()
	control.Wanted, control.Reason = wanted, reason
	control.CanaryDone = control.CanaryDone || reason == protocol.ReasonCanary
	value, err := protocol.Encode(control)
	if err != nil {
		return fmt.Errorf("act upon batch %s: %w", key.batch, err)
	}
	revision, err := f.controls.Update(ctx, broker.Change{Key: name, Value: value, Revision: entry.Revision})
	if errors.Is(err, broker.ErrConflict) {
		return nil // the next look sees what it is now
	}
	if err != nil {
		return fmt.Errorf("act upon batch %s: %w", key.batch, err)
	}
	failpoint.Hit(failpoint.ControlOrdered)
	f.log.Info("an option of a batch takes effect", "batch", key.batch, "wanted", wanted, "reason", reason)
	f.wished(name, wish{control, revision})
	if err := f.conn.Changed(key.org, key.batch, false); err != nil {
		f.log.Debug("a waiter was not told and will look by itself", "batch", key.batch, "error", err)
	}
	return nil
}

// suspect looks after a batch with failed items that has no feed record: if too many failures are to stop it, it gets one.
func (f *feeder) suspect(ctx context.Context, key batchKey) error {
	name := protocol.ControlKey(key.org, key.batch)
	if f.rows[name] != nil || f.bare[name] {
		return nil
	}
	entry, err := f.batches.Get(ctx, protocol.AcceptKey(key.org, key.batch))
	if err != nil && !errors.Is(err, broker.ErrNotFound) {
		return fmt.Errorf("read an accept record: %w", err)
	}
	var record protocol.Acceptance
	if err == nil {
		if err := json.Unmarshal(entry.Value, &record); err != nil {
			return fmt.Errorf("read the accept record of %s: %w", key.batch, err)
		}
	}
	if !record.Options.MaxFailed.Given {
		if len(f.bare) >= maxBare {
			clear(f.bare)
		}
		f.bare[name] = true
		return nil
	}
	return lookAfter(ctx, f.feeds, &record)
}

// lookAfter gives a batch a feed record, whose items are all taken to be in the queue. It is no error if it has one.
func lookAfter(ctx context.Context, feeds *broker.Bucket, record *protocol.Acceptance) error {
	now := time.Now().UTC()
	value, err := protocol.Encode(protocol.Feed{Version: protocol.FeedVersion, Org: record.Org, Batch: record.Batch, Next: record.Total, At: now, Created: now})
	if err != nil {
		return fmt.Errorf("look after batch %s: %w", record.Batch, err)
	}
	_, err = feeds.Create(ctx, protocol.ControlKey(record.Org, record.Batch), value)
	if err != nil && !errors.Is(err, broker.ErrExists) {
		return fmt.Errorf("look after batch %s: %w", record.Batch, err)
	}
	return nil
}

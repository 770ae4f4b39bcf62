package aggregator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

// removeAtOnce bounds how many batches are found before they are removed.
const removeAtOnce = 500

// retain removes batches whose time is over, with all that is known of them. One that has not ended stays, whatever its age.
func (a *Aggregator) retain(ctx context.Context) {
	tick := time.NewTicker(a.cfg.RetainEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		removed, err := a.removeEnded(ctx)
		if err == nil {
			err = a.removeAbandoned(ctx)
		}
		if err != nil {
			a.warn(ctx, "remove batches whose time is over", err)
		}
		if removed > 0 {
			a.cfg.Logger.Info("removed batches whose time is over", "batches", removed)
		}
	}
}

// removeEnded removes the batches that ended long ago. Acceptance and summary go last, at once: whatever crashes before, the summary
// still says that the batch has ended, and finds it again; and a new batch that gets the id, from an Idempotency-Key that is used
// again, never meets the summary of the old one.
func (a *Aggregator) removeEnded(ctx context.Context) (int, error) {
	removed := 0
	for {
		var old []glimpsed
		err := a.bucket.Scan(ctx, "*.*.summary", func(s broker.Scanned) bool {
			if time.Since(s.Written) < a.cfg.Retention {
				return false
			}
			var g glimpsed
			if json.Unmarshal(s.Value, &g) == nil && g.State.Final() {
				g.revision = s.Revision
				old = append(old, g)
			}
			return len(old) < removeAtOnce
		})
		if err != nil {
			return removed, err //nolint:wrapcheck // says what it was
		}
		for _, g := range old {
			if err := a.remove(ctx, g); err != nil {
				return removed, fmt.Errorf("remove batch %s: %w", g.Batch, err)
			}
			removed++
		}
		if len(old) < removeAtOnce {
			return removed, nil
		}
	}
}

// glimpsed is what is read of the summary of an old batch.
type glimpsed struct {
	Org   protocol.OrgID      `json:"org"`
	Batch protocol.BatchID    `json:"batch"`
	Total int                 `json:"total"`
	State protocol.BatchState `json:"state"`

	revision uint64
}

func (a *Aggregator) remove(ctx context.Context, g glimpsed) error {
	name := protocol.ControlKey(g.Org, g.Batch)
	last, err := a.remains(ctx, g)
	if err != nil || len(last) == 0 {
		return err
	}
	for _, bucket := range []*broker.Bucket{a.feeder.feeds, a.feeder.controls} {
		if err := deleteIfThere(ctx, bucket, name); err != nil {
			return err
		}
	}
	if err := a.manifests.DropAll(ctx, protocol.BatchFilter(g.Org, g.Batch)); err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	if err := a.parts.bucket.DropAll(ctx, protocol.BatchFilter(g.Org, g.Batch)); err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	if !protocol.Inline(g.Total) {
		if err := a.bucket.DropAll(ctx, name+".page.>"); err != nil {
			return err //nolint:wrapcheck // says what it was
		}
	}
	if err := a.bucket.Drop(ctx, protocol.RerunKey(g.Org, g.Batch)); err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	failpoint.Hit(failpoint.BatchEmptied)
	if err := a.bucket.DropTogether(ctx, last...); err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	failpoint.Hit(failpoint.BatchRemoved)
	return nil
}

// remains returns the summary and the acceptance of a batch, if they are those that were found: another aggregator may have removed
// them meanwhile, and a new batch have got the id.
func (a *Aggregator) remains(ctx context.Context, g glimpsed) ([]broker.Entry, error) {
	summary, err := a.bucket.Get(ctx, protocol.SummaryKey(g.Org, g.Batch))
	if errors.Is(err, broker.ErrNotFound) || err == nil && summary.Revision != g.revision {
		return nil, nil
	}
	if err != nil {
		return nil, err //nolint:wrapcheck // says what it was
	}
	accept, err := a.bucket.Get(ctx, protocol.AcceptKey(g.Org, g.Batch))
	if errors.Is(err, broker.ErrNotFound) {
		return []broker.Entry{summary}, nil
	}
	if err != nil {
		return nil, err //nolint:wrapcheck // says what it was
	}
	return []broker.Entry{accept, summary}, nil
}

// deleteIfThere deletes a key so that those who watch it know. The feeder removes the marker later.
func deleteIfThere(ctx context.Context, bucket *broker.Bucket, key string) error {
	entry, err := bucket.Get(ctx, key)
	if errors.Is(err, broker.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	_, err = bucket.DeleteAt(ctx, key, entry.Revision)
	return err //nolint:wrapcheck // says what it was
}

// removeAbandoned removes what is left of calls that were never accepted. Until then their callers may repeat them.
func (a *Aggregator) removeAbandoned(ctx context.Context) error {
	var old []broker.Entry
	err := a.bucket.Scan(ctx, "*.*.accept", func(s broker.Scanned) bool {
		if time.Since(s.Written) < a.cfg.Retention {
			return false
		}
		var record protocol.Acceptance
		if json.Unmarshal(s.Value, &record) == nil && record.State == protocol.AcceptAbandoned {
			old = append(old, broker.Entry{Key: s.Key, Revision: s.Revision})
		}
		return len(old) < removeAtOnce
	})
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	for _, e := range old {
		name := strings.TrimSuffix(e.Key, ".accept")
		for _, bucket := range []*broker.Bucket{a.feeder.feeds, a.feeder.controls} {
			if err := deleteIfThere(ctx, bucket, name); err != nil {
				return err
			}
		}
		if err := a.bucket.DropAt(ctx, e.Key, e.Revision); err != nil {
			return err //nolint:wrapcheck // says what it was
		}
	}
	return nil
}

package aggregator

import (
	"context"
	"fmt"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/observe"
)

// showLag shows how far behind the fold and the feed are.
func (a *Aggregator) showLag(reader *broker.ReportReader) error {
	err := a.cfg.Metrics.WatchLag(func(ctx context.Context) (observe.Lag, error) {
		bundles, err := reader.Backlog(ctx)
		if err != nil {
			return observe.Lag{}, fmt.Errorf("aggregator: %w", err)
		}
		return observe.Lag{Bundles: bundles, Unfed: int(a.feeder.unfed.Load())}, nil
	})
	if err != nil {
		return fmt.Errorf("aggregator: %w", err)
	}
	return nil
}

// Results of commits, as they are counted.
const (
	commitOK     = "ok"
	commitLost   = "lost" // a race against another aggregator
	commitFailed = "failed"
)

func (a *Aggregator) measure(ctx context.Context, begun time.Time, lost []unit, err error) {
	result := commitOK
	switch {
	case err != nil:
		result = commitFailed
	case len(lost) > 0:
		result = commitLost
	}
	a.cfg.Metrics.Commit(ctx, result, time.Since(begun))
}

// weigh counts the items that this feeder has yet to feed.
func (f *feeder) weigh() {
	left := 0
	for _, r := range f.rows {
		if r.mine && r.record != nil {
			left += r.record.total - r.feed.Next + r.feed.RedoEnd - min(r.feed.Redo, r.feed.RedoEnd)
		}
	}
	f.unfed.Store(int64(left))
}

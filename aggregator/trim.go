package aggregator

import (
	"context"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
)

// trimAnyway is how long a few messages may lie before they are trimmed, too.
const trimAnyway = 15 * time.Minute

// trim removes from the queue what was acknowledged a while ago. A Limits stream makes acknowledging
// cheap; this is its other half: one purge up to a floor, in place of a synced deletion an item. The
// delay keeps the guard messages of young batches, and lets every outcome reach its receipt first.
//
// It is done seldom, when it is worth it: a purge makes the server forget which items were handed back and wait for
// redelivery (nats-server v2.15.2, consumer.purge keeps only what lies above the next sequence), so that those come only
// when their AckWait is over.
func (a *Aggregator) trim(ctx context.Context) {
	tick := time.NewTicker(a.cfg.TrimEvery)
	defer tick.Stop()
	type mark struct {
		at     time.Time
		floors broker.Floors
		last   uint64 // the newest bundle of reports then: what was acknowledged by then is in it or before it
	}
	var marks []mark
	trimmed := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		floors, err := a.conn.Floors(ctx)
		if err != nil {
			a.warn(ctx, "read acknowledgement floors", err)
			continue
		}
		last, err := a.conn.LastReport(ctx)
		if err != nil {
			a.warn(ctx, "read the end of the report stream", err)
			continue
		}
		marks = append(marks, mark{time.Now(), floors, last})
		due := -1
		for i, m := range marks {
			if time.Since(m.at) >= a.cfg.TrimAfter && floors.Folded(m.last) {
				due = i
			}
		}
		if due < 0 {
			continue
		}
		least := a.cfg.TrimLeast
		if time.Since(trimmed) > trimAnyway {
			least = 1
			trimmed = time.Now()
		}
		if err := a.conn.Trim(ctx, marks[due].floors, least); err != nil {
			a.warn(ctx, "trim the queue", err)
			continue
		}
		failpoint.Hit(failpoint.Trimmed)
		marks = marks[due+1:]
	}
}

// warn logs what a background task could not do; at a shutdown that is no news.
func (a *Aggregator) warn(ctx context.Context, task string, err error) {
	if ctx.Err() == nil {
		a.cfg.Logger.Warn("a background task failed and will be tried again", "task", task, "error", err)
	}
}

package worker

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/sourcegraph/conc/pool"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	fetchRetry   = 500 * time.Millisecond // after the broker did not answer
	twice        = time.Second            // until an item that this worker runs already is looked at again
	newerVersion = 5 * time.Second        // until a message of a newer build is offered to another worker
)

// takeWork fetches items for free slots and starts them, until the intake's context ends.
func (w *Worker) takeWork(ctx, work context.Context, running *pool.Pool) {
	for ctx.Err() == nil {
		free, freeBulk := w.slots.available()
		if free == 0 {
			select {
			case <-ctx.Done():
			case <-w.slots.released:
			}
			continue
		}
		deliveries, err := w.intake.Fetch(ctx, free, freeBulk)
		if err != nil && ctx.Err() == nil {
			w.cfg.Logger.Warn("cannot fetch work", "error", err)
			w.pause(ctx, fetchRetry)
		}
		if len(deliveries) > 0 {
			failpoint.Hit(failpoint.Fetched)
			w.start(ctx, work, running, deliveries)
			continue
		}
		if err := w.intake.Wait(ctx, freeBulk > 0, w.slots.released); err != nil && ctx.Err() == nil {
			w.cfg.Logger.Warn("cannot wait for work", "error", err)
		}
	}
}

func (w *Worker) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// job is an item on its way through the worker.
type job struct {
	work     protocol.Work
	delivery *broker.Delivery
	held     *held

	asked      *protocol.ManifestItem // what is to be copied; shared with other items, and set once the item has its slot
	unreadable error                  // why it is not known
}

// start claims what was fetched, durably and at once for all, and starts each item in its slot.
func (w *Worker) start(ctx, work context.Context, running *pool.Pool, deliveries []*broker.Delivery) {
	jobs := make([]*job, 0, len(deliveries))
	for _, d := range deliveries {
		if j := w.admit(ctx, d); j != nil {
			jobs = append(jobs, j)
		}
	}
	if len(jobs) == 0 {
		return
	}
	if err := w.claims.add(ctx, jobs); err != nil {
		w.cfg.Logger.Warn("cannot claim work; giving it back", "items", len(jobs), "error", err)
		for _, j := range jobs {
			w.giveBack(j, fetchRetry)
		}
		w.pause(ctx, fetchRetry)
		return
	}
	failpoint.Hit(failpoint.ClaimStored)
	for _, j := range jobs {
		release := w.slots.take(j.work.Lane != protocol.Interactive)
		running.Go(func() {
			defer release()
			w.run(work, j)
		})
	}
}

// admit decides whether a delivery is to be run at all, and returns nil if not.
func (w *Worker) admit(ctx context.Context, d *broker.Delivery) *job {
	j := &job{delivery: d}
	if err := json.Unmarshal(d.Data, &j.work); err != nil {
		// Nobody can tell whose it is. It was written by us, so this is a broken disk or a bug.
		w.cfg.Logger.Error("dropping a message that is no work item", "bytes", len(d.Data), "error", err)
		w.ack(j)
		return nil
	}
	if j.work.Version > protocol.WorkVersion {
		w.giveBack(j, newerVersion)
		return nil
	}
	if w.claims.holds(j.work.Ref()) {
		w.giveBack(j, twice)
		return nil
	}
	done, err := w.settled.look(ctx, &j.work, j.repeated())
	switch {
	case err != nil:
		w.cfg.Logger.Warn("cannot look up an item; giving it back", "batch", j.work.Batch, "index", j.work.Index, "error", err)
		w.giveBack(j, fetchRetry)
		return nil
	case done:
		w.ack(j)
		return nil
	}
	return j
}

// repeated reports whether the item may have been delivered before. A retry counts: a crash between planning and reporting it
// leaves it beside the old delivery.
func (j *job) repeated() bool {
	return j.delivery.Repeated || j.work.Recheck || len(j.work.Attempts) > 0
}

func (w *Worker) ack(j *job) {
	if err := j.delivery.Ack(); err != nil {
		w.cfg.Logger.Info("an acknowledgement was not sent; the item will come again and be found done", "error", err)
	}
}

func (w *Worker) giveBack(j *job, delay time.Duration) {
	if err := j.delivery.Nak(delay); err != nil && !errors.Is(err, broker.ErrUnavailable) {
		w.cfg.Logger.Warn("an item was not handed back; it waits for its time to end", "error", err)
	}
}

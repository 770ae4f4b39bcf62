package worker

import (
	"context"
	"errors"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/internal/hosts"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	fetchRetry   = 500 * time.Millisecond // after the broker did not answer
	twice        = time.Second            // until an item that this worker runs already is looked at again
	newerVersion = 5 * time.Second        // until a message of a newer build is offered to another worker
)

// job is an item on its way through the worker.
type job struct {
	work     protocol.Work
	delivery *broker.Delivery
	held     *held

	ctx       context.Context         // of the work on this item; ends with it, with the worker's, or with the caller's wish for it
	cancel    context.CancelCauseFunc // ends it
	clearance *clearance              // of all that were claimed with it
	sweep     bool                    // it is not to be run any more: only what dead owners left is to be removed
	parted    bool                    // it has begun to be moved in parts
	unplanned bool                    // there is no plan of parts of it
	planned   uint64                  // the revision of its plan that was written here; 0: none was
	entered   time.Time               // when it began to run
	out       bool                    // it has left its slot, and waits for parts
	alone     bool                    // it runs alone, or did until there was something to tell

	asked      *protocol.ManifestItem // what is to be copied; shared with other items, and set once the item has its slot
	unreadable error                  // why it is not known
	visit      *hosts.Visit           // at the hosts of the item; nil: it has not entered them, or needs none
	gates      []hosts.Key            // of the visit
	parked     bool                   // it is put away, and waits for its host
	aside      bool                   // it has left its slot to another while it waited for them
}

func (j *job) bulk() bool { return j.work.Lane != protocol.Interactive }

// repeated reports whether the item may have been delivered before. A retry counts: a crash between planning and reporting it
// leaves it beside the old delivery.
func (j *job) repeated() bool {
	return j.delivery.Repeated || j.work.Recheck || j.work.Sweep || len(j.work.Attempts) > 0
}

// takeWork fetches items for free slots and passes on what is to be run, until the intake's context ends.
func (w *Worker) takeWork(ctx context.Context) {
	enough := time.AfterFunc(time.Hour, w.slots.poke)
	defer enough.Stop()
	for ctx.Err() == nil {
		free, freeBulk, patience := w.slots.available(time.Now())
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
			w.admitAll(ctx, deliveries)
			continue
		}
		if patience > 0 {
			enough.Reset(patience)
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

// admitAll takes a slot for each delivery that is to be run.
func (w *Worker) admitAll(ctx context.Context, deliveries []*broker.Delivery) {
	jobs := make([]job, len(deliveries))
	admitted := make([]*job, 0, len(deliveries))
	paused := map[batchName]bool{}
	w.settled.delivered()
	for i, d := range deliveries {
		jobs[i].delivery = d
		if w.admit(ctx, &jobs[i], paused) {
			admitted = append(admitted, &jobs[i])
		}
	}
	for _, j := range admitted {
		w.slots.take(j.bulk())
	}
	w.starter.add(admitted)
}

// admit decides whether a delivery is to be run at all, and answers it if not. One that is to be run is reserved in the table of what
// is held.
func (w *Worker) admit(ctx context.Context, j *job, paused map[batchName]bool) bool {
	if err := w.decoder.decode(j.delivery.Data, &j.work); err != nil {
		// Nobody can tell whose it is. It was written by us, so this is a broken disk or a bug.
		w.cfg.Logger.Error("dropping a message that is no work item", "bytes", len(j.delivery.Data), "error", err)
		w.ack(j)
		return false
	}
	if j.work.Version > protocol.WorkVersion {
		w.giveBack(j, newerVersion)
		return false
	}
	if j.work.Kind == protocol.KindWaiting {
		w.unpark(ctx, j, paused)
		return false
	}
	if !w.claims.reserve(j) {
		w.giveBack(j, twice)
		return false
	}
	unwanted, err := w.unwanted(ctx, j, paused)
	switch {
	case err != nil:
		w.claims.drop(j.held)
		w.cfg.Logger.Warn("cannot look up an item; giving it back", "batch", j.work.Batch, "index", j.work.Index, "error", err)
		w.giveBack(j, fetchRetry)
	case unwanted:
		w.claims.drop(j.held)
		w.ack(j)
	case !w.notices.admit(&j.work):
		w.claims.drop(j.held)
		w.giveBack(j, noticeCrowd)
	default:
		return true
	}
	return false
}

// unwanted reports whether nobody waits for an item any more: it has its outcome, or its batch is stopped or paused. Of a stopped
// batch an item that a dead worker may have had is let through, for what that one left to be removed.
func (w *Worker) unwanted(ctx context.Context, j *job, paused map[batchName]bool) (bool, error) {
	if j.work.Sweep {
		j.sweep = true
		return false, nil
	}
	wanted := protocol.WantRun
	if j.work.Kind != protocol.KindWebhook {
		var err error
		if wanted, err = w.wanted(ctx, nameOf(&j.work), paused); err != nil {
			return false, err
		}
	}
	switch wanted {
	case protocol.WantStop:
		j.sweep = j.repeated() && j.work.Kind == protocol.KindCopy
		return !j.sweep, nil
	case protocol.WantPause:
		return true, nil
	case protocol.WantRun:
	}
	if j.work.Kind == protocol.KindPart {
		return false, nil // its plan is looked at in its slot
	}
	standing, err := w.settled.look(ctx, &j.work, j.repeated())
	j.sweep = standing == standingStopped
	return standing == standingEnded, err
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

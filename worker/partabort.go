package worker

import (
	"context"
	"time"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/decorate"
)

const (
	partsEndIn   = 10 * time.Second // within which parts must have been let go of whose upload is removed
	partsEndLook = 100 * time.Millisecond
)

// uploadDiscarder is a destination that can remove what parts were written to by earlier owners of the item, except the upload keep.
type uploadDiscarder interface{ DiscardUploads(keep string) error }

// dropParts removes all that was stored of an item's parts, and what is known of them. had reports whether there was anything. A newer owner's is left alone.
func (w *Worker) dropParts(ctx context.Context, j *job, to storage.PartDestination) (had bool, err error) {
	plan, revision, err := w.parts.plan(ctx, j.held.Ref)
	if err != nil {
		return false, err
	}
	if revision == 0 {
		if d, ok := to.(uploadDiscarder); ok && len(j.held.stale) > 0 { // one may have died before it could write a plan
			err = d.DiscardUploads("")
		}
		return false, err
	}
	if j.planned != 0 && j.planned != revision || w.claims.lapsed(j.held) {
		return false, errLeaseLost
	}
	plan.Epoch++ // works of parts that wait are not wanted any more, and whoever else takes itself for the owner is stopped
	plan.Fence, plan.Had = j.held.Fence, plan.Count
	if _, err := w.parts.save(ctx, j.held.Ref, &plan, revision); err != nil {
		return true, err
	}
	if err := w.abortUpload(ctx, j.held.Ref, &plan, to); err != nil {
		return true, err
	}
	failpoint.HitItem(failpoint.UploadAborted, j.asked.ID)
	if err := w.parts.remove(ctx, j.held.Ref); err != nil {
		return true, err
	}
	j.parted = false
	return true, nil
}

// abortUpload removes what the parts of a plan were written to, whose epoch has been raised: none is begun any more. A part that is stored in that
// very moment may bring something of its upload back, which some stores keep until their own time for such things is over; so it is
// removed once more when no worker has a part of it any more. Who takes longer than is waited for here removes it himself (see strayed).
func (w *Worker) abortUpload(ctx context.Context, ref protocol.Ref, plan *protocol.PartPlan, to storage.PartDestination) error {
	if plan.Upload == "" {
		return discardBegun(ctx, plan, to)
	}
	busy := (plan.Spread || plan.Stale) && w.partsRun(ctx, ref)
	if err := to.Abort(ctx, plan.Upload); err != nil || !busy {
		return err //nolint:wrapcheck // of the destination
	}
	for limit := time.Now().Add(partsEndIn); ctx.Err() == nil && time.Now().Before(limit) && w.partsRun(ctx, ref); {
		w.pause(ctx, partsEndLook)
	}
	return to.Abort(ctx, plan.Upload) //nolint:wrapcheck // of the destination
}

// partsRun reports whether a living worker has a part of an item, as far as is known.
func (w *Worker) partsRun(ctx context.Context, ref protocol.Ref) bool {
	taken, err := w.claims.parts(ctx, ref)
	return err == nil && len(taken) > 0
}

// strayed removes the upload that a part was just stored in, if nobody is to complete it: it was removed while the part was on its way. That
// is known when the item has another upload by now, or none; one that was completed meanwhile is not touched by that.
func (w *Worker) strayed(ctx context.Context, j *job, upload string, to storage.PartDestination) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortLimit)
	defer cancel()
	plan, revision, err := w.parts.plan(ctx, j.held.Ref)
	if err != nil || revision != 0 && plan.Upload == upload {
		return
	}
	if err := to.Abort(ctx, upload); err != nil {
		w.cfg.Logger.Warn("what a late part left was not removed", "batch", j.work.Batch, "index", j.work.Index, "part", j.work.Part, "error", err)
	}
}

// discardBegun removes an upload whose name its owner did not live to store in its plan, or was never told.
func discardBegun(ctx context.Context, plan *protocol.PartPlan, to storage.PartDestination) error {
	if d, ok := decorate.Inner(to).(storage.BegunDiscarder); ok {
		return d.DiscardBegun(ctx, plan.Created) //nolint:wrapcheck // of the destination
	}
	return nil
}

package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/conc/panics"

	"github.com/copyfleet/copyfleet/internal/hosts"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// result is what an attempt came to. failure is nil after a success.
type result struct {
	attempt    protocol.Attempt
	copied     copied
	failure    *protocol.Failure
	unsure     bool // see [unsureError]
	retryAfter time.Duration
	abandoned  error          // the attempt does not count: handed back, or another worker has the item
	waited     bool           // there was none: the item has waited for its host for too long
	visited    []hosts.Result // what became of it at the hosts that it visited
}

// run takes one item through an attempt and its consequences. It never panics and leaves nothing held.
func (w *Worker) run(work context.Context, j *job) {
	if res, told := w.inSlot(work, j); told {
		w.finish(work, j, res)
	}
}

// inSlot is what an item does in its slot. told says that it came to something of which the reporter is to tell, and that there is room
// for it there; else it is not held any more.
func (w *Worker) inSlot(work context.Context, j *job) (res result, told bool) {
	defer func() {
		if !j.out {
			w.leaveSlot(j)
		}
	}()
	if !w.open(work, j) {
		return res, false
	}
	w.cleanUp(j)
	if j.sweep {
		w.putDown(work, j, errStopped)
		return res, false
	}
	if j.ctx.Err() != nil { // before it began
		w.putDown(work, j, context.Cause(j.ctx))
		return res, false
	}
	if j.held.Crashes >= maxCrashes {
		res = w.crashed(j)
		w.reporter.enter()
		return res, true
	}
	if j.held.Crashes >= soloCrashes {
		if err := w.enterAlone(work, j); err != nil {
			w.putDown(work, j, err)
			return res, false
		}
	}
	if err := w.enterHosts(j); err != nil {
		return w.notNow(work, j, err)
	}
	defer func() { j.visit.Leave(res.visited...) }()
	patience := linePatience
	if j.aside {
		patience = backPatience
	}
	if err := w.slots.line.enterWithin(j.ctx, j.bulk(), patience); err != nil {
		w.putDown(work, j, err)
		return res, false
	}
	j.entered = time.Now()
	res = w.attempt(work, j)
	if !j.out {
		w.slots.line.leave(j.bulk(), j.entered)
	}
	w.leaveHosts(j, &res)
	if res.abandoned != nil {
		return w.notNow(work, j, res.abandoned)
	}
	w.reporter.enter()
	return res, true
}

// enterAlone waits until no other item runs that workers have died of, and writes down that this one begins.
func (w *Worker) enterAlone(work context.Context, j *job) error {
	select {
	case w.alone <- struct{}{}:
	case <-j.ctx.Done():
		return context.Cause(j.ctx) //nolint:wrapcheck // says whose wish it was
	}
	if err := w.claims.begin(work, j.held); err != nil {
		<-w.alone
		return err
	}
	j.alone = true
	return nil
}

// endAlone lets the next one run alone, once what came of an item that did is stored, or it is handed back, dropped or put away. If the worker died
// of the next one before that, this one would be taken for the cause, though it had done all that it was there for.
func (w *Worker) endAlone(j *job) {
	if j.alone {
		j.alone = false
		<-w.alone
	}
}

// open finds out what an item asks for, and reports whether the item is to go on. That its locations cannot be read is the attempt's
// failure.
func (w *Worker) open(work context.Context, j *job) bool {
	if j.work.Kind == protocol.KindWebhook {
		j.asked = &protocol.ManifestItem{ID: j.work.ID}
		return true
	}
	j.asked, j.unreadable = w.manifests.item(work, &j.work) // also of an item that is not wanted any more: there may be something to clean up
	if j.unreadable == nil {
		if err := w.forgive(work, j); err != nil {
			w.putDown(work, j, err)
			return false
		}
		return true
	}
	j.asked = &protocol.ManifestItem{ID: j.work.ID}
	if errors.Is(j.unreadable, protocol.ErrSeal) {
		return true
	}
	w.putDown(work, j, j.unreadable)
	return false
}

// cleanUp removes what dead owners of an item left beside its destination. The copy does so too, but an item may fail before it
// comes that far. What was stored in parts is left: it is continued, or removed when there is no next attempt.
func (w *Worker) cleanUp(j *job) {
	if len(j.held.stale) == 0 || j.work.Kind != protocol.KindCopy || j.unreadable != nil {
		return
	}
	left := transfer{org: j.work.Org, src: j.asked.Src, dest: j.asked.Dest, temp: protocol.TempToken(w.cfg.ID, j.held.HeldClaim), stale: j.held.stale}
	if err := w.copier.discard(left); err != nil {
		w.cfg.Logger.Warn("what a dead worker left was not removed", "batch", j.work.Batch, "index", j.work.Index, "error", err)
	}
}

// attempt runs the copy and catches what it may throw.
func (w *Worker) attempt(work context.Context, j *job) (res result) {
	ctx, span := w.begun(j)
	defer func() { w.measured(ctx, span, j, &res) }()
	res = result{attempt: protocol.Attempt{Number: len(j.work.Attempts) + 1, Worker: w.cfg.ID, Start: time.Now().UTC()}}
	var err error
	thrown := panics.Try(func() { res.copied, err = w.do(ctx, j) })
	if unclaimed := j.clearance.wait(work); unclaimed != nil { // nothing comes of such an item, not even a failure
		err, thrown = unclaimed, nil
	}
	res.attempt.End = time.Now().UTC()
	res.attempt.Bytes, res.attempt.Resumes = res.copied.read, res.copied.resumes
	switch {
	case thrown != nil:
		w.cfg.Logger.Error("an item made the worker panic", "batch", j.work.Batch, "index", j.work.Index, "panic", thrown.String())
		res.failure = &protocol.Failure{
			Class: protocol.Internal, Code: "panic", Message: "The worker failed while copying this item",
			Hint: "This is a bug in Copyfleet; the worker's log has the details.",
		}
	case err == nil:
	case errors.Is(err, errLeaseLost), errors.Is(err, errDraining), errors.Is(err, errUnwanted), errors.Is(err, errPaused),
		errors.Is(err, errUnclaimed), work.Err() != nil:
		res.abandoned = err
	case waitsForHost(err):
		res.abandoned = err
	case w.claims.lapsed(j.held):
		res.abandoned = fmt.Errorf("%w: %w", errLeaseLost, err) // what failed here says nothing about the new owner's attempt
	case errors.Is(context.Cause(ctx), errPaused), errors.Is(err, errUnconfirmed):
		res.abandoned = context.Cause(ctx)
		if res.abandoned == nil {
			res.abandoned = err
		}
	case errors.Is(context.Cause(ctx), errStopped) && j.work.Kind == protocol.KindPart:
		res.abandoned = errStopped // its item says so
	case errors.Is(context.Cause(ctx), errStopped):
		res.failure = &protocol.Failure{
			Class: protocol.Canceled, Code: "canceled", Message: "The batch was stopped while this item ran",
			Hint: "copyfleet retry runs again what was not copied.",
		}
	default:
		res.failure, res.retryAfter = explain(err)
		res.unsure = isUnsure(err)
	}
	res.attempt.Failure = brief(res.failure)
	if res.abandoned == nil {
		res.visited = j.visited(err, &res)
	}
	return res
}

// errNoItem is never seen: the intake takes apart what stands for others.
var errNoItem = errors.New("it is no item")

// do does what an item is there for.
func (w *Worker) do(ctx context.Context, j *job) (copied, error) {
	switch j.work.Kind {
	case protocol.KindWebhook:
		return w.notify(ctx, j)
	case protocol.KindPart:
		return w.copyPart(ctx, j)
	case protocol.KindCopy:
		return w.copy(ctx, j)
	case protocol.KindWaiting:
	}
	return copied{}, errNoItem
}

// waitsForHost reports whether an item is to wait for a host, as some of its parts have found.
func waitsForHost(err error) bool {
	_, rests := errors.AsType[*hosts.LaterError](err)
	return rests
}

func (w *Worker) copy(ctx context.Context, j *job) (copied, error) {
	t, err := w.transfer(ctx, j)
	if err != nil {
		return copied{}, err
	}
	if t.src.Type == protocol.StagedUpload {
		if err := w.stage(ctx, j, &t); err != nil {
			return copied{}, err
		}
	}
	w.lookForPlan(ctx, j)
	t.inParts = func(
		ctx context.Context, source storage.Source, dest storage.Destination, object *storage.Object, resumes *atomic.Int64,
	) (copied, bool, error) {
		return w.inParts(ctx, j, t, source, dest, object, resumes)
	}
	return w.copier.copy(ctx, t)
}

// transfer is the copy that an item asks for.
func (w *Worker) transfer(ctx context.Context, j *job) (transfer, error) {
	if j.unreadable != nil {
		return transfer{}, &failureError{protocol.Failure{
			Class: protocol.Invalid, Code: "seal_unreadable", Message: "This worker cannot read the item's locations",
			Cause: j.unreadable.Error(), Hint: "Give every role the same COPYFLEET_SEAL_KEY, or none.",
		}}
	}
	died := j.held.Crashes > 0 || len(j.held.stale) > 0
	return transfer{
		org: j.work.Org, id: j.asked.ID, src: j.asked.Src, dest: j.asked.Dest, expect: j.asked.Expect, watched: j.watched(), visit: j.visit,
		conflict: j.asked.Conflict, digest: j.asked.Digest, trail: protocol.JoinTrail(j.asked.Trail),
		again:   len(j.work.Attempts) > 0 || died,
		begun:   died || slices.ContainsFunc(j.work.Attempts, func(a protocol.Attempt) bool { return a.Bytes > 0 }),
		temp:    protocol.TempToken(w.cfg.ID, j.held.HeldClaim),
		stale:   j.held.stale,
		claimed: func() error { return j.clearance.wait(ctx) },
		fence:   func() error { return w.fence(ctx, j) },

		mismatch: j.mismatched(),
	}, nil
}

// mismatched reports whether the last attempt ended since its bytes were not what the source, or the store, says they are.
func (j *job) mismatched() bool {
	n := len(j.work.Attempts)
	return n > 0 && j.work.Attempts[n-1].Failure != nil && mayPass(j.work.Attempts[n-1].Failure)
}

// fence is asked right before a destination becomes visible: is the item still ours, and still wanted?
func (w *Worker) fence(ctx context.Context, j *job) error {
	if err := w.claims.fence(ctx, j.held, &j.work); err != nil {
		return err
	}
	if err := w.controls.clear(ctx, j); err != nil {
		return err
	}
	if w.claims.lapsed(j.held) { // it may have taken a while
		return errLeaseLost
	}
	return nil
}

// crashed is the result of an item whose workers did not live to tell.
func (w *Worker) crashed(j *job) result {
	now := time.Now().UTC()
	failure := &protocol.Failure{
		Class: protocol.Lost, Code: "worker_lost",
		Message: fmt.Sprintf("%d workers died or lost this item while they ran it", j.held.Crashes),
		Hint:    "Look at the workers' logs for a crash or a lack of memory before you run it again.",
	}
	attempt := protocol.Attempt{Number: len(j.work.Attempts) + 1, Worker: w.cfg.ID, Start: now, End: now, Failure: brief(failure)}
	return result{failure: failure, attempt: attempt}
}

package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sourcegraph/conc/panics"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

// result is what an attempt came to. failure is nil after a success.
type result struct {
	attempt    protocol.Attempt
	copied     copied
	failure    *protocol.Failure
	retryAfter time.Duration
	abandoned  error // the attempt does not count: handed back, or another worker has the item
}

// run takes one item through an attempt and its consequences. It never panics and leaves nothing held.
func (w *Worker) run(work context.Context, j *job) {
	defer w.claims.drop(j.held)
	if !w.open(work, j) {
		return
	}
	w.cleanUp(j)
	if j.held.Crashes >= maxCrashes {
		w.finish(work, j, w.crashed(j))
		return
	}
	if j.held.Crashes >= soloCrashes {
		select {
		case w.alone <- struct{}{}:
			defer func() { <-w.alone }()
		case <-work.Done():
			w.abandon(work, j, context.Cause(work))
			return
		}
		if err := w.claims.begin(work, j.held); err != nil {
			w.abandon(work, j, err)
			return
		}
	}
	w.finish(work, j, w.attempt(work, j))
}

// open finds out what an item asks for, and reports whether the item is to go on. That its locations cannot be read is the attempt's failure.
func (w *Worker) open(work context.Context, j *job) bool {
	if j.work.Kind != protocol.KindCopy {
		j.asked = &protocol.ManifestItem{ID: j.work.ID}
		return true
	}
	j.asked, j.unreadable = w.manifests.item(work, &j.work)
	switch {
	case j.unreadable == nil:
		return true
	case errors.Is(j.unreadable, protocol.ErrSeal):
		j.asked = &protocol.ManifestItem{ID: j.work.ID}
		return true
	}
	why := j.unreadable
	j.asked = &protocol.ManifestItem{}
	if errors.Is(why, errGone) {
		w.cfg.Logger.Info("dropping an item of a batch that was removed", "batch", j.work.Batch, "index", j.work.Index)
		w.ack(j)
		return false
	}
	w.abandon(work, j, why)
	return false
}

// cleanUp removes what dead owners of an item left beside its destination. The copy does so too, but an item may fail before it
// comes that far.
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
func (w *Worker) attempt(work context.Context, j *job) result {
	ctx, cancel := context.WithCancelCause(work)
	defer cancel(nil)
	res := result{attempt: protocol.Attempt{Number: len(j.work.Attempts) + 1, Worker: w.cfg.ID, Start: time.Now().UTC()}}
	var err error
	thrown := panics.Try(func() {
		if j.work.Kind == protocol.KindWebhook {
			res.copied, err = w.notify(ctx, j)
			return
		}
		res.copied, err = w.copy(ctx, j)
	})
	res.attempt.End = time.Now().UTC()
	res.attempt.Bytes = res.copied.read
	switch {
	case thrown != nil:
		w.cfg.Logger.Error("an item made the worker panic", "batch", j.work.Batch, "index", j.work.Index, "panic", thrown.String())
		res.failure = &protocol.Failure{
			Class: protocol.Internal, Code: "panic", Message: "The worker failed while copying this item",
			Hint: "This is a bug in Copyfleet; the worker's log has the details.",
		}
	case err == nil:
	case errors.Is(err, errLeaseLost), errors.Is(err, errDraining), errors.Is(err, errUnwanted), work.Err() != nil:
		res.abandoned = err
	case w.claims.lapsed(j.held):
		res.abandoned = fmt.Errorf("%w: %w", errLeaseLost, err) // what failed here says nothing about the new owner's attempt
	default:
		res.failure, res.retryAfter = explain(err)
	}
	res.attempt.Failure = brief(res.failure)
	return res
}

func (w *Worker) copy(ctx context.Context, j *job) (copied, error) {
	if j.unreadable != nil {
		return copied{}, &failureError{protocol.Failure{
			Class: protocol.Invalid, Code: "seal_unreadable", Message: "This worker cannot read the item's locations",
			Cause: j.unreadable.Error(), Hint: "Give every role the same COPYFLEET_SEAL_KEY, or none.",
		}}
	}
	return w.copier.copy(ctx, transfer{
		org: j.work.Org, id: j.asked.ID, src: j.asked.Src, dest: j.asked.Dest, expect: j.asked.Expect, watched: j.watched(),
		temp:  protocol.TempToken(w.cfg.ID, j.held.HeldClaim),
		stale: j.held.stale,
		fence: func() error { return w.claims.fence(ctx, j.held, &j.work) },
	})
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

// finish stores the news and then answers the delivery, never the other way round.
func (w *Worker) finish(work context.Context, j *job, res result) {
	if errors.Is(res.abandoned, errUnwanted) {
		w.ack(j)
		return
	}
	if res.abandoned != nil {
		w.abandon(work, j, res.abandoned)
		return
	}
	verdict := done
	if res.failure != nil {
		verdict = j.decide(&res)
	}
	receipt := j.receipt(res, verdict)
	w.log(j, &receipt)
	if verdict == retry {
		if err := w.planRetry(work, j, receipt, res); err != nil {
			w.abandon(work, j, err)
			return
		}
		failpoint.HitItem(failpoint.RetryPlanned, j.asked.ID)
	}
	err := w.storeFirmly(work, protocol.Report{Ref: j.work.Ref(), Total: j.work.Total, Lane: j.work.Lane, Receipt: receipt})
	if err != nil {
		w.abandon(work, j, err)
		return
	}
	failpoint.HitItem(failpoint.ReportStored, j.asked.ID)
	w.ack(j)
	failpoint.HitItem(failpoint.Acknowledged, j.asked.ID)
}

// abandon gives an item back that this worker will not finish. One that may be another's already is left alone.
func (w *Worker) abandon(work context.Context, j *job, why error) {
	w.cfg.Logger.Info("an item was not finished here", "batch", j.work.Batch, "index", j.work.Index, "reason", why)
	if errors.Is(why, errLeaseLost) {
		return
	}
	w.claims.drop(j.held)
	// The record must not name the item any more, or its next owner would take it for the victim of a crash.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(work), heartbeat(w.conn))
	defer cancel()
	if err := w.claims.write(ctx); err != nil {
		w.cfg.Logger.Warn("a handed-back item stays in the claim", "error", err)
	}
	failpoint.HitItem(failpoint.ClaimReleased, j.asked.ID)
	w.giveBack(j, 0)
}

func (w *Worker) planRetry(work context.Context, j *job, receipt protocol.Receipt, res result) error {
	next := j.work
	next.Attempts, next.Fence = receipt.Attempts, j.held.Fence+1
	data, err := protocol.Encode(next)
	if err != nil {
		return fmt.Errorf("plan a retry: %w", err)
	}
	if err := w.conn.PlanRetry(work, j.work.Ref(), res.attempt.Number, j.work.Pool, j.work.Shard, receipt.RetryAt, data); err != nil {
		return fmt.Errorf("plan a retry: %w", err)
	}
	return nil
}

func (j *job) maxAttempts() int { return orDefault(j.work.MaxAttempts, protocol.DefaultMaxAttempts) }

func (j *job) receipt(res result, v verdict) protocol.Receipt {
	r := protocol.Receipt{
		Index: j.work.Index, ID: j.asked.ID, TraceID: traceID(j.work.Trace),
		Attempts: append(slices.Clip(j.work.Attempts), res.attempt), Status: res.status(),
	}
	switch v {
	case done:
		r.State, r.Bytes, r.SHA256, r.ETag, r.Verified = protocol.ItemSucceeded, res.copied.stored, res.copied.sha256, res.copied.etag, res.copied.verified
	case retry:
		r.State, r.Failure, r.RetryAt = protocol.ItemRetrying, res.failure, time.Now().Add(j.backoff(&res)).UTC()
	case giveUp:
		r.State, r.Failure = protocol.ItemFailed, res.failure
	}
	return r
}

// brief is what an attempt keeps of its failure.
func brief(f *protocol.Failure) *protocol.Failure {
	if f == nil {
		return nil
	}
	short := f.Brief()
	return &short
}

// traceID takes the trace id out of a W3C traceparent (version-traceid-parentid-flags).
func traceID(traceparent string) string {
	const start, end = 3, 3 + 32
	if len(traceparent) < end {
		return ""
	}
	return traceparent[start:end]
}

func (w *Worker) log(j *job, r *protocol.Receipt) {
	attrs := []any{"batch", j.work.Batch, "index", j.work.Index, "state", r.State, "attempt", len(r.Attempts), "bytes", r.Bytes}
	if r.Failure != nil {
		attrs = append(attrs, "class", r.Failure.Class, "code", r.Failure.Code, "reason", r.Failure.Message)
	}
	w.cfg.Logger.Debug("item", attrs...)
}

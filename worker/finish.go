package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

// finish makes the receipt of an attempt, which has left its slot, plans the next one if there is to be one, and has it all reported.
func (w *Worker) finish(work context.Context, j *job, res result) {
	if j.work.Kind == protocol.KindPart {
		w.finishPart(work, j, &res)
		return
	}
	verdict := done
	if res.failure != nil {
		verdict = j.decide(&res)
	}
	receipt := j.receipt(res, verdict)
	w.log(j, &receipt)
	if verdict != retry && (!j.mayHaveParts() || verdict == done && res.copied.skip == "" && res.copied.method != protocol.MethodServerCopy) {
		w.report(work, j, &receipt)
		return
	}
	w.retrying.Go(func() {
		if err := w.prepare(work, j, verdict, receipt, res); err != nil {
			w.abandon(work, err, j)
			w.reporter.leave()
			return
		}
		w.report(work, j, &receipt)
	})
}

// prepare does what an item needs before that is told which is not copied: its next attempt is planned, or what is left of its parts is removed.
func (w *Worker) prepare(work context.Context, j *job, v verdict, receipt protocol.Receipt, res result) error {
	if v != retry {
		return w.removeParts(work, j)
	}
	if err := w.planRetry(work, j, receipt, res); err != nil {
		return err
	}
	failpoint.HitItem(failpoint.RetryPlanned, j.asked.ID)
	return nil
}

// putDown ends the work on an item that came to nothing: nobody wants it any more, or somebody else is to do it.
func (w *Worker) putDown(work context.Context, j *job, why error) {
	switch {
	case errors.Is(why, errUnwanted), errors.Is(why, errGone), errors.Is(why, errStopped), errors.Is(why, errPaused):
		if errors.Is(why, errStopped) {
			if err := w.removeParts(work, j); err != nil {
				w.abandon(work, err, j)
				return
			}
		}
		level := slog.LevelInfo
		if j.work.Kind == protocol.KindPart && errors.Is(why, errUnwanted) { // its item has gone on without it, as happens often
			level = slog.LevelDebug
		}
		w.cfg.Logger.Log(j.ctx, level, "an item was dropped", "batch", j.work.Batch, "index", j.work.Index, "part", j.work.Part, "reason", why)
		w.discard(j)
	default:
		w.abandon(work, why, j)
	}
}

// discard drops an item that nobody waits for any more. What is left to be done of a paused batch comes again when it goes on.
func (w *Worker) discard(j *job) {
	w.ack(j)
	w.claims.drop(j.held)
	w.claims.rewrite() // who acts upon a batch waits for the record to name its items no more
	w.endAlone(j)
	j.cancel(nil)
}

// abandon gives items back that this worker will not finish. One that may be another's already is left alone.
func (w *Worker) abandon(work context.Context, why error, jobs ...*job) {
	w.release(work, why, 0, jobs...)
}

// release is abandon, and says when the items are to be offered again.
func (w *Worker) release(work context.Context, why error, delay time.Duration, jobs ...*job) {
	list := make([]*held, len(jobs))
	for i, j := range jobs {
		w.cfg.Logger.Debug("an item was not finished here", "batch", j.work.Batch, "index", j.work.Index, "reason", why)
		list[i] = j.held
		j.cancel(nil)
	}
	w.claims.drop(list...)
	defer func() {
		for _, j := range jobs {
			w.endAlone(j)
		}
	}()
	if errors.Is(why, errLeaseLost) {
		return
	}
	// The record must not name the items any more, or their next owner would take them for the victims of a crash.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(work), heartbeat(w.conn))
	defer cancel()
	if err := w.claims.write(ctx); err != nil {
		w.cfg.Logger.Warn("handed-back items stay in the claim", "error", err)
	}
	for _, j := range jobs {
		failpoint.HitItem(failpoint.ClaimReleased, j.asked.ID)
		w.giveBack(j, delay)
	}
}

func (w *Worker) planRetry(work context.Context, j *job, receipt protocol.Receipt, res result) error {
	next := j.work
	next.Attempts, next.Fence, next.Since = receipt.Attempts, j.held.Fence+1, time.Time{}
	if res.waited {
		next.Since = j.work.Since
	}
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
		Attempts: append(slices.Clip(j.work.Attempts), res.attempt), Status: res.status(), RestartReason: res.copied.restart,
	}
	switch v {
	case done:
		r.State, r.Bytes, r.SHA256, r.ETag, r.Verified = protocol.ItemSucceeded, res.copied.stored, res.copied.sha256, res.copied.etag, res.copied.verified
		r.ResumedFrom, r.Unpacked = res.copied.resumed, res.copied.unpacked
		if r.Method, r.SkipReason = res.copied.method, res.copied.skip; r.SkipReason != "" {
			r.State = protocol.ItemSkipped
		}
	case retry:
		r.State, r.Failure, r.RetryAt = protocol.ItemRetrying, res.failure, time.Now().Add(j.backoff(&res)).UTC()
	case giveUp:
		r.State, r.Failure = protocol.ItemFailed, res.failure
		if res.failure.Class == protocol.Canceled {
			r.State = protocol.ItemCanceled
		}
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
	if !w.cfg.Logger.Enabled(j.ctx, slog.LevelDebug) {
		return
	}
	attrs := []any{"batch", j.work.Batch, "index", j.work.Index, "state", r.State, "attempt", len(r.Attempts), "bytes", r.Bytes}
	if r.Failure != nil {
		attrs = append(attrs, "class", r.Failure.Class, "code", r.Failure.Code, "reason", r.Failure.Message)
	}
	w.cfg.Logger.Debug("item", attrs...)
}

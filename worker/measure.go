package worker

import (
	"context"
	"time"

	"github.com/copyfleet/copyfleet/internal/observe"
	"github.com/copyfleet/copyfleet/protocol"
)

// claimed measures how long items lay in the queue, and what it took to claim them.
func (w *Worker) claimed(ctx context.Context, begun time.Time, jobs []*job) {
	if w.cfg.Metrics == nil {
		return
	}
	now := time.Now()
	for _, j := range jobs {
		w.cfg.Metrics.Stage(ctx, observe.StageQueue, max(begun.Sub(j.delivery.Published), 0))
		w.cfg.Metrics.Stage(ctx, observe.StageClaim, now.Sub(begun))
	}
}

// begun begins the span of an attempt, below the call that asked for the item.
func (w *Worker) begun(j *job) (context.Context, observe.Span) {
	return w.cfg.Traces.Attempt(j.ctx, j.work.Trace, observe.Item{
		Org: string(j.work.Org), Batch: string(j.work.Batch), Index: j.work.Index, Attempt: len(j.work.Attempts) + 1,
	})
}

// Outcomes of attempts, as they are counted.
const (
	outcomeSucceeded = "succeeded"
	outcomeSkipped   = "skipped" // nothing was to be copied
	outcomeFailed    = "failed"
	outcomeAbandoned = "abandoned" // not charged: handed back, or another worker has the item
)

// measured notes an attempt that came to something.
func (w *Worker) measured(ctx context.Context, span observe.Span, j *job, res *result) {
	defer span.End()
	outcome, class := outcomeSucceeded, ""
	switch {
	case res.abandoned != nil:
		outcome = outcomeAbandoned
	case res.failure != nil:
		outcome, class = outcomeFailed, string(res.failure.Class)
		span.Failed(class, res.failure.Code, res.failure.Message)
	case res.copied.skip != "":
		outcome = outcomeSkipped
	default:
		span.Moved(res.copied.stored)
	}
	if j.work.Kind == protocol.KindWebhook {
		w.cfg.Metrics.Webhook(ctx, outcome)
		return
	}
	w.cfg.Metrics.Attempt(ctx, outcome, class, res.copied.stored)
	w.cfg.Metrics.Stage(ctx, observe.StageCopy, res.attempt.End.Sub(res.attempt.Start))
}

// stored measures what it took to store reports.
func (w *Worker) stored(ctx context.Context, bundle []news) {
	if w.cfg.Metrics == nil {
		return
	}
	now := time.Now()
	for i := range bundle {
		w.cfg.Metrics.Stage(ctx, observe.StageReport, now.Sub(bundle[i].since))
	}
}

package aggregator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

// noticeAgain is how long the report of a notice is waited for before a worker is asked again.
const noticeAgain = 5 * time.Minute

// notify has a worker tell who asked for it that the batch has ended. Its report is folded into the summary.
func (f *feeder) notify(ctx context.Context, r *row, s glimpse) (time.Duration, error) {
	since, attempts := s.Ended, []protocol.Attempt(nil)
	if s.Webhook != nil { // it is being retried: a worker planned that
		since, attempts = s.Webhook.RetryAt, s.Webhook.Attempts
		if wait := time.Until(since) + noticeAgain; wait > 0 {
			return min(wait, noticeAgain), nil
		}
	}
	// Which time it is follows from the clock, so that every aggregator finds the same.
	passed := max(time.Since(since), 0)
	times := int(passed / noticeAgain)
	work := workOf(r)
	work.Kind, work.Index, work.Lane = protocol.KindWebhook, protocol.WebhookIndex, protocol.Interactive
	work.Attempts, work.Recheck, work.MaxAttempts = attempts, times > 0 || len(attempts) > 0, 0
	value, err := protocol.Encode(work)
	if err != nil {
		return 0, fmt.Errorf("ask for the notice of %s: %w", r.key.batch, err)
	}
	guard := protocol.GuardSubject(work.Lane, r.key.org, r.key.batch, len(attempts), times) + ".notice"
	subject := protocol.WorkSubject(work.Lane, work.Pool, work.Shard, r.key.org, r.key.batch)
	_, err = f.conn.PublishChunk(ctx, guard, subject, [][]byte{value})
	if err != nil && !errors.Is(err, broker.ErrCommitted) {
		return 0, fmt.Errorf("ask for the notice of %s: %w", r.key.batch, err)
	}
	failpoint.Hit(failpoint.NoticeAsked)
	if err := f.conn.Wake(broker.Shard{Lane: work.Lane, Pool: work.Pool, Index: work.Shard}); err != nil {
		f.log.Debug("workers were not woken and will look by themselves", "error", err)
	}
	return noticeAgain - passed%noticeAgain + time.Second, nil
}

package worker

import (
	"context"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// notify tells who asked for it that a batch has ended.
func (w *Worker) notify(context.Context, *job) (copied, error) {
	return copied{}, storage.Errorf(storage.Internal, "unsupported", "notify", "", "not yet")
}

func (j *job) decide(res *result) verdict {
	return decide(res.failure.Class, res.attempt.Number, j.maxAttempts())
}

func (j *job) backoff(res *result) time.Duration {
	return backoff(res.attempt.Number, res.retryAfter)
}

func (j *job) watched() *protocol.Work { return &j.work }

// status is the HTTP status of the last answer of a peer, 0 if there was none.
func (r *result) status() int {
	if r.failure != nil && r.failure.Status != 0 {
		return r.failure.Status
	}
	return r.copied.status
}

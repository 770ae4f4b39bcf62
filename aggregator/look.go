package aggregator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	lookLeast = 50 * time.Millisecond // between two looks at a batch, however often it changes
	// forsaken is how long a feed record may stand whose batch was not accepted: the caller may be repeating the call.
	forsaken = time.Minute

	pendingLeast, pendingMost = 200 * time.Millisecond, 15 * time.Second // between looks at an acceptance, unless it is told of
	hungryLeast, hungryMost   = 500 * time.Millisecond, 5 * time.Second  // at the summary of a batch that is being fed
	endLeast, endMost         = time.Second, time.Minute                 // of one that is wholly fed
)

// look does for a batch what is to be done beside feeding it, and returns when to look again.
func (f *feeder) look(ctx context.Context, r *row) (time.Duration, error) {
	r.looked = time.Now()
	if !f.may(r) {
		f.leave(r)
		r.mine = false
		return idleTick, nil
	}
	if r.record == nil {
		after, err := f.load(ctx, r)
		if err != nil || r.record == nil {
			return after, err
		}
	}
	w := f.want[r.name]
	switch {
	case w.Wanted == protocol.WantStop:
		return f.stop(ctx, r, w)
	case w.Wanted == protocol.WantPause:
		return f.halt(ctx, r, w)
	case w.Resumes > r.feed.Resumes:
		return f.resume(ctx, r, w)
	default:
		return f.follow(ctx, r, w)
	}
}

// may reports whether it is for this feeder to act for a batch: the others do not, or seem to be gone. A wrong answer does no
// harm, since guards and revisions let every step happen once.
func (f *feeder) may(r *row) bool {
	unchanged := time.Since(r.seen)
	switch owner := r.feed.Owner; {
	case owner == f.id:
		return true
	case owner == "":
		return f.peers.first(r.name) || unchanged > silence
	case f.peers.alive(owner):
		return false
	default:
		return unchanged > silence && (f.peers.first(r.name) || unchanged > 2*silence)
	}
}

// load reads the accept record. r.record stays nil while the batch must not run.
func (f *feeder) load(ctx context.Context, r *row) (time.Duration, error) {
	entry, err := f.batches.Get(ctx, protocol.AcceptKey(r.key.org, r.key.batch))
	if err != nil && !errors.Is(err, broker.ErrNotFound) {
		return 0, fmt.Errorf("read an accept record: %w", err)
	}
	var record protocol.Acceptance
	if err == nil {
		if err := json.Unmarshal(entry.Value, &record); err != nil {
			return 0, fmt.Errorf("read the accept record of %s: %w", r.key.batch, err)
		}
	}
	switch {
	case record.State == "" || record.State == protocol.AcceptAbandoned:
		if time.Since(r.seen) > forsaken {
			return f.finish(ctx, r)
		}
	case record.State == protocol.AcceptComplete:
		r.record = briefly(&record)
		return 0, nil
	case record.Chunks == 1: // its atomic chunk says whether it was accepted
		accepted, err := published(ctx, f.conn, f.batches, f.controls, &record)
		if err != nil {
			return 0, err
		}
		if accepted {
			r.record = briefly(&record)
			return 0, nil
		}
	}
	return r.later(pendingLeast, pendingMost), nil
}

// glimpse is what the feeder reads of a summary.
type glimpse struct {
	State   protocol.BatchState `json:"state"`
	Tally   protocol.Tally      `json:"tally"`
	Ended   time.Time           `json:"ended"`
	Webhook *protocol.Receipt   `json:"webhook"`
}

// follow feeds a batch that is to run, and watches how it comes along.
func (f *feeder) follow(ctx context.Context, r *row, w wish) (time.Duration, error) {
	hungry := r.hungry(w)
	if hungry {
		f.join(r)
		if !r.watchful() {
			return hungryMost, nil
		}
	}
	s, err := f.glimpse(ctx, r)
	if err != nil {
		return 0, err
	}
	options := r.record.options
	switch {
	case s.State.Final():
		return f.ended(ctx, r, s)
	case options.MaxFailed.Exceeded(s.Tally.Failed, r.record.total):
		return lookLeast, f.order(ctx, r.key, protocol.WantStop, protocol.ReasonMaxFailed)
	case r.end(w) < r.record.total && s.Tally.Ended() >= r.end(w):
		return lookLeast, f.order(ctx, r.key, protocol.WantPause, protocol.ReasonCanary)
	case hungry:
		return r.later(hungryLeast, hungryMost), nil
	}
	if err := f.reconcile(ctx, r, s); err != nil {
		return 0, err
	}
	return r.later(endLeast, endMost), nil
}

// glimpse reads the summary of a batch. One without news is neither final nor has it counts.
func (f *feeder) glimpse(ctx context.Context, r *row) (glimpse, error) {
	var s glimpse
	entry, err := f.batches.Get(ctx, protocol.SummaryKey(r.key.org, r.key.batch))
	if err != nil && !errors.Is(err, broker.ErrNotFound) {
		return s, fmt.Errorf("read a summary: %w", err)
	}
	if err == nil {
		if err := json.Unmarshal(entry.Value, &s); err != nil {
			return s, fmt.Errorf("read the summary of %s: %w", r.key.batch, err)
		}
	}
	if r.stirred.IsZero() || entry.Revision != r.seenSummary {
		r.seenSummary, r.stirred, r.waits = entry.Revision, time.Now(), 0
	}
	return s, nil
}

// ended does what is left to do for a batch that has ended.
func (f *feeder) ended(ctx context.Context, r *row, s glimpse) (time.Duration, error) {
	f.leave(r)
	if r.record.options.Webhook != nil && (s.Webhook == nil || !s.Webhook.State.Final()) {
		return f.notify(ctx, r, s)
	}
	return f.finish(ctx, r)
}

// finish deletes the feed record of a batch for which nothing is left to be done.
func (f *feeder) finish(ctx context.Context, r *row) (time.Duration, error) {
	revision, err := f.feeds.DeleteAt(ctx, r.name, r.revision)
	if errors.Is(err, broker.ErrConflict) {
		return silence, nil // somebody was faster; the watch tells what it is now
	}
	if err != nil {
		return 0, fmt.Errorf("finish with batch %s: %w", r.key.batch, err)
	}
	r.revision = revision
	f.remove(r)
	return 0, nil
}

package producer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// views is what showing batches, and acting on them, takes beside the bucket that they are in.
type views struct {
	index   *batchIndex
	claims  claimBoard
	streams streams
	heard   heardBoard
	// patience is how long the answer to a cancel waits for its end.
	patience time.Duration
}

// cancelPatience is the patience of a front.
const cancelPatience = 10 * time.Second

func newViews(batches *broker.Bucket) *views {
	return &views{index: newBatchIndex(batches), streams: newStreams(), patience: cancelPatience}
}

// Follow keeps the list of batches, and what is heard of running items, until ctx ends: GET /v1/batches is answered from it.
// The front runs it once, on a goroutine of its
// own that it waits for.
func (p *Pipeline) Follow(ctx context.Context) {
	stop, err := p.conn.HearProgress(p.views.heard.hear)
	if err != nil {
		p.log.Warn("the progress of items is not heard; they are shown as far as their stored parts", logError, err)
	} else {
		defer stop()
	}
	p.views.index.follow(ctx, p.log)
}

// snapshot is all that is known of a batch at a moment.
type snapshot struct {
	record  protocol.Acceptance
	summary protocol.Summary // zero before the first news of an item
	told    bool             // there is a summary
	control protocol.Control // zero if nobody acted upon the batch
	held    map[int]bool     // the items that workers hold; nil once the batch has ended
	moving  int64            // bytes of those of which news came
	begun   time.Time        // when the first of these began; zero: there is no news

	accepted, summarized, controlled uint64 // the revisions of the three records; 0: there is none
}

// look reads what is known of a batch. An earlier snapshot of it, where given, saves reading an accept record that does not
// change any more. It returns false if there is no such batch.
func (p *Pipeline) look(ctx context.Context, org protocol.OrgID, id protocol.BatchID, earlier *snapshot) (*snapshot, bool, error) {
	s := &snapshot{}
	var err error
	if earlier.settled() {
		s.record, s.accepted = earlier.record, earlier.accepted
	} else if s.accepted, err = readInto(ctx, p.batches, protocol.AcceptKey(org, id), &s.record); s.accepted == 0 {
		return nil, false, err
	}
	// The summary last: what it says of the end outweighs the others.
	if s.controlled, err = readInto(ctx, p.controls, protocol.ControlKey(org, id), &s.control); err != nil {
		return nil, false, err
	}
	if s.summarized, err = readInto(ctx, p.batches, protocol.SummaryKey(org, id), &s.summary); err != nil {
		return nil, false, err
	}
	s.told = s.summarized > 0
	if s.ended() {
		return s, true, nil
	}
	if s.held, err = p.running(ctx, &s.record); err != nil {
		return s, false, err
	}
	s.moving, s.begun = p.views.heard.sum(protocol.ProgressSubject(org, id), s.held)
	return s, true, nil
}

// runs reports whether a worker is at an item. The claim that names one whose next attempt is planned for later, or which waits for its host until
// then, is only not rewritten yet.
func (s *snapshot) runs(r *protocol.Receipt) bool {
	return s.held[r.Index] && !r.State.Final() && (r.State != protocol.ItemRetrying || time.Until(r.RetryAt) <= 0)
}

// run shows an item as running if a worker is at it.
func (s *snapshot) run(r *protocol.Receipt) {
	if s.runs(r) {
		r.State, r.RetryAt = protocol.ItemRunning, time.Time{}
	}
}

// settled reports whether the accept record of a snapshot is the last one.
func (s *snapshot) settled() bool {
	return s != nil && (s.record.State == protocol.AcceptComplete || s.told && !s.record.Fed())
}

// readInto decodes the value of a key and returns its revision; 0: there is no such key.
func readInto(ctx context.Context, bucket *broker.Bucket, key string, into any) (uint64, error) {
	entry, err := bucket.Get(ctx, key)
	if errors.Is(err, broker.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", key, err)
	}
	if err := json.Unmarshal(entry.Value, into); err != nil {
		return 0, fmt.Errorf("read %s: %w", key, err)
	}
	return entry.Revision, nil
}

// claimFresh is the age up to which the claims of all workers are shown again without being read: many batches are shown at once.
const claimFresh = 200 * time.Millisecond

// claimBoard keeps the claims of all workers for a moment. Whoever finds them too old reads them, and the others wait for that.
type claimBoard struct {
	mu     sync.Mutex
	read   time.Time
	claims []protocol.Claim
}

func (b *claimBoard) all(ctx context.Context, bucket *broker.Bucket) ([]protocol.Claim, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.read) < claimFresh {
		return b.claims, nil
	}
	entries, err := bucket.List(ctx, ">")
	if err != nil {
		return nil, fmt.Errorf("read the claims of workers: %w", err)
	}
	claims := make([]protocol.Claim, len(entries))
	for i, e := range entries {
		if err := json.Unmarshal(e.Value, &claims[i]); err != nil {
			return nil, fmt.Errorf("read claim %s: %w", e.Key, err)
		}
	}
	b.claims, b.read = claims, time.Now()
	return claims, nil
}

// claimStale is the age from which the claim of a worker that holds items says nothing any more: it is rewritten every third of AckWait.
func claimStale(ackWait time.Duration) time.Duration { return ackWait + ackWait/3 }

// workerGone is the age from which a worker's claim is no sign of its life any more: an idle one rewrites it every 30 s.
const workerGone = 90 * time.Second

// running returns the indexes of a batch's items that workers hold now, as their claims tell.
func (p *Pipeline) running(ctx context.Context, record *protocol.Acceptance) (map[int]bool, error) {
	claims, err := p.views.claims.all(ctx, p.claims)
	if err != nil {
		return nil, err
	}
	indexes := map[int]bool{}
	for i := range claims {
		if time.Since(claims[i].Written) > claimStale(p.conn.AckWait()) {
			continue
		}
		for _, held := range claims[i].Held {
			if held.Ref.Org == record.Org && held.Ref.Batch == record.Batch && held.Ref.Index >= 0 {
				indexes[held.Ref.Index] = true
			}
		}
	}
	return indexes, nil
}

// served reports whether a worker of the pool is alive.
func (p *Pipeline) served(ctx context.Context, pool string) (bool, error) {
	claims, err := p.views.claims.all(ctx, p.claims)
	if err != nil {
		return false, err
	}
	for i := range claims {
		of := claims[i].Pool
		if of == "" {
			of = protocol.DefaultPool
		}
		if of == pool && time.Since(claims[i].Written) <= max(workerGone, claimStale(p.conn.AckWait())) {
			return true, nil
		}
	}
	return false, nil
}

package aggregator

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// holders is who claims what. The claims are read once for all batches that are looked at together.
type holders struct {
	bucket *broker.Bucket
	stale  time.Duration // since a worker wrote its claim: living ones rewrite theirs three times as often
	read   time.Time
	tried  time.Time          // when keep looked last
	items  map[batchKey][]int // of living workers, those of which they hold a part among them
	whole  map[batchKey][]int // of those, the items that a living worker holds itself
	dead   map[batchKey][]int // of workers whose claims are stale
	last   map[string]sighting
}

// sighting is when a claim was last seen to change, by the local clock: one that jumps, or is minutes off, makes no worker look dead.
// Only of a claim that is new here, and very old, its own time is believed.
type sighting struct {
	revision uint64
	at       time.Time
}

func newHolders(bucket *broker.Bucket, ackWait time.Duration) *holders {
	return &holders{bucket: bucket, stale: ackWait + ackWait/3, last: map[string]sighting{}}
}

// of returns the indexes of the items of a batch that living workers claimed at some time after since.
func (h *holders) of(ctx context.Context, key batchKey, since time.Time) ([]int, error) {
	if h.items == nil || h.read.Before(since) {
		if err := h.load(ctx); err != nil {
			return nil, err
		}
	}
	return h.items[key], nil
}

// ofDead returns the indexes of the items of a batch that the claims of dead workers name.
func (h *holders) ofDead(ctx context.Context, key batchKey, since time.Time) ([]int, error) {
	_, err := h.of(ctx, key, since)
	return h.dead[key], err
}

// owned returns those of the items of [holders.of] of which not only a part is claimed.
func (h *holders) owned(ctx context.Context, key batchKey, since time.Time) ([]int, error) {
	_, err := h.of(ctx, key, since)
	return h.whole[key], err
}

// keep looks at the claims now and then, so that it is known which of them do not change when somebody asks.
func (h *holders) keep(ctx context.Context) error {
	if time.Since(h.tried) < h.stale {
		return nil
	}
	h.tried = time.Now()
	return h.load(ctx)
}

// forget has the claims read again when they are next asked for.
func (h *holders) forget() { h.items = nil }

func (h *holders) load(ctx context.Context) error {
	now := time.Now()
	entries, err := h.bucket.List(ctx, ">")
	if err != nil {
		return fmt.Errorf("read the claims of workers: %w", err)
	}
	items, whole, dead, last := map[batchKey][]int{}, map[batchKey][]int{}, map[batchKey][]int{}, make(map[string]sighting, len(entries))
	for _, e := range entries {
		var claim protocol.Claim
		if err := json.Unmarshal(e.Value, &claim); err != nil {
			return fmt.Errorf("read the claim %s: %w", e.Key, err)
		}
		s, known := h.last[e.Key]
		if !known || s.revision != e.Revision {
			s = sighting{e.Revision, now}
			if !known && now.Sub(claim.Written) > deadClaim {
				s.at = claim.Written // clocks differ by less
			}
		}
		last[e.Key] = s
		alive := now.Sub(s.at) <= h.stale
		for _, held := range claim.Held {
			if held.Ref.Index < 0 {
				continue // the notice of a batch's end is no item of it
			}
			key := batchKey{held.Ref.Org, held.Ref.Batch}
			if !alive {
				dead[key] = append(dead[key], held.Ref.Index)
				continue
			}
			items[key] = append(items[key], held.Ref.Index)
			if held.Ref.Part == 0 {
				whole[key] = append(whole[key], held.Ref.Index)
			}
		}
	}
	h.items, h.whole, h.dead, h.last, h.read = items, whole, dead, last, now
	return nil
}

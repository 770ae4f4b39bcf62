package producer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// ensureFeed sees to it that the feeder looks after a batch. A batch whose items the front publishes has none that are to be fed.
func (p *Pipeline) ensureFeed(ctx context.Context, record *protocol.Acceptance) error {
	return (&feedKeeper{pipeline: p, record: record}).ensure(ctx)
}

// feedKeeper is the front's side of a batch's feed record: it exists before the batch is complete, so that no complete batch is
// overlooked, and it tells that an acceptance is under way.
type feedKeeper struct {
	pipeline *Pipeline
	record   *protocol.Acceptance
	feed     protocol.Feed
	revision uint64 // of what was written last
}

func (k *feedKeeper) key() string { return protocol.ControlKey(k.record.Org, k.record.Batch) }

// ensure creates the feed record. One that an earlier try left is written again as it is, so that whoever is about to remove it,
// under its revision, does not.
func (k *feedKeeper) ensure(ctx context.Context) error {
	now := time.Now().UTC()
	k.feed = protocol.Feed{Version: protocol.FeedVersion, Org: k.record.Org, Batch: k.record.Batch, At: now, Created: now}
	if !k.record.Fed() {
		k.feed.Next = k.record.Total
	}
	value, err := protocol.Encode(k.feed)
	if err != nil {
		return fmt.Errorf("accept batch %s: %w", k.record.Batch, err)
	}
	for range reopenTries {
		k.revision, err = k.pipeline.feeds.Create(ctx, k.key(), value)
		if err == nil {
			return nil
		}
		if !errors.Is(err, broker.ErrExists) {
			return fmt.Errorf("accept batch %s: %w", k.record.Batch, err)
		}
		there, err := k.touch(ctx)
		if err != nil || there {
			return err
		}
	}
	return fmt.Errorf("accept batch %s: %w: its feed record changed again and again", k.record.Batch, broker.ErrUnavailable)
}

// touch says that the acceptance is under way, and reports whether there is a feed record. It leaves what others wrote.
func (k *feedKeeper) touch(ctx context.Context) (bool, error) {
	for range reopenTries {
		entry, err := k.pipeline.feeds.Get(ctx, k.key())
		if errors.Is(err, broker.ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("accept batch %s: %w", k.record.Batch, err)
		}
		if err := json.Unmarshal(entry.Value, &k.feed); err != nil {
			return false, fmt.Errorf("accept batch %s: read its feed record: %w", k.record.Batch, err)
		}
		k.feed.At = time.Now().UTC()
		value, err := protocol.Encode(k.feed)
		if err != nil {
			return false, fmt.Errorf("accept batch %s: %w", k.record.Batch, err)
		}
		k.revision, err = k.pipeline.feeds.Update(ctx, broker.Change{Key: k.key(), Value: value, Revision: entry.Revision})
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, broker.ErrConflict) {
			return false, fmt.Errorf("accept batch %s: %w", k.record.Batch, err)
		}
	}
	return false, fmt.Errorf("accept batch %s: %w: its feed record changed again and again", k.record.Batch, broker.ErrUnavailable)
}

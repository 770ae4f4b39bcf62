package broker

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/copyfleet/copyfleet/protocol"
)

// Floors says, for each stream that workers and the aggregator consume, up to which sequence everything was acknowledged.
type Floors map[string]uint64

// Floors reads the acknowledgement floors of now. A stream that has no consumer is left out.
func (c *Conn) Floors(ctx context.Context) (Floors, error) {
	floors := Floors{}
	for _, name := range []string{laneStream(protocol.Interactive), laneStream(protocol.Bulk), retryStream, reportStream} {
		stream, err := c.js.Stream(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("look at stream %s: %w", name, classify(err))
		}
		last := stream.CachedInfo().State.LastSeq
		consumers := stream.ListConsumers(ctx)
		floor, found := last, false
		for info := range consumers.Info() {
			found = true
			floor = min(floor, consumed(info, last))
		}
		if err := consumers.Err(); err != nil {
			return nil, fmt.Errorf("list the consumers of %s: %w", name, classify(err))
		}
		if found {
			floors[name] = floor
		}
	}
	return floors, nil
}

// consumed is the sequence up to which a consumer needs no message any more. One with nothing pending and nothing
// unacknowledged has consumed all there was, however far away its own last message lies.
func consumed(info *jetstream.ConsumerInfo, last uint64) uint64 {
	if info.NumPending == 0 && info.NumAckPending == 0 {
		return last
	}
	return info.AckFloor.Stream
}

// Trim removes what lies at or below the floors. It is one cheap operation a stream, in place of a synced
// deletion an item.
func (c *Conn) Trim(ctx context.Context, floors Floors) error {
	for name, floor := range floors {
		if floor == 0 {
			continue
		}
		stream, err := c.js.Stream(ctx, name)
		if err != nil {
			return fmt.Errorf("trim stream %s: %w", name, classify(err))
		}
		if stream.CachedInfo().State.FirstSeq > floor {
			continue
		}
		opts := []jetstream.StreamPurgeOpt{jetstream.WithPurgeSequence(floor + 1)}
		if name == retryStream { // schedules that are not due lie between those that are
			opts = append(opts, jetstream.WithPurgeSubject(protocol.RetryDue+">"))
		}
		if err := stream.Purge(ctx, opts...); err != nil {
			return fmt.Errorf("trim stream %s: %w", name, classify(err))
		}
	}
	return nil
}

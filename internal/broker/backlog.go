package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/copyfleet/copyfleet/protocol"
)

// Backlog is what waits in one shard of a lane, or in its retries.
type Backlog struct {
	Waiting int // not delivered yet
	Held    int // delivered and not acknowledged: running, or handed back for a while

	Delivered uint64 // deliveries since the shard was set up, repeated ones included
}

// Backlog reads what waits in a shard.
func (c *Conn) Backlog(ctx context.Context, shard Shard) (Backlog, error) {
	name := laneStream(shard.Lane)
	if shard.Lane == retryLane {
		name = retryStream
	}
	consumer, err := c.js.Consumer(ctx, name, shardConsumer(shard.Pool, shard.Index))
	if err != nil {
		return Backlog{}, fmt.Errorf("read the backlog of %s: %w", name, classify(err))
	}
	info := consumer.CachedInfo()
	return Backlog{
		Waiting: int(info.NumPending), Held: info.NumAckPending, Delivered: info.Delivered.Consumer, //nolint:gosec // far below the limits of int
	}, nil
}

// Waits reports whether an item of a batch waits in its lane that was not delivered yet.
func (c *Conn) Waits(ctx context.Context, shard Shard, org protocol.OrgID, batch protocol.BatchID) (bool, error) {
	name := laneStream(shard.Lane)
	stream, err := c.js.Stream(ctx, name)
	if err != nil {
		return false, fmt.Errorf("look for waiting items of %s: %w", batch, classify(err))
	}
	consumer, err := stream.Consumer(ctx, shardConsumer(shard.Pool, shard.Index))
	if err != nil {
		return false, fmt.Errorf("look for waiting items of %s: %w", batch, classify(err))
	}
	subject := protocol.WorkSubject(shard.Lane, shard.Pool, shard.Index, org, batch)
	_, err = stream.GetMsg(ctx, consumer.CachedInfo().Delivered.Stream+1, jetstream.WithGetMsgSubject(subject))
	if err = classify(err); errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for waiting items of %s: %w", batch, err)
	}
	return true, nil
}

// Oldest returns the age of the first message of a shard that was not delivered yet; 0: there is none.
func (c *Conn) Oldest(ctx context.Context, shard Shard) (time.Duration, error) {
	name, filter := laneStream(shard.Lane), protocol.WorkFilter(shard.Lane, shard.Pool, shard.Index)
	if shard.Lane == retryLane {
		name, filter = retryStream, protocol.RetrySubject(shard.Pool, shard.Index)
	}
	stream, err := c.js.Stream(ctx, name)
	if err != nil {
		return 0, fmt.Errorf("read the backlog of %s: %w", name, classify(err))
	}
	consumer, err := stream.Consumer(ctx, shardConsumer(shard.Pool, shard.Index))
	if err != nil {
		return 0, fmt.Errorf("read the backlog of %s: %w", name, classify(err))
	}
	info := consumer.CachedInfo()
	if info.NumPending == 0 {
		return 0, nil
	}
	msg, err := stream.GetMsg(ctx, info.Delivered.Stream+1, jetstream.WithGetMsgSubject(filter))
	if err != nil {
		return 0, fmt.Errorf("read the backlog of %s: %w", name, classify(err))
	}
	return max(time.Since(msg.Time), 0), nil
}

// Recall removes from the queue what waits of a batch: its items, and its planned retries. What workers hold stays with them. The
// server forgets the redeliveries of the lane by it, so that what was handed back there comes when its AckWait is over.
func (c *Conn) Recall(ctx context.Context, lane protocol.Lane, pool string, org protocol.OrgID, batch protocol.BatchID) error {
	for name, subject := range map[string]string{
		laneStream(lane): protocol.WorkSubject(lane, pool, protocol.ShardOf(org), org, batch),
		retryStream:      protocol.ScheduleFilter(org, batch),
	} {
		stream, err := c.js.Stream(ctx, name)
		if err != nil {
			return fmt.Errorf("recall batch %s: %w", batch, classify(err))
		}
		if err := stream.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
			return fmt.Errorf("recall batch %s: %w", batch, classify(err))
		}
	}
	return nil
}

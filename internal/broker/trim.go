package broker

import (
	"context"
	"errors"
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
		var infos []*jetstream.ConsumerInfo
		for info := range consumers.Info() { // to its end: the listing leaks otherwise
			infos = append(infos, info)
		}
		if err := consumers.Err(); err != nil {
			return nil, fmt.Errorf("list the consumers of %s: %w", name, classify(err))
		}
		floor := last
		for _, info := range infos {
			done, err := consumed(ctx, stream, info, last)
			if err != nil {
				return nil, err
			}
			floor = min(floor, done)
		}
		if len(infos) > 0 {
			floors[name] = floor
		}
	}
	return floors, nil
}

// consumed is the sequence up to which a consumer needs no message any more. For one with nothing unacknowledged that is
// the message before the next one that it has to get, however far away its own last one lies. The stream itself is asked
// for that: a pending count that is wrong for once must not cost anybody an item.
func consumed(ctx context.Context, stream jetstream.Stream, info *jetstream.ConsumerInfo, last uint64) (uint64, error) {
	if info.NumAckPending > 0 {
		return below(info.AckFloor.Stream + 1), nil
	}
	filter := info.Config.FilterSubject
	if filter == "" {
		filter = ">"
	}
	next, err := stream.GetMsg(ctx, info.Delivered.Stream+1, jetstream.WithGetMsgSubject(filter))
	if err = classify(err); errors.Is(err, ErrNotFound) {
		return last, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look for the next message of %s: %w", info.Name, err)
	}
	return min(last, below(next.Sequence)), nil
}

// below is the sequence up to which nothing is needed if seq is the first that is. The message right before a chunk's first
// item is its guard, which must stay as long as the chunk waits: it keeps a repeated call from publishing it again.
func below(seq uint64) uint64 {
	return max(seq, 2) - 2
}

// LastReport is the sequence of the newest bundle of reports.
func (c *Conn) LastReport(ctx context.Context) (uint64, error) {
	stream, err := c.js.Stream(ctx, reportStream)
	if err != nil {
		return 0, fmt.Errorf("look at stream %s: %w", reportStream, classify(err))
	}
	return stream.CachedInfo().State.LastSeq, nil
}

// Folded reports whether all bundles up to a sequence were acknowledged when the floors were read.
func (f Floors) Folded(last uint64) bool { return f[reportStream] >= last }

// Trim removes what lies at or below the floors, from streams where that is least messages or more. It is one cheap
// operation a stream, in place of a synced deletion an item.
func (c *Conn) Trim(ctx context.Context, floors Floors, least uint64) error {
	for name, floor := range floors {
		if floor == 0 {
			continue
		}
		stream, err := c.js.Stream(ctx, name)
		if err != nil {
			return fmt.Errorf("trim stream %s: %w", name, classify(err))
		}
		if first := stream.CachedInfo().State.FirstSeq; floor < first || floor-first+1 < least {
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

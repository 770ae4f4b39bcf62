package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/copyfleet/copyfleet/protocol"
)

// FeedChunk is [Conn.PublishChunk] for items that come from a manifest: the guard keeps where the chunk ends, so that who finds
// it published, and does not know by whom, can go on behind it.
func (c *Conn) FeedChunk(ctx context.Context, guard string, end int, subject string, items [][]byte) error {
	if len(items) == 0 || len(items) > MaxChunk {
		return fmt.Errorf("feed a chunk of %d items: must be 1 to %d", len(items), MaxChunk)
	}
	writes := make([]write, 0, len(items)+1)
	writes = append(writes, write{subject: guard, data: strconv.AppendInt(nil, int64(end), 10), expect: new(uint64)})
	for _, item := range items {
		writes = append(writes, write{subject: subject, data: item})
	}
	_, err := c.publishAtomic(ctx, writes)
	if errors.Is(err, ErrConflict) {
		return fmt.Errorf("%w: %w", ErrCommitted, err)
	}
	return err
}

// FedUntil returns where the chunk behind a guard of [Conn.FeedChunk] ends, or [ErrNotFound].
func (c *Conn) FedUntil(ctx context.Context, lane protocol.Lane, guard string) (int, error) {
	stream, err := c.js.Stream(ctx, laneStream(lane))
	if err != nil {
		return 0, fmt.Errorf("look for %s: %w", guard, classify(err))
	}
	msg, err := stream.GetLastMsgForSubject(ctx, guard)
	if err != nil {
		return 0, fmt.Errorf("look for %s: %w", guard, classify(err))
	}
	end, err := strconv.Atoi(string(msg.Data))
	if err != nil {
		return 0, fmt.Errorf("look for %s: %w", guard, err)
	}
	return end, nil
}

// ReportFloor is how far the bundles of reports have been folded: all up to floor, of those up to last.
func (c *Conn) ReportFloor(ctx context.Context) (floor, last uint64, err error) {
	last, err = c.LastReport(ctx)
	if err != nil {
		return 0, 0, err
	}
	consumer, err := c.js.Consumer(ctx, reportStream, reportConsumer)
	if err != nil {
		return 0, 0, fmt.Errorf("read how far reports are folded: %w", classify(err))
	}
	info := consumer.CachedInfo()
	if info.NumPending == 0 && info.NumAckPending == 0 {
		return last, last, nil
	}
	return info.AckFloor.Stream, last, nil
}

// TellFeeder says that an aggregator lives, or that it ends in order.
func (c *Conn) TellFeeder(id string, ends bool) error {
	data := []byte(nil)
	if ends {
		data = []byte("ends")
	}
	if err := c.nc.Publish(protocol.FeederSubject+protocol.Token(id), data); err != nil {
		return fmt.Errorf("tell that feeder %s lives: %w", id, classify(err))
	}
	return nil
}

// Hints is who is told of what goes over core NATS. The functions run on goroutines of the connection, and must be quick.
type Hints struct {
	Changed func(key string, final bool) // a batch, by its [protocol.ControlKey]
	Feeder  func(id string, ends bool)   // by its token
}

// WatchHints delivers the changes of all batches, and the signs of life of all feeders. Some may be missed. stop ends it.
func (c *Conn) WatchHints(h Hints) (stop func(), err error) {
	changes, err := c.nc.Subscribe(protocol.ChangeSubject+"*.*", func(msg *nats.Msg) {
		h.Changed(strings.TrimPrefix(msg.Subject, protocol.ChangeSubject), len(msg.Data) > 0)
	})
	if err != nil {
		return nil, fmt.Errorf("listen to changes: %w", classify(err))
	}
	feeders, err := c.nc.Subscribe(protocol.FeederSubject+"*", func(msg *nats.Msg) {
		h.Feeder(strings.TrimPrefix(msg.Subject, protocol.FeederSubject), len(msg.Data) > 0)
	})
	if err != nil {
		_ = changes.Unsubscribe()
		return nil, fmt.Errorf("listen to feeders: %w", classify(err))
	}
	return func() {
		_ = changes.Unsubscribe() // fails only on a closed connection
		_ = feeders.Unsubscribe()
	}, nil
}

package broker

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/copyfleet/copyfleet/protocol"
)

// PublishParts stores works for parts of an item, all on the subject of its batch, as one atomic batch. There is no guard: who
// publishes them again, after an answer that was lost, makes works that are found to be done, or of an earlier epoch.
func (c *Conn) PublishParts(ctx context.Context, subject string, works [][]byte) error {
	if len(works) == 0 || len(works) > MaxChunk {
		return fmt.Errorf("publish %d parts: must be 1 to %d", len(works), MaxChunk)
	}
	writes := make([]write, len(works))
	for i, work := range works {
		writes[i] = write{subject: subject, data: work}
	}
	if len(writes) == 1 {
		_, err := c.publishOne(ctx, writes[0])
		return err
	}
	_, err := c.publishAtomic(ctx, writes)
	return err
}

// PartsChanged tells who waits for an item's parts that news of them are in KV. It is a hint.
func (c *Conn) PartsChanged(org protocol.OrgID, batch protocol.BatchID, index int) error {
	if err := c.nc.Publish(protocol.PartsOf(org, batch, index), nil); err != nil {
		return fmt.Errorf("tell of parts of item %d of %s: %w", index, batch, classify(err))
	}
	return nil
}

// WatchParts delivers a value whenever news of an item's parts came into KV; what comes while one waits to be read is one. A missed
// one is possible: read the state after subscribing, and again now and then. stop ends it.
func (c *Conn) WatchParts(org protocol.OrgID, batch protocol.BatchID, index int) (changes <-chan struct{}, stop func(), err error) {
	changes, stop, err = c.watch(protocol.PartsOf(org, batch, index))
	if err != nil {
		return nil, nil, fmt.Errorf("wait for parts of item %d of %s: %w", index, batch, err)
	}
	return changes, stop, nil
}

// watch delivers a value whenever something was told on a subject.
func (c *Conn) watch(subject string) (told <-chan struct{}, stop func(), err error) {
	ch := make(chan struct{}, 1)
	sub, err := c.nc.Subscribe(subject, func(*nats.Msg) {
		select {
		case ch <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return nil, nil, classify(err)
	}
	if err := c.nc.Flush(); err != nil { // without it a change right after this call could pass unseen
		_ = sub.Unsubscribe()
		return nil, nil, classify(err)
	}
	return ch, func() { _ = sub.Unsubscribe() }, nil // fails only on a closed connection
}

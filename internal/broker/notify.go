package broker

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/copyfleet/copyfleet/protocol"
)

// Shard names a consumer's share of the work.
type Shard struct {
	Lane  protocol.Lane // "" for the retries
	Pool  string
	Index int
}

// Wake tells idle workers that a shard has work. It is a hint over core NATS: a lost one costs a worker its next look.
func (c *Conn) Wake(shard Shard) error {
	subject := protocol.WakeSubject + string(shard.Lane) + "." + protocol.Token(shard.Pool) + "." + strconv.Itoa(shard.Index)
	if err := c.nc.Publish(subject, nil); err != nil {
		return fmt.Errorf("wake workers of %s: %w", subject, classify(err))
	}
	return nil
}

// Changed tells waiting calls that a batch changed in KV. final says that it will not change again.
func (c *Conn) Changed(org protocol.OrgID, batch protocol.BatchID, final bool) error {
	data := []byte(nil)
	if final {
		data = []byte("final")
	}
	if err := c.nc.Publish(protocol.ChangedSubject(org, batch), data); err != nil {
		return fmt.Errorf("tell of a change of %s: %w", batch, classify(err))
	}
	return nil
}

// endedMost is how many bytes of a summary are worth telling to all who listen.
const endedMost = 4 << 10

// Ended is Changed for a batch that will not change again, and tells what became of it: its summary, as it stands in KV. One that is large
// is to be read.
func (c *Conn) Ended(org protocol.OrgID, batch protocol.BatchID, summary []byte) error {
	if len(summary) == 0 || len(summary) > endedMost {
		return c.Changed(org, batch, true)
	}
	if err := c.nc.Publish(protocol.ChangedSubject(org, batch), summary); err != nil {
		return fmt.Errorf("tell of the end of %s: %w", batch, classify(err))
	}
	return nil
}

// summaryOf is what a message of a change tells; nil: nothing but that there was one.
func summaryOf(data []byte) []byte {
	if len(data) == 0 || data[0] != '{' {
		return nil
	}
	return data
}

// WatchChanges delivers a value whenever the batch changed; changes that come while one waits to be read are one. The value is the summary of a
// batch that has ended, if it was told; or nil.
// A missed one is possible: read the state after subscribing, and again now and then. stop ends it.
func (c *Conn) WatchChanges(org protocol.OrgID, batch protocol.BatchID) (changes <-chan []byte, stop func(), err error) {
	ch := make(chan []byte, 1)
	sub, err := c.nc.Subscribe(protocol.ChangedSubject(org, batch), func(msg *nats.Msg) {
		select {
		case ch <- summaryOf(msg.Data):
		default:
		}
	})
	if err != nil {
		return nil, nil, fmt.Errorf("wait for changes of %s: %w", batch, classify(err))
	}
	if err := c.nc.Flush(); err != nil { // without it a change right after this call could pass unseen
		_ = sub.Unsubscribe()
		return nil, nil, fmt.Errorf("wait for changes of %s: %w", batch, classify(err))
	}
	return ch, func() { _ = sub.Unsubscribe() }, nil // fails only on a closed connection
}

// wakes delivers the shards of a pool that were woken.
func (c *Conn) wakes(ctx context.Context, pool string, woken func(Shard)) (*nats.Subscription, error) {
	sub, err := c.nc.Subscribe(protocol.WakeSubject+"*."+protocol.Token(pool)+".*", func(msg *nats.Msg) {
		parts := strings.Split(strings.TrimPrefix(msg.Subject, protocol.WakeSubject), ".")
		index, err := strconv.Atoi(parts[len(parts)-1])
		if len(parts) != 3 || err != nil || index < 0 || index >= protocol.Shards {
			return
		}
		woken(Shard{Lane: protocol.Lane(parts[0]), Pool: pool, Index: index})
	})
	if err != nil {
		return nil, fmt.Errorf("listen for work: %w", classify(err))
	}
	return sub, ctx.Err()
}

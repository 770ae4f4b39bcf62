package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/copyfleet/copyfleet/protocol"
)

// TellProgress tells who listens how far a running item of a batch is. Nobody may.
func (c *Conn) TellProgress(org protocol.OrgID, batch protocol.BatchID, progress []byte) error {
	if err := c.nc.Publish(protocol.ProgressSubject(org, batch), progress); err != nil {
		return fmt.Errorf("tell the progress of %s: %w", batch, classify(err))
	}
	return nil
}

// progressBacklog bounds the news of progress that wait for a slow listener; what comes beyond is dropped.
const progressBacklog = 256

// WatchProgress delivers the progress of a batch's running items. stop ends it.
func (c *Conn) WatchProgress(org protocol.OrgID, batch protocol.BatchID) (progress <-chan []byte, stop func(), err error) {
	ch := make(chan []byte, progressBacklog)
	sub, err := c.nc.Subscribe(protocol.ProgressSubject(org, batch), func(msg *nats.Msg) {
		select {
		case ch <- msg.Data:
		default:
		}
	})
	if err != nil {
		return nil, nil, fmt.Errorf("listen to the progress of %s: %w", batch, classify(err))
	}
	return ch, func() { _ = sub.Unsubscribe() }, nil // fails only on a closed connection
}

// HearProgress has hear told of the progress of all running items, with the [protocol.ProgressSubject] of their batches, one after the other.
// stop ends it.
func (c *Conn) HearProgress(hear func(subject string, progress []byte)) (stop func(), err error) {
	sub, err := c.nc.Subscribe(protocol.ProgressWords+">", func(msg *nats.Msg) { hear(msg.Subject, msg.Data) })
	if err != nil {
		return nil, fmt.Errorf("listen to the progress of items: %w", classify(err))
	}
	return func() { _ = sub.Unsubscribe() }, nil // fails only on a closed connection
}

// TellPart tells the owner of an item how far a part of it is.
func (c *Conn) TellPart(org protocol.OrgID, batch protocol.BatchID, index int, progress []byte) error {
	if err := c.nc.Publish(protocol.PartsMoving(org, batch, index), progress); err != nil {
		return fmt.Errorf("tell the progress of item %d of %s: %w", index, batch, classify(err))
	}
	return nil
}

// HearParts has hear told how far parts of an item are. stop ends it.
func (c *Conn) HearParts(org protocol.OrgID, batch protocol.BatchID, index int, hear func(progress []byte)) (stop func(), err error) {
	sub, err := c.nc.Subscribe(protocol.PartsMoving(org, batch, index), func(msg *nats.Msg) { hear(msg.Data) })
	if err != nil {
		return nil, fmt.Errorf("listen to the parts of item %d of %s: %w", index, batch, classify(err))
	}
	return func() { _ = sub.Unsubscribe() }, nil // fails only on a closed connection
}

// ErrNobody says that no worker of a pool answers.
var ErrNobody = errors.New("no worker of the pool answers")

// AskPlan asks one worker of a pool what it would do, and returns its answer, or [ErrNobody].
func (c *Conn) AskPlan(ctx context.Context, pool string, question []byte) ([]byte, error) {
	msg, err := c.nc.RequestWithContext(ctx, protocol.PlanOf(pool), question)
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, fmt.Errorf("ask pool %s for a plan: %w", pool, ErrNobody)
	}
	if err != nil {
		return nil, fmt.Errorf("ask pool %s for a plan: %w", pool, classify(err))
	}
	return msg.Data, nil
}

// AnswerPlans lets answer reply to the questions of [Conn.AskPlan]; each is answered by one worker of the pool. answer runs on
// the goroutine that receives, and calls reply when it is done. stop ends it.
func (c *Conn) AnswerPlans(pool string, answer func(question []byte, reply func([]byte))) (stop func(), err error) {
	sub, err := c.nc.QueueSubscribe(protocol.PlanOf(pool), "workers", func(msg *nats.Msg) {
		answer(msg.Data, func(data []byte) { _ = msg.Respond(data) }) // who asked repeats its question
	})
	if err != nil {
		return nil, fmt.Errorf("answer plans of pool %s: %w", pool, classify(err))
	}
	return func() { _ = sub.Unsubscribe() }, nil // fails only on a closed connection
}

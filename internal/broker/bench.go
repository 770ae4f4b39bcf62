package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/copyfleet/copyfleet/protocol"
)

// CallGenerators has all load generators say who they are, and hear told of each answer until it has enough or ctx ends. hear runs on the caller's
// goroutine.
func (c *Conn) CallGenerators(ctx context.Context, hear func(answer []byte) (enough bool)) error {
	inbox := c.nc.NewInbox()
	sub, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return fmt.Errorf("call the load generators: %w", classify(err))
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only on a closed connection
	if err := c.nc.PublishRequest(protocol.BenchRoll, inbox, nil); err != nil {
		return fmt.Errorf("call the load generators: %w", classify(err))
	}
	for {
		msg, err := sub.NextMsgWithContext(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, nats.ErrNoResponders):
			continue // one that joins meanwhile does not hear this call; the caller calls again
		case err != nil:
			return fmt.Errorf("call the load generators: %w", classify(err))
		}
		if hear(msg.Data) {
			return nil
		}
	}
}

// AskGenerator asks one load generator, and returns its answer. [ErrUnavailable]: there is none of this id, or the connection is lost.
func (c *Conn) AskGenerator(ctx context.Context, id string, question []byte) ([]byte, error) {
	msg, err := c.nc.RequestWithContext(ctx, protocol.BenchAsk+protocol.Token(id), question)
	if err != nil {
		return nil, fmt.Errorf("ask a load generator: %w", classify(err))
	}
	return msg.Data, nil
}

// HearGenerator makes this connection the load generator of an id: roll makes its answer to each [Conn.CallGenerators] (nil: none), answer that to each
// [Conn.AskGenerator]. They run on goroutines of the connection, and must be quick. stop ends it.
func (c *Conn) HearGenerator(id string, roll func() []byte, answer func(question []byte) []byte) (stop func(), err error) {
	calls, err := c.nc.Subscribe(protocol.BenchRoll, func(msg *nats.Msg) { respond(msg, roll()) })
	if err != nil {
		return nil, fmt.Errorf("be a load generator: %w", classify(err))
	}
	asks, err := c.nc.Subscribe(protocol.BenchAsk+protocol.Token(id), func(msg *nats.Msg) { respond(msg, answer(msg.Data)) })
	stop = func() {
		_ = calls.Unsubscribe() // fails only on a closed connection
		if asks != nil {
			_ = asks.Unsubscribe()
		}
	}
	if err == nil {
		err = c.nc.Flush() // without it a call right after this one could pass unheard
	}
	if err != nil {
		stop()
		return nil, fmt.Errorf("be a load generator: %w", classify(err))
	}
	return stop, nil
}

// respond answers into an inbox and nowhere else: who may publish to the subjects of load generators could otherwise have them write to those that only
// the fleet may write to.
func respond(msg *nats.Msg, data []byte) {
	if data != nil && strings.HasPrefix(msg.Reply, nats.InboxPrefix) {
		_ = msg.Respond(data) // who asked repeats its question
	}
}

// MaxPayload is how large a message the server takes, in bytes.
func (c *Conn) MaxPayload() int64 { return c.nc.MaxPayload() }

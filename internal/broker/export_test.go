package broker

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
)

// NATS is the connection below.
func (c *Conn) NATS() *nats.Conn { return c.nc }

// StopLooking leaves an intake with nothing but wakes.
func (in *Intake) StopLooking() { in.look.Stop() }

// AnswerWithin is how long an intake waits for the answer to a pull.
func (in *Intake) AnswerWithin(d time.Duration) { in.answer = d }

// AddLate gives an intake the inbox of a pull that was given up.
func (in *Intake) AddLate(inbox *nats.Subscription, asked time.Time) {
	in.late = append(in.late, lateInbox{inbox, asked, in.conn.Epoch()})
}

// HandBackLate hands back what came too late.
func (in *Intake) HandBackLate() { in.handBackLate() }

// DeleteEvents deletes the stream of events.
func (c *Conn) DeleteEvents(ctx context.Context) error { return c.js.DeleteStream(ctx, eventStream) }

// LimitEvents makes the stream of events small.
func (c *Conn) LimitEvents(ctx context.Context, most, perSubject int64) error {
	cfg := c.eventStreams()[0]
	cfg.MaxMsgs, cfg.MaxMsgsPerSubject = most, perSubject
	_, err := c.js.UpdateStream(ctx, cfg)
	return err
}

package broker

import (
	"context"
	"time"
)

// StopLooking leaves an intake with nothing but wakes.
func (in *Intake) StopLooking() { in.look.Stop() }

// AnswerWithin is how long an intake waits for the answer to a pull.
func (in *Intake) AnswerWithin(d time.Duration) { in.answer = d }

// GrowOlder has pulls been asked for that much earlier.
func (in *Intake) GrowOlder(d time.Duration) {
	for i := range in.late {
		in.late[i].asked = in.late[i].asked.Add(-d)
	}
}

// DeleteEvents deletes the stream of events.
func (c *Conn) DeleteEvents(ctx context.Context) error { return c.js.DeleteStream(ctx, eventStream) }

// LimitEvents makes the stream of events small.
func (c *Conn) LimitEvents(ctx context.Context, most, perSubject int64) error {
	cfg := c.eventStreams()[0]
	cfg.MaxMsgs, cfg.MaxMsgsPerSubject = most, perSubject
	_, err := c.js.UpdateStream(ctx, cfg)
	return err
}

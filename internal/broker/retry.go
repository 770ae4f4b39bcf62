package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/copyfleet/copyfleet/protocol"
)

// Headers of message schedules (nats-architecture-and-design, ADR-51).
const (
	headerSchedule       = "Nats-Schedule"
	headerScheduleTarget = "Nats-Schedule-Target"
)

// PlanRetry stores an item so that it is delivered again at a time. Planning the same item and attempt again moves the time.
// A plan may fire twice over a crash of the server.
func (c *Conn) PlanRetry(ctx context.Context, ref protocol.Ref, attempt int, pool string, shard int, at time.Time, item []byte) error {
	if err := c.plan(ctx, protocol.ScheduleSubject(ref, attempt), pool, shard, at, item); err != nil {
		return fmt.Errorf("plan a retry: %w", err)
	}
	return nil
}

// PlanWait stores works of a batch that wait together ([protocol.WaitWith]), so that they are delivered at a time.
func (c *Conn) PlanWait(ctx context.Context, org protocol.OrgID, batch protocol.BatchID, pool string, shard int, at time.Time, works []byte) error {
	if err := c.plan(ctx, protocol.WaitSubject(org, batch, rand.Text()), pool, shard, at, works); err != nil {
		return fmt.Errorf("plan a wait: %w", err)
	}
	return nil
}

func (c *Conn) plan(ctx context.Context, subject, pool string, shard int, at time.Time, data []byte) error {
	msg := nats.NewMsg(subject)
	msg.Data = data
	msg.Header.Set(headerSchedule, "@at "+at.UTC().Format(time.RFC3339Nano))
	msg.Header.Set(headerScheduleTarget, protocol.RetrySubject(pool, shard))
	_, err := c.request(ctx, msg)
	return err
}

// Planned reports whether something of a batch is planned for later.
func (c *Conn) Planned(ctx context.Context, org protocol.OrgID, batch protocol.BatchID) (bool, error) {
	stream, err := c.js.Stream(ctx, retryStream)
	if err != nil {
		return false, fmt.Errorf("look for what is planned of %s: %w", batch, classify(err))
	}
	_, err = stream.GetLastMsgForSubject(ctx, protocol.ScheduleFilter(org, batch))
	if err = classify(err); errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for what is planned of %s: %w", batch, err)
	}
	return true, nil
}

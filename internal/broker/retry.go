package broker

import (
	"context"
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
	msg := nats.NewMsg(protocol.ScheduleSubject(ref, attempt))
	msg.Data = item
	msg.Header.Set(headerSchedule, "@at "+at.UTC().Format(time.RFC3339Nano))
	msg.Header.Set(headerScheduleTarget, protocol.RetrySubject(pool, shard))
	if _, err := c.request(ctx, msg); err != nil {
		return fmt.Errorf("plan a retry: %w", err)
	}
	return nil
}

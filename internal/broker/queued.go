package broker

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/copyfleet/copyfleet/protocol"
)

// Queued counts the items in all lanes that nobody has acknowledged, and the planned retries.
func (c *Conn) Queued(ctx context.Context) (int, error) {
	queued := 0
	for _, name := range []string{laneStream(protocol.Interactive), laneStream(protocol.Bulk), retryStream} {
		stream, err := c.js.Stream(ctx, name)
		if err != nil {
			return 0, fmt.Errorf("count the items of %s: %w", name, classify(err))
		}
		consumers := stream.ListConsumers(ctx)
		for info := range consumers.Info() {
			queued += int(info.NumPending) + info.NumAckPending //nolint:gosec // far below the limits of int
		}
		if err := consumers.Err(); err != nil {
			return 0, fmt.Errorf("count the items of %s: %w", name, classify(err))
		}
		if name == retryStream {
			state, err := stream.Info(ctx, jetstream.WithSubjectFilter(protocol.RetryAt+">"))
			if err != nil {
				return 0, fmt.Errorf("count the items of %s: %w", name, classify(err))
			}
			for _, n := range state.State.Subjects {
				queued += int(n) //nolint:gosec // far below the limits of int
			}
		}
	}
	return queued, nil
}

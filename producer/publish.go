package producer

import (
	"context"
	"errors"
	"fmt"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

// publish puts the items of a small batch into the queue: one chunk, an atomic batch behind a guard that lets it in once.
func (p *Pipeline) publish(ctx context.Context, record *protocol.Acceptance, items []protocol.ManifestItem) error {
	messages := make([][]byte, len(items))
	for i := range items {
		message, err := p.message(record, i, &items[i])
		if err != nil {
			return err
		}
		messages[i] = message
	}
	_, err := p.conn.PublishChunk(ctx, record.Guard(0), record.Subject(), messages)
	if err != nil && !errors.Is(err, broker.ErrCommitted) {
		return fmt.Errorf("publish %d items: %w", len(items), err)
	}
	failpoint.Hit(failpoint.ChunkPublished)
	return nil
}

// message is one item as it travels: its locations, which are credentials, sealed.
func (p *Pipeline) message(record *protocol.Acceptance, index int, item *protocol.ManifestItem) ([]byte, error) {
	work := protocol.Work{
		Version: protocol.WorkVersion, Org: record.Org, Batch: record.Batch, Index: index, Total: record.Total, Chunks: record.Chunks,
		ID: item.ID, Lane: record.Lane, Pool: record.Pool, Shard: protocol.ShardOf(record.Org), Trace: record.Trace,
		MaxAttempts: record.Options.Attempts,
	}
	sealed, err := p.sealer.SealItem(work.Ref(), item)
	if err != nil {
		return nil, fmt.Errorf("prepare item %d: %w", index, err)
	}
	work.Sealed = sealed
	message, err := protocol.Encode(work)
	if err != nil {
		return nil, fmt.Errorf("prepare item %d: %w", index, err)
	}
	return message, nil
}

// wake tells idle workers. It is a hint: they also look by themselves.
func (p *Pipeline) wake(record *protocol.Acceptance) {
	if err := p.conn.Wake(broker.Shard{Lane: record.Lane, Pool: record.Pool, Index: protocol.ShardOf(record.Org)}); err != nil {
		p.log.Debug("workers were not woken and will look by themselves", "error", err)
	}
}

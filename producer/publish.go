package producer

import (
	"context"
	"errors"
	"fmt"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

// publish puts the items into the queue: chunks of a fixed size, so that a repetition makes the same ones, each an
// atomic batch behind a guard that lets it in once.
func (p *Pipeline) publish(ctx context.Context, o *order, record *protocol.Acceptance) error {
	for chunk := range record.Chunks {
		first := chunk * broker.MaxChunk
		items := o.items[first:min(first+broker.MaxChunk, len(o.items))]
		messages := make([][]byte, len(items))
		for i := range items {
			message, err := p.message(o, record, &items[i])
			if err != nil {
				return err
			}
			messages[i] = message
		}
		_, err := p.conn.PublishChunk(ctx, record.Guard(chunk), record.Subject(), messages)
		if err != nil && !errors.Is(err, broker.ErrCommitted) {
			return fmt.Errorf("publish items %d to %d: %w", first, first+len(items)-1, err)
		}
		failpoint.Hit(failpoint.ChunkPublished)
	}
	return nil
}

// message is one item as it travels: its locations, which are credentials, sealed.
func (p *Pipeline) message(o *order, record *protocol.Acceptance, item *protocol.Item) ([]byte, error) {
	work := protocol.Work{
		Version: protocol.WorkVersion, Org: o.org, Batch: record.Batch, Index: item.Index, Total: record.Total, Chunks: record.Chunks,
		ID: item.ID, Lane: record.Lane, Pool: record.Pool, Shard: protocol.ShardOf(o.org), Trace: o.trace,
	}
	asked := item.Asked()
	sealed, err := p.sealer.SealItem(work.Ref(), &asked)
	if err != nil {
		return nil, fmt.Errorf("prepare item %d: %w", item.Index, err)
	}
	work.Sealed = sealed
	message, err := protocol.Encode(work)
	if err != nil {
		return nil, fmt.Errorf("prepare item %d: %w", item.Index, err)
	}
	return message, nil
}

// wake tells idle workers. It is a hint: they also look by themselves.
func (p *Pipeline) wake(o *order) {
	if err := p.conn.Wake(broker.Shard{Lane: o.lane, Pool: o.pool, Index: protocol.ShardOf(o.org)}); err != nil {
		p.log.Debug("workers were not woken and will look by themselves", "error", err)
	}
}

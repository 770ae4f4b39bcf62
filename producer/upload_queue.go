package producer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/copyfleet/copyfleet/producer/uploads"
	"github.com/copyfleet/copyfleet/protocol"
)

// UploadQueue returns the way in which upload sessions are published: batches of one item like those of any caller, which are named by their
// session.
func (p *Pipeline) UploadQueue() uploads.Queue { return uploadQueue{p} }

type uploadQueue struct{ pipeline *Pipeline }

// Submit implements uploads.Queue.
func (q uploadQueue) Submit(ctx context.Context, p uploads.Publication) error {
	id := p.Item.Src.Upload
	_, err := q.pipeline.acceptItems(ctx, order{
		org: p.Org, batch: p.Batch, keyed: true, trace: p.Trace, upload: id,
		terms: terms{
			lane: protocol.Interactive, pool: p.Pool, label: "upload " + string(id),
			// The batch follows from the session and its generation, so that it alone says what is asked for: the item may be written
			// in another way by the next version of this program, and is the same batch still.
			request: sha256.Sum256([]byte("upload\x00" + string(p.Org) + "\x00" + string(p.Batch))),
		},
	}, asked([]protocol.Item{p.Item}))
	if err != nil {
		return fmt.Errorf("publish %s: %w", id, err)
	}
	return nil
}

// Outcome implements uploads.Queue.
func (q uploadQueue) Outcome(ctx context.Context, org protocol.OrgID, batch protocol.BatchID) (protocol.Receipt, bool, error) {
	// The summary last: an end that is in it outweighs what the record says.
	record, found, err := q.pipeline.acceptance(ctx, org, batch)
	if err != nil {
		return protocol.Receipt{}, false, err
	}
	summary, told, err := q.pipeline.summary(ctx, org, batch)
	switch {
	case err != nil:
		return protocol.Receipt{}, false, err
	case !found, !told && record.State == protocol.AcceptAbandoned:
		return protocol.Receipt{}, false, uploads.ErrNoBatch
	case !told || !summary.State.Final():
		return protocol.Receipt{}, false, nil
	}
	receipts, err := q.pipeline.receipts(ctx, &record, &summary, 0, 1)
	if err != nil {
		return protocol.Receipt{}, false, err
	}
	if len(receipts) == 0 {
		return protocol.Receipt{}, false, fmt.Errorf("read the outcome of %s: it has no item", batch)
	}
	return receipts[0], true, nil
}

// Cancel implements uploads.Queue. One that has ended needs none.
func (q uploadQueue) Cancel(ctx context.Context, org protocol.OrgID, batch protocol.BatchID) error {
	record, found, err := q.pipeline.acceptance(ctx, org, batch)
	if err != nil {
		return err
	}
	if found && record.State != protocol.AcceptAbandoned {
		err = q.pipeline.want(ctx, org, batch, stop)
	}
	switch {
	case !found, record.State == protocol.AcceptAbandoned, errors.Is(err, errBatchRemoved):
		return uploads.ErrNoBatch
	case errors.Is(err, errBatchEnded):
		return nil
	}
	return err
}

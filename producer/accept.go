package producer

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

// Pipeline is the front's way into the queue and its view of what became of it.
type Pipeline struct {
	conn    *broker.Conn
	batches *broker.Bucket
	claims  *broker.Bucket
	sealer  *protocol.Sealer
	room    func() error
	log     *slog.Logger

	mu    sync.Mutex
	pools map[string]bool // whose consumers this process has seen to
}

// NewPipeline opens the queue. The sealer must have the same key as the workers'. room says why nothing may be accepted
// now, for instance because the disk is nearly full; nil: nothing speaks against it.
func NewPipeline(ctx context.Context, conn *broker.Conn, sealer *protocol.Sealer, room func() error, log *slog.Logger) (*Pipeline, error) {
	if room == nil {
		room = func() error { return nil }
	}
	batches, err := conn.Bucket(ctx, broker.BatchBucket)
	if err != nil {
		return nil, fmt.Errorf("producer: %w", err)
	}
	claims, err := conn.Bucket(ctx, broker.ClaimBucket)
	if err != nil {
		return nil, fmt.Errorf("producer: %w", err)
	}
	return &Pipeline{conn: conn, batches: batches, claims: claims, sealer: sealer, room: room, log: log, pools: map[string]bool{}}, nil
}

// errKeyReused says that an idempotency key came with another request than the first time.
var errKeyReused = errors.New("the idempotency key was used for another request")

// order is a validated request to be accepted.
type order struct {
	org     protocol.OrgID
	batch   protocol.BatchID
	keyed   bool // the id stands for an idempotency key
	lane    protocol.Lane
	pool    string
	items   []protocol.Item
	request [32]byte // digest of the request
	trace   string   // W3C traceparent
}

// accept makes a batch durable, whole or not at all, and returns its accept record. The steps: an accept record, the items
// in atomic chunks, then, where there are several chunks, the word that all are there. It may be repeated at any point:
// the same key finds the same record, and a chunk that is in the queue is not published again.
func (p *Pipeline) accept(ctx context.Context, o order) (protocol.Acceptance, error) {
	if err := p.room(); err != nil {
		return protocol.Acceptance{}, fmt.Errorf("accept a batch: %w", err)
	}
	if err := p.ensurePool(ctx, o.pool); err != nil {
		return protocol.Acceptance{}, err
	}
	record, revision, err := p.open(ctx, &o)
	if err != nil {
		return record, err
	}
	if record.State == protocol.AcceptComplete {
		return record, nil
	}
	failpoint.Hit(failpoint.AcceptRecorded)
	if record.Keyed {
		// Once there are receipts the chunk was published, even if its guard is trimmed by now.
		_, err := p.batches.Get(ctx, protocol.SummaryKey(o.org, record.Batch))
		if err == nil && record.Chunks == 1 {
			return record, nil
		}
		if err != nil && !errors.Is(err, broker.ErrNotFound) {
			return record, fmt.Errorf("accept batch %s: %w", record.Batch, err)
		}
	}
	if err := p.publish(ctx, &o, &record); err != nil {
		return record, fmt.Errorf("accept batch %s: %w", record.Batch, err)
	}
	if record.Chunks > 1 {
		if record, err = p.complete(ctx, record, revision); err != nil {
			return record, err
		}
	}
	failpoint.Hit(failpoint.AcceptanceComplete)
	p.wake(&o)
	return record, nil
}

// ensurePool sees to it that somebody waits for the items of a pool before any is published, also if no worker of the pool
// has ever run.
func (p *Pipeline) ensurePool(ctx context.Context, pool string) error {
	p.mu.Lock()
	known := p.pools[pool]
	p.mu.Unlock()
	if known {
		return nil
	}
	if err := p.conn.EnsurePool(ctx, pool); err != nil {
		return fmt.Errorf("accept a batch for pool %s: %w", pool, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pools[pool] = true
	return nil
}

// open creates the accept record or finds that of an earlier try.
func (p *Pipeline) open(ctx context.Context, o *order) (protocol.Acceptance, uint64, error) {
	record := protocol.Acceptance{
		Version: protocol.AcceptanceVersion,
		Batch:   o.batch,
		Org:     o.org,
		Lane:    o.lane,
		Pool:    o.pool,
		Total:   len(o.items),
		Chunks:  (len(o.items) + broker.MaxChunk - 1) / broker.MaxChunk,
		Request: hex.EncodeToString(o.request[:]),
		Keyed:   o.keyed,
		State:   protocol.AcceptPending,
		Created: time.Now().UTC(),
		IDs:     ids(o.items),
	}
	value, err := protocol.Encode(record)
	if err != nil {
		return record, 0, fmt.Errorf("accept a batch: %w", err)
	}
	key := protocol.AcceptKey(o.org, record.Batch)
	revision, err := p.batches.Create(ctx, key, value)
	if errors.Is(err, broker.ErrExists) {
		for range reopenTries {
			var found protocol.Acceptance
			found, revision, err = p.reopen(ctx, key, record)
			if !errors.Is(err, broker.ErrConflict) {
				return found, revision, err
			}
		}
	}
	if err != nil {
		return record, 0, fmt.Errorf("accept a batch: %w", err)
	}
	return record, revision, nil
}

// reopenTries is how often a record is read again that another call changed meanwhile.
const reopenTries = 3

// reopen continues an acceptance that an earlier try began.
func (p *Pipeline) reopen(ctx context.Context, key string, fresh protocol.Acceptance) (protocol.Acceptance, uint64, error) {
	entry, err := p.batches.Get(ctx, key)
	if err != nil {
		return fresh, 0, fmt.Errorf("accept batch %s: %w", fresh.Batch, err)
	}
	var record protocol.Acceptance
	if err := json.Unmarshal(entry.Value, &record); err != nil {
		return fresh, 0, fmt.Errorf("accept batch %s: read its record: %w", fresh.Batch, err)
	}
	if record.Request != fresh.Request {
		return record, 0, errKeyReused
	}
	if record.State != protocol.AcceptAbandoned {
		return record, entry.Revision, nil
	}
	// Workers may have dropped some of its items. All are published anew, under guards of a new generation.
	record.State, record.Created = protocol.AcceptPending, fresh.Created
	record.Generation++
	revision, err := p.rewrite(ctx, &record, entry.Revision)
	return record, revision, err
}

func (p *Pipeline) complete(ctx context.Context, record protocol.Acceptance, revision uint64) (protocol.Acceptance, error) {
	record.State = protocol.AcceptComplete
	_, err := p.rewrite(ctx, &record, revision)
	if errors.Is(err, broker.ErrConflict) {
		// Another call with the same key may have been faster.
		now, found, getErr := p.acceptance(ctx, record.Org, record.Batch)
		if getErr == nil && found && now.State == protocol.AcceptComplete {
			return now, nil
		}
	}
	return record, err
}

func (p *Pipeline) rewrite(ctx context.Context, record *protocol.Acceptance, revision uint64) (uint64, error) {
	value, err := protocol.Encode(record)
	if err != nil {
		return 0, fmt.Errorf("accept batch %s: %w", record.Batch, err)
	}
	revision, err = p.batches.Update(ctx, broker.Change{Key: protocol.AcceptKey(record.Org, record.Batch), Value: value, Revision: revision})
	if err != nil {
		return 0, fmt.Errorf("accept batch %s: %w", record.Batch, err)
	}
	return revision, nil
}

// ids keeps the callers' ids of a small batch with its record, so that an item that has not ended can be named.
func ids(items []protocol.Item) []string {
	if !protocol.Inline(len(items)) {
		return nil
	}
	list, some := make([]string, len(items)), false
	for i, item := range items {
		list[i] = item.ID
		some = some || item.ID != ""
	}
	if !some {
		return nil
	}
	return list
}

package producer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// errBeyond says that a batch alone has more items than may wait at all.
var errBeyond = errors.New("the batch has more items than may wait in the queue")

// backlogEvery is the least time between two counts of what waits.
const backlogEvery = time.Second

// backlog knows how many items were accepted and have not ended: what was counted last, and what this process accepted since. Other
// fronts accept as well, so it is exact to what they accept between two counts; the streams of the lanes have a limit of their own.
type backlog struct {
	limit int

	counting sync.Mutex // held while counting; one does it for all

	mu      sync.Mutex
	counted int
	since   int
	at      time.Time
}

// add notes items that this process accepted.
func (b *backlog) add(items int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.since += items
}

// known returns how many items wait as far as is known, and since when.
func (b *backlog) known() (int, time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counted + b.since, b.at
}

// early refuses a batch that has too many items to be accepted, whatever follows, while it is still being read.
func (b *backlog) early(items int) error {
	if items > b.limit {
		return fmt.Errorf("%w: more than %d", errBeyond, b.limit)
	}
	return nil
}

// admit returns why a batch of so many items cannot be accepted now: [broker.ErrFull], or what room says. With 0 items, whose number
// is not known yet, it refuses where not one would fit.
func (p *Pipeline) admit(ctx context.Context, items int) error {
	if err := p.room(); err != nil {
		return err
	}
	if err := p.backlog.early(items); err != nil {
		return err
	}
	waiting, at := p.backlog.known()
	// Counting takes some milliseconds: a fleet that is far from its limit is not counted at each call.
	if least := max(items, 1); waiting+least > p.backlog.limit/2 && time.Since(at) > backlogEvery {
		var err error
		if waiting, err = p.countBacklog(ctx); err != nil {
			return err
		}
	}
	if waiting+max(items, 1) > p.backlog.limit {
		return fmt.Errorf("%w: %d items wait, %d is the limit", broker.ErrFull, waiting, p.backlog.limit)
	}
	return nil
}

// countBacklog counts the items that were accepted and have not ended.
func (p *Pipeline) countBacklog(ctx context.Context) (int, error) {
	b := &p.backlog
	b.counting.Lock()
	defer b.counting.Unlock()
	if waiting, at := b.known(); time.Since(at) <= backlogEvery {
		return waiting, nil // somebody else has counted meanwhile
	}
	b.mu.Lock()
	before := b.since
	b.mu.Unlock()
	counted, err := p.waitingItems(ctx)
	if err != nil {
		return 0, fmt.Errorf("count what waits: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counted, b.at = counted, time.Now()
	b.since -= before
	return b.counted + b.since, nil
}

// waitingItems counts what was never fed, what waits in the lanes or is with workers, and what waits for its retry. Paused batches
// count with what was never fed of them: the rest has left the queue until they are resumed.
func (p *Pipeline) waitingItems(ctx context.Context) (int, error) {
	waiting := 0
	var failed error
	err := p.feeds.Scan(ctx, ">", func(e broker.Scanned) bool {
		var feed protocol.Feed
		if failed = json.Unmarshal(e.Value, &feed); failed != nil {
			return false
		}
		record, _, err := p.stored(ctx, feed.Org, feed.Batch)
		if err == nil && record.State == protocol.AcceptComplete {
			waiting += max(record.Total-feed.Next, 0)
		} else if err != nil && !errors.Is(err, broker.ErrNotFound) {
			failed = err
		}
		return failed == nil
	})
	if err := errors.Join(err, failed); err != nil {
		return 0, err
	}
	queued, err := p.conn.Queued(ctx)
	return waiting + queued, err //nolint:wrapcheck // says what it was
}

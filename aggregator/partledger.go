package aggregator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/sourcegraph/conc/pool"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

// partLedger keeps the pages of parts that are being folded. It belongs to the aggregator's loop.
//
// Pages live and die with the plan of their item, which its owner makes first and removes first. A report is folded only for a plan
// that is there, and after each commit it is looked whether it still is: what came too late is taken back. If the process
// dies in between, the sweep finds pages without a plan.
type partLedger struct {
	folding[itemKey, protocol.PartPlan, protocol.PartPage, protocol.PartReport]

	conn *broker.Conn
}

type itemKey struct {
	batchKey

	index int
}

// partSheet is one page of an item.
type partSheet = foldPage[protocol.PartPage]

const (
	maxPartBooks = 4096
	maxPartPages = 256 // of 256 parts at some 500 bytes: 32 MiB
)

func newPartLedger(bucket *broker.Bucket, conn *broker.Conn, log *slog.Logger) *partLedger {
	l := &partLedger{conn: conn}
	l.folding = folding[itemKey, protocol.PartPlan, protocol.PartPage, protocol.PartReport]{
		bucket: bucket, log: log, what: "parts of items", mostBooks: maxPartBooks, mostPages: maxPartPages,
		books: map[itemKey]*foldBook[protocol.PartPlan, protocol.PartPage]{},
		keyOf: func(r *protocol.PartReport) itemKey {
			return itemKey{batchKey{r.Ref.Org, r.Ref.Batch}, r.Ref.Index}
		},
		pageOf: func(key itemKey, number int) string {
			return protocol.PartPageKey(key.org, key.batch, key.index, number)
		},
		fold: l.foldOne, commit: l.commitPages,
	}
	return l
}

// foldOne takes one report in. One that no plan asks for changes nothing.
func (l *partLedger) foldOne(ctx context.Context, key itemKey, r *protocol.PartReport) error {
	b := l.books[key]
	if b == nil || !admits(&b.head, r) { // it may be of a plan that is newer than what is known here
		plan, found, err := l.plan(ctx, key)
		if err != nil {
			return err
		}
		if !found {
			l.forget(key)
			return nil
		}
		if b == nil {
			b = l.open(key, plan)
		}
		b.head = plan
		if !admits(&b.head, r) {
			return nil
		}
	}
	number := protocol.PartPageOf(r.State.Number)
	s, err := l.sheet(ctx, key, b, number)
	if err != nil {
		return err
	}
	page, changed := foldPart(s.page, news(r))
	if changed {
		s.page, s.changed = page, true
	}
	return nil
}

// plan reads the plan of an item. One that this build cannot read is none.
func (l *partLedger) plan(ctx context.Context, key itemKey) (plan protocol.PartPlan, found bool, err error) {
	found, _, err = load(ctx, l.bucket, l.log, protocol.PartPlanKey(key.org, key.batch, key.index), &plan)
	return plan, found, err
}

// partWrite is a page on its way to KV.
type partWrite struct {
	key    itemKey
	number int
	sheet  *partSheet
	value  []byte
}

// commitPages stores the pages that have changed. What lost a race against another aggregator is forgotten, to be folded again.
func (l *partLedger) commitPages(ctx context.Context) error {
	writes, err := l.changed()
	if err != nil || len(writes) == 0 {
		return err
	}
	var lost atomic.Bool
	failed := make([]bool, len(writes))
	storing := pool.New().WithErrors().WithMaxGoroutines(singles)
	for i, w := range writes {
		storing.Go(func() error {
			revision, err := l.store(ctx, w)
			if err != nil {
				failed[i] = true
				lost.Store(true)
				if errors.Is(err, broker.ErrConflict) || errors.Is(err, broker.ErrExists) {
					return nil
				}
				return err
			}
			w.sheet.revision, w.sheet.changed = revision, false
			return nil
		})
	}
	err = storing.Wait()
	failpoint.Hit(failpoint.PartsCommitted)
	l.again = l.again || lost.Load()
	for i, w := range writes {
		if failed[i] {
			l.forget(w.key)
		}
	}
	if err != nil {
		return err //nolint:wrapcheck // as above
	}
	return l.confirm(ctx, writes, failed)
}

func (l *partLedger) store(ctx context.Context, w partWrite) (uint64, error) {
	key := l.pageOf(w.key, w.number)
	if w.sheet.revision == 0 {
		return l.bucket.Create(ctx, key, w.value) //nolint:wrapcheck // says what it was
	}
	return l.bucket.Update(ctx, broker.Change{Key: key, Value: w.value, Revision: w.sheet.revision}) //nolint:wrapcheck // as above
}

// changed encodes the pages that differ from KV.
func (l *partLedger) changed() ([]partWrite, error) {
	var writes []partWrite
	for key, b := range l.books {
		for number, s := range b.pages {
			if !s.changed {
				continue
			}
			value, err := protocol.Encode(s.page)
			if err != nil {
				return nil, fmt.Errorf("encode a page of parts of item %d of %s: %w", key.index, key.batch, err)
			}
			writes = append(writes, partWrite{key, number, s, value})
		}
	}
	return writes, nil
}

// confirm looks whether the plans are still there for which pages were stored, takes back those that came too late, and tells the owners of
// the others.
func (l *partLedger) confirm(ctx context.Context, writes []partWrite, failed []bool) error {
	there := map[itemKey]bool{}
	for i, w := range writes {
		if failed[i] {
			continue
		}
		found, asked := there[w.key]
		if !asked {
			plan, ok, err := l.plan(ctx, w.key)
			if err != nil {
				l.again = true // the fold looks for the plan once more; what it does not find is swept
				l.forget(w.key)
				return err
			}
			if b := l.books[w.key]; ok && b != nil {
				b.head = plan
			}
			found, there[w.key] = ok, ok
		}
		if found {
			continue
		}
		l.forget(w.key)
		if err := l.bucket.DropAt(ctx, l.pageOf(w.key, w.number), w.sheet.revision); err != nil {
			l.log.Info("a page of parts that came too late stays until it is swept", "batch", w.key.batch, "index", w.key.index, "error", err)
		}
	}
	for key, found := range there {
		if !found {
			continue
		}
		if err := l.conn.PartsChanged(key.org, key.batch, key.index); err != nil {
			l.log.Debug("who waits for parts was not told and will look by itself", "batch", key.batch, "error", err)
		}
	}
	failpoint.Hit(failpoint.PartsTold)
	return nil
}

package aggregator

import (
	"context"
	"encoding/json"
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
	bucket *broker.Bucket
	conn   *broker.Conn
	log    *slog.Logger
	books  map[itemKey]*partBook
	pages  int // loaded in all books
	clock  uint64
	again  bool // something was lost: all unsaved reports are to be folded again
}

type itemKey struct {
	batchKey

	index int
}

// partBook is one item.
type partBook struct {
	plan  protocol.PartPlan
	pages map[int]*partSheet
	used  uint64 // partLedger.clock when last touched
}

// partSheet is one page of an item.
type partSheet struct {
	page     protocol.PartPage
	revision uint64
	changed  bool
}

const (
	maxPartBooks = 4096
	maxPartPages = 256 // of 256 parts at some 500 bytes: 32 MiB
)

func newPartLedger(bucket *broker.Bucket, conn *broker.Conn, log *slog.Logger) *partLedger {
	return &partLedger{bucket: bucket, conn: conn, log: log, books: map[itemKey]*partBook{}}
}

// take folds reports that just came. What cannot be folded now is folded by [partLedger.save].
func (l *partLedger) take(ctx context.Context, reports []protocol.PartReport) {
	if err := l.foldAll(ctx, reports); err != nil {
		l.log.Warn("cannot fold reports of parts yet", "error", err)
	}
}

func (l *partLedger) foldAll(ctx context.Context, reports []protocol.PartReport) error {
	for i := range reports {
		key := itemKey{batchKey{reports[i].Ref.Org, reports[i].Ref.Batch}, reports[i].Ref.Index}
		if err := l.fold(ctx, key, &reports[i]); err != nil {
			l.forget(key)
			l.again = true
			return err
		}
	}
	return nil
}

// fold takes one report in. One that no plan asks for changes nothing.
func (l *partLedger) fold(ctx context.Context, key itemKey, r *protocol.PartReport) error {
	b := l.books[key]
	if b == nil || !admits(&b.plan, r) { // it may be of a plan that is newer than what is known here
		plan, found, err := l.plan(ctx, key)
		if err != nil {
			return err
		}
		if !found {
			l.forget(key)
			return nil
		}
		if b == nil {
			b = &partBook{pages: map[int]*partSheet{}}
			l.books[key] = b
		}
		b.plan = plan
		if !admits(&b.plan, r) {
			return nil
		}
	}
	l.clock++
	b.used = l.clock
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

// plan reads the plan of an item. One that this build cannot read is none: its reports must not hold up those of others.
func (l *partLedger) plan(ctx context.Context, key itemKey) (protocol.PartPlan, bool, error) {
	var plan protocol.PartPlan
	entry, err := l.bucket.Get(ctx, protocol.PartPlanKey(key.org, key.batch, key.index))
	if errors.Is(err, broker.ErrNotFound) {
		return plan, false, nil
	}
	if err != nil {
		return plan, false, fmt.Errorf("read the plan of item %d of %s: %w", key.index, key.batch, err)
	}
	if err := json.Unmarshal(entry.Value, &plan); err != nil {
		l.log.Error("a plan of parts cannot be read", "key", entry.Key, "error", err)
		return plan, false, nil
	}
	return plan, true, nil
}

// sheet returns a page, as KV holds it unless it was folded into since. One that cannot be read is begun anew: its parts are copied again.
func (l *partLedger) sheet(ctx context.Context, key itemKey, b *partBook, number int) (*partSheet, error) {
	if s := b.pages[number]; s != nil {
		return s, nil
	}
	s := &partSheet{}
	entry, err := l.bucket.Get(ctx, protocol.PartPageKey(key.org, key.batch, key.index, number))
	if err != nil && !errors.Is(err, broker.ErrNotFound) {
		return nil, fmt.Errorf("read a page of parts of item %d of %s: %w", key.index, key.batch, err)
	}
	if err == nil {
		s.revision = entry.Revision
		if err := json.Unmarshal(entry.Value, &s.page); err != nil {
			l.log.Error("a page of parts cannot be read", "key", entry.Key, "error", err)
			s.page = protocol.PartPage{}
		}
	}
	b.pages[number] = s
	l.pages++
	return s, nil
}

// save stores what has changed, tells those who wait for it, and reports whether all of the reports, which are those that are not
// acknowledged yet, are in KV.
func (l *partLedger) save(ctx context.Context, reports []protocol.PartReport) bool {
	for range maxRaces {
		if l.again {
			l.again = false
			if err := l.foldAll(ctx, reports); err != nil {
				l.log.Warn("cannot fold reports of parts yet", "error", err)
				return false
			}
		}
		if err := l.commit(ctx); err != nil {
			l.log.Warn("cannot commit parts yet", "error", err)
			return false
		}
		if !l.again {
			l.shrink()
			return true
		}
	}
	return false
}

// partWrite is a page on its way to KV.
type partWrite struct {
	key    itemKey
	number int
	sheet  *partSheet
	value  []byte
}

// commit stores the pages that have changed. What lost a race against another aggregator is forgotten, to be folded again.
func (l *partLedger) commit(ctx context.Context) error {
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
	key := protocol.PartPageKey(w.key.org, w.key.batch, w.key.index, w.number)
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
				b.plan = plan
			}
			found, there[w.key] = ok, ok
		}
		if found {
			continue
		}
		l.forget(w.key)
		if err := l.bucket.DropAt(ctx, protocol.PartPageKey(w.key.org, w.key.batch, w.key.index, w.number), w.sheet.revision); err != nil {
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

// forget drops a book, so that the next fold starts from KV.
func (l *partLedger) forget(key itemKey) {
	if b := l.books[key]; b != nil {
		l.pages -= len(b.pages)
		delete(l.books, key)
	}
}

// shrink drops the items that were used least while there are too many. All is saved when it is called.
func (l *partLedger) shrink() {
	for len(l.books) > maxPartBooks || l.pages > maxPartPages {
		var oldest itemKey
		used := l.clock + 1
		for key, b := range l.books {
			if b.used < used {
				oldest, used = key, b.used
			}
		}
		l.forget(oldest)
	}
}

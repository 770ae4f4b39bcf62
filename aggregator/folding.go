package aggregator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/copyfleet/copyfleet/internal/broker"
)

// folding is what the ledgers of parts share: a book for each K that reports R are folded into, with some of its pages P and what it takes
// to judge a report, its head H. Books are kept from fold to fold, as KV holds them or newer. It belongs to the aggregator's loop.
type folding[K comparable, H, P, R any] struct {
	bucket *broker.Bucket
	log    *slog.Logger
	what   string // is folded, for the log

	keyOf  func(*R) K
	pageOf func(K, int) string
	fold   func(context.Context, K, *R) error // takes one report in
	commit func(context.Context) error        // stores the pages that have changed; forgets what lost a race, and sets again

	books                map[K]*foldBook[H, P]
	pages                int // loaded in all books
	mostBooks, mostPages int
	clock                uint64
	again                bool // something was lost: all unsaved reports are to be folded again
}

// foldBook is what is kept of one K.
type foldBook[H, P any] struct {
	head  H
	pages map[int]*foldPage[P]
	used  uint64 // folding.clock when last touched
}

// foldPage is a page.
type foldPage[P any] struct {
	page     P
	revision uint64 // what KV has at its key: the page, or the marker of one that was removed; 0: nothing
	there    bool   // KV has the page
	changed  bool
}

// take folds reports that just came. What cannot be folded now is folded by [folding.save].
func (f *folding[K, H, P, R]) take(ctx context.Context, reports []R) {
	if err := f.foldAll(ctx, reports); err != nil {
		f.log.Warn("cannot fold reports yet", "of", f.what, "error", err)
	}
}

func (f *folding[K, H, P, R]) foldAll(ctx context.Context, reports []R) error {
	for i := range reports {
		key := f.keyOf(&reports[i])
		if err := f.fold(ctx, key, &reports[i]); err != nil {
			f.forget(key)
			f.again = true
			return err
		}
	}
	return nil
}

// save stores what has changed, tells those who wait for it, and reports whether all of the reports, which are those that are not
// acknowledged yet, are in KV.
func (f *folding[K, H, P, R]) save(ctx context.Context, reports []R) bool {
	for range maxRaces {
		if f.again {
			f.again = false
			if err := f.foldAll(ctx, reports); err != nil {
				f.log.Warn("cannot fold reports yet", "of", f.what, "error", err)
				return false
			}
		}
		if err := f.commit(ctx); err != nil {
			f.log.Warn("cannot commit yet", "what", f.what, "error", err)
			return false
		}
		if !f.again {
			f.shrink()
			return true
		}
	}
	return false
}

// open begins a book.
func (f *folding[K, H, P, R]) open(key K, head H) *foldBook[H, P] {
	f.forget(key)
	b := &foldBook[H, P]{head: head, pages: map[int]*foldPage[P]{}}
	f.books[key] = b
	return b
}

// sheet returns a page, as KV holds it unless it was folded into since. One that cannot be read is begun anew: its parts are moved again.
func (f *folding[K, H, P, R]) sheet(ctx context.Context, key K, b *foldBook[H, P], number int) (*foldPage[P], error) {
	f.clock++
	b.used = f.clock
	if s := b.pages[number]; s != nil {
		return s, nil
	}
	s := &foldPage[P]{}
	var err error
	if s.there, s.revision, err = load(ctx, f.bucket, f.log, f.pageOf(key, number), &s.page); err != nil {
		return nil, err
	}
	b.pages[number] = s
	f.pages++
	return s, nil
}

// load reads a record. One that this build cannot read is as if it were not there: it must not hold up others. The revision is that of what stands
// at the key in any case.
func load[T any](ctx context.Context, bucket *broker.Bucket, log *slog.Logger, key string, into *T) (found bool, revision uint64, err error) {
	entry, err := bucket.Get(ctx, key)
	if errors.Is(err, broker.ErrNotFound) {
		return false, entry.Revision, nil
	}
	if err != nil {
		return false, 0, fmt.Errorf("fold parts: %w", err)
	}
	if err := json.Unmarshal(entry.Value, into); err != nil {
		log.Error("a record cannot be read", "key", entry.Key, "error", err)
		var none T
		*into = none
		return false, entry.Revision, nil
	}
	return true, entry.Revision, nil
}

// crowded reports whether so many pages are loaded that they are to be saved, and some of them dropped, before more are.
func (f *folding[K, H, P, R]) crowded() bool {
	const spare = 4
	return f.pages > spare*f.mostPages || len(f.books) > spare*f.mostBooks
}

// forget drops a book, so that the next fold starts from KV.
func (f *folding[K, H, P, R]) forget(key K) {
	if b := f.books[key]; b != nil {
		f.pages -= len(b.pages)
		delete(f.books, key)
	}
}

// shrink drops the books that were used least while there are too many. All is saved when it is called.
func (f *folding[K, H, P, R]) shrink() {
	for len(f.books) > f.mostBooks || f.pages > f.mostPages {
		var oldest K
		used := f.clock + 1
		for key, b := range f.books {
			if b.used < used {
				oldest, used = key, b.used
			}
		}
		f.forget(oldest)
	}
}

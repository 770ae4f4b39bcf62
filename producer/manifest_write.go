package producer

import (
	"context"
	"fmt"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	// commitPages and commitBytes bound what is stored at once, with one fsync.
	commitPages = 64
	commitBytes = 16 << 20
	// pagesAhead is how many pages are read while others are sealed and stored.
	pagesAhead = 4
	// commitEvery is how long a page of a slow upload waits for more to be stored with it.
	commitEvery = 5 * time.Second
	// aliveEvery is how often a try says that it is at it, so that nobody takes it for dead.
	aliveEvery = time.Minute
)

// manifestWriter stores a manifest page by page while its items are still being read: one goroutine reads and validates,
// another, run, seals and stores.
type manifestWriter struct {
	pipeline   *Pipeline
	org        protocol.OrgID
	batch      protocol.BatchID
	generation int
	feed       *feedKeeper

	full   chan []protocol.ManifestItem // to run
	empty  chan []protocol.ManifestItem // back from it
	failed chan struct{}                // closed when run has ended with err
	err    error

	// Owned by run.
	page    int // number of the next page
	changes []broker.Change
	bytes   int
}

func (p *Pipeline) newManifestWriter(record *protocol.Acceptance, feed *feedKeeper) *manifestWriter {
	return &manifestWriter{
		pipeline: p, org: record.Org, batch: record.Batch, generation: record.Generation, feed: feed,
		full: make(chan []protocol.ManifestItem, pagesAhead), empty: make(chan []protocol.ManifestItem, pagesAhead+2),
		failed: make(chan struct{}),
	}
}

// fill reads the items to their end and stores all of them, first those that have been read already. It returns their number.
func (w *manifestWriter) fill(ctx context.Context, first []protocol.ManifestItem, next func() (protocol.ManifestItem, error)) (int, error) {
	go w.run(ctx)
	total, err := w.read(first, next)
	close(w.full)
	<-w.failed
	if err == nil {
		err = w.err
	}
	return total, err
}

func (w *manifestWriter) read(first []protocol.ManifestItem, next func() (protocol.ManifestItem, error)) (int, error) {
	page, total := make([]protocol.ManifestItem, 0, protocol.PageSize), 0
	for {
		var item protocol.ManifestItem
		if total < len(first) {
			item = first[total]
		} else {
			var err error
			if item, err = next(); errIsEOF(err) {
				w.send(page)
				return total, nil
			} else if err != nil {
				return total, err
			}
		}
		total++
		if page = append(page, item); len(page) < protocol.PageSize {
			continue
		}
		if !w.send(page) {
			return total, nil // w.err says why
		}
		if err := w.pipeline.backlog.early(total); err != nil {
			return total, err
		}
		select {
		case page = <-w.empty:
		default:
			page = make([]protocol.ManifestItem, 0, protocol.PageSize)
		}
	}
}

// send hands a page over. It reports false if nobody takes it any more.
func (w *manifestWriter) send(page []protocol.ManifestItem) bool {
	if len(page) == 0 {
		return true
	}
	select {
	case w.full <- page:
		return true
	case <-w.failed:
		return false
	}
}

// run seals and stores pages until there are no more, or one cannot be stored.
func (w *manifestWriter) run(ctx context.Context) {
	defer close(w.failed)
	commit, alive := time.NewTicker(commitEvery), time.NewTicker(aliveEvery)
	defer commit.Stop()
	defer alive.Stop()
	for w.err == nil {
		select {
		case page, more := <-w.full:
			if !more {
				w.err = w.commit(ctx)
				return
			}
			w.err = w.add(ctx, page)
		case <-commit.C:
			w.err = w.commit(ctx)
		case <-alive.C:
			_, w.err = w.feed.touch(ctx)
		}
	}
}

func (w *manifestWriter) add(ctx context.Context, page []protocol.ManifestItem) error {
	sealed, err := w.pipeline.sealer.SealPage(w.org, w.batch, w.page, page)
	if err != nil {
		return fmt.Errorf("store the manifest of %s: %w", w.batch, err)
	}
	clear(page)
	select {
	case w.empty <- page[:0]:
	default:
	}
	if w.bytes+len(sealed) > commitBytes {
		if err := w.commit(ctx); err != nil {
			return err
		}
	}
	w.changes = append(w.changes, broker.Change{Key: protocol.ManifestKey(w.org, w.batch, w.generation, w.page), Value: sealed})
	w.bytes += len(sealed)
	w.page++
	if len(w.changes) < commitPages {
		return nil
	}
	return w.commit(ctx)
}

// commit stores the sealed pages.
func (w *manifestWriter) commit(ctx context.Context) error {
	if len(w.changes) == 0 {
		return nil
	}
	if err := w.pipeline.room(); err != nil {
		return fmt.Errorf("store the manifest of %s: %w", w.batch, err)
	}
	if _, err := w.pipeline.manifests.Commit(ctx, w.changes); err != nil {
		return fmt.Errorf("store the manifest of %s: %w", w.batch, err)
	}
	failpoint.Hit(failpoint.ManifestPageStored)
	clear(w.changes)
	w.changes, w.bytes = w.changes[:0], 0
	return nil
}

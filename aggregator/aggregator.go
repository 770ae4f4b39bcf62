package aggregator

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/sourcegraph/conc/pool"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

// Aggregator folds reports until it is told to stop.
type Aggregator struct {
	cfg       Config
	conn      *broker.Conn
	bucket    *broker.Bucket
	claims    *broker.Bucket
	manifests *broker.Bucket
	ends      *hints // for the sweep
	ledger    *ledger
	parts     *partLedger
	uploads   *uploadLedger
	feeder    *feeder

	// Owned by the loop.
	unsaved []broker.Bundle   // folded, not yet all committed
	reports []protocol.Report // of those bundles, to fold again after a lost race
	pieces  []protocol.PartReport
	sent    []protocol.UploadReport
	taken   map[uint64]bool // their sequences
	lasted  time.Duration   // how long the last flush took
}

// New prepares an aggregator.
func New(ctx context.Context, cfg Config, conn *broker.Conn) (*Aggregator, error) {
	cfg.defaults()
	bucket, err := conn.Bucket(ctx, broker.BatchBucket)
	if err != nil {
		return nil, fmt.Errorf("aggregator: %w", err)
	}
	claims, err := conn.Bucket(ctx, broker.ClaimBucket)
	if err != nil {
		return nil, fmt.Errorf("aggregator: %w", err)
	}
	manifests, err := conn.Bucket(ctx, broker.ManifestBucket)
	if err != nil {
		return nil, fmt.Errorf("aggregator: %w", err)
	}
	parts, err := conn.Bucket(ctx, broker.PartBucket)
	if err != nil {
		return nil, fmt.Errorf("aggregator: %w", err)
	}
	uploads, err := conn.Bucket(ctx, broker.UploadBucket)
	if err != nil {
		return nil, fmt.Errorf("aggregator: %w", err)
	}
	a := &Aggregator{
		cfg: cfg, conn: conn, bucket: bucket, claims: claims, manifests: manifests, ends: newHints(), ledger: newLedger(bucket),
		parts: newPartLedger(parts, conn, cfg.Logger), uploads: newUploadLedger(uploads, conn, cfg.Logger), taken: map[uint64]bool{},
	}
	if a.feeder, err = newFeeder(ctx, a); err != nil {
		return nil, err
	}
	return a, nil
}

// Run folds until ctx ends, commits what it holds, and returns nil.
func (a *Aggregator) Run(ctx context.Context) error {
	reader, err := a.conn.Reports(ctx)
	if err != nil && ctx.Err() != nil {
		return nil // stopped before it had begun
	}
	if err != nil {
		return fmt.Errorf("aggregator: %w", err)
	}
	defer reader.Close()
	if err := a.showLag(reader); err != nil {
		return err
	}
	deaf, err := a.conn.WatchHints(broker.Hints{Changed: a.changed, Feeder: a.feeder.hints.feeder})
	if err != nil {
		return fmt.Errorf("aggregator: %w", err)
	}
	defer deaf()
	background := pool.New()
	background.Go(func() { a.feeder.run(ctx) })
	background.Go(func() { a.trim(ctx) })
	background.Go(func() { a.sweep(ctx) })
	background.Go(func() { a.retain(ctx) })
	defer background.Wait()

	ahead := make(chan decoded, decodedAhead)
	background.Go(func() { decode(ctx, reader.Bundles(), ahead) })
	a.foldAll(ctx, ahead)
	return nil
}

// foldAll folds bundles until ctx ends.
func (a *Aggregator) foldAll(ctx context.Context, ahead <-chan decoded) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		var flush <-chan time.Time
		if len(a.unsaved) > 0 {
			flush = timer.C
		}
		bundles := ahead
		if a.full() {
			bundles = nil // they wait in the stream, not in memory, until KV takes commits again
		}
		select {
		case <-ctx.Done():
			giveBack(ahead)
			a.lastFlush(ctx)
			return
		case <-flush:
			if !a.flush(ctx) {
				timer.Reset(commitRetry)
			}
		case bundle, ok := <-bundles:
			if !ok {
				continue // ctx has ended
			}
			if len(a.unsaved) == 0 {
				timer.Reset(a.interval())
			}
			a.take(ctx, bundle)
			if a.full() && !a.flush(ctx) {
				timer.Reset(commitRetry)
			}
			if len(a.sent) > 0 && len(ahead) == 0 {
				a.uploads.save(ctx, a.sent) // a client waits for each part; if this fails, flush does it
			}
		}
	}
}

// full reports whether no more may gather before a commit.
func (a *Aggregator) full() bool {
	return len(a.reports)+len(a.pieces)+len(a.sent) >= maxUnsaved || a.parts.crowded() || a.uploads.crowded()
}

// changed is told of every batch that changed in KV.
func (a *Aggregator) changed(key string, final bool) {
	a.feeder.hints.change(key, final)
	if final {
		a.ends.change(key, final)
	}
}

const (
	shutdownCommit = 5 * time.Second
	commitRetry    = 500 * time.Millisecond
	commitShare    = 3           // news gather at least so many times as long as their commit takes
	maxUnsaved     = 8192        // reports
	maxRaces       = 20          // lost in a row before the commit is put off
	unreadable     = time.Minute // until a bundle that this build cannot read is looked at again
)

// lastFlush commits what a shutdown found unsaved. What it cannot commit is delivered to the next aggregator.
func (a *Aggregator) lastFlush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownCommit)
	defer cancel()
	a.flush(ctx)
}

// take folds a bundle, and commits at once the batches that it ended.
func (a *Aggregator) take(ctx context.Context, bundle decoded) {
	failpoint.Hit(failpoint.BundleDelivered)
	b := bundle.reports
	if err := bundle.err; err != nil || b.Version > protocol.ReportVersion {
		// Its items are acknowledged: these outcomes stand nowhere else. A newer build may be able to read them.
		a.cfg.Logger.Error("leaving a message that this build cannot read in the report stream", "bytes", len(bundle.Data), "version", b.Version, "error", err)
		if err := bundle.Later(unreadable); err != nil {
			a.cfg.Logger.Warn("it was not put off and comes again after its AckWait", "error", err)
		}
		return
	}
	if a.taken[bundle.Sequence] {
		return // delivered again while its commit is being waited for
	}
	a.taken[bundle.Sequence] = true
	a.unsaved = append(a.unsaved, bundle.Bundle)
	a.reports = append(a.reports, b.Reports...)
	a.cfg.Metrics.Folded(ctx, len(b.Reports))
	a.pieces = append(a.pieces, b.Parts...)
	a.parts.take(ctx, b.Parts)
	a.sent = append(a.sent, b.Uploads...)
	a.uploads.take(ctx, b.Uploads)
	touched := map[batchKey]*book{}
	for i := range b.Reports {
		book, err := a.ledger.fold(ctx, &b.Reports[i])
		if err != nil {
			a.cfg.Logger.Warn("cannot fold a report yet", "batch", b.Reports[i].Ref.Batch, "error", err)
			a.ledger.forget(batchKey{b.Reports[i].Ref.Org, b.Reports[i].Ref.Batch})
			return // flush folds all unsaved reports again
		}
		if book != nil && book.changed {
			touched[batchKey{b.Reports[i].Ref.Org, b.Reports[i].Ref.Batch}] = book
		}
	}
	failpoint.Hit(failpoint.BundleFolded)
	maps.DeleteFunc(touched, func(_ batchKey, b *book) bool {
		b.count()
		return !b.summary.State.Final()
	})
	// Who learns that a session was not published finds the parts missing that were lost.
	if len(touched) > 0 && !a.uploads.save(ctx, a.sent) {
		return // as above
	}
	a.commit(ctx, touched)
}

// interval is how long news may gather: longer when commits take long, so that more of them share one.
func (a *Aggregator) interval() time.Duration {
	return min(max(a.cfg.Interval, commitShare*a.lasted), 10*a.cfg.Interval)
}

// flush commits everything and then acknowledges all bundles. It returns false if that did not succeed.
func (a *Aggregator) flush(ctx context.Context) bool {
	defer func(begun time.Time) { a.lasted = time.Since(begun) }(time.Now())
	if !a.uploads.save(ctx, a.sent) || !a.saveReceipts(ctx) || !a.parts.save(ctx, a.pieces) {
		return false
	}
	a.acknowledge()
	return true
}

func (a *Aggregator) saveReceipts(ctx context.Context) bool {
	for range maxRaces {
		changed := map[batchKey]*book{}
		for i := range a.reports {
			book, err := a.ledger.fold(ctx, &a.reports[i])
			if err != nil {
				a.cfg.Logger.Warn("cannot fold reports yet", "error", err)
				return false
			}
			if book != nil && book.changed {
				changed[batchKey{a.reports[i].Ref.Org, a.reports[i].Ref.Batch}] = book
			}
		}
		if len(changed) == 0 {
			return true
		}
		a.commit(ctx, changed)
	}
	return false
}

// commit stores books and tells those who wait for them. What lost a race is forgotten, for flush to fold again.
func (a *Aggregator) commit(ctx context.Context, books map[batchKey]*book) {
	if len(books) == 0 {
		return
	}
	units := make([]unit, 0, len(books))
	for key, b := range books {
		b.count()
		u, err := b.unit(key)
		if err != nil {
			a.cfg.Logger.Error("cannot encode a batch", "error", err)
			continue
		}
		units = append(units, u)
	}
	begun := time.Now()
	lost, err := store(ctx, a.bucket, units)
	a.measure(ctx, begun, lost, err)
	failpoint.Hit(failpoint.Committed)
	if err != nil {
		// Whether a write arrived is not known: start from what KV holds.
		a.cfg.Logger.Warn("cannot commit yet", "batches", len(units), "error", err)
		for _, u := range units {
			if u.book.changed {
				a.ledger.forget(u.key)
			}
		}
	}
	for _, u := range lost {
		a.ledger.forget(u.key)
	}
	for _, u := range units {
		if u.book.changed {
			continue
		}
		if s := &u.book.summary; s.Tally.Failed > 0 && !s.State.Final() {
			a.feeder.hints.suspect(u.key) // too many failures may stop it
		}
		if err := a.tell(&u); err != nil {
			a.cfg.Logger.Debug("a waiter was not told and will look by itself", "batch", u.key.batch, "error", err)
		}
	}
	failpoint.Hit(failpoint.WaitersTold)
}

// tell tells of a batch that was committed.
func (a *Aggregator) tell(u *unit) error {
	final := u.book.summary.State.Final()
	if final && protocol.Inline(u.book.summary.Total) {
		return a.conn.Ended(u.key.org, u.key.batch, u.changes[len(u.changes)-1].Value) //nolint:wrapcheck // it says what it is about
	}
	return a.conn.Changed(u.key.org, u.key.batch, final) //nolint:wrapcheck // as above
}

func (a *Aggregator) acknowledge() {
	for _, bundle := range a.unsaved {
		if err := bundle.Done(); err != nil {
			a.cfg.Logger.Info("an acknowledgement was not sent; the bundle will come again and change nothing", "error", err)
		}
	}
	failpoint.Hit(failpoint.BundlesDone)
	clear(a.unsaved)
	clear(a.reports)
	clear(a.pieces)
	clear(a.sent)
	clear(a.taken)
	a.unsaved, a.reports, a.pieces, a.sent = a.unsaved[:0], a.reports[:0], a.pieces[:0], a.sent[:0]
	a.ledger.shrink()
}

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
	conn      *broker.Conn
	batches   *broker.Bucket
	claims    *broker.Bucket
	manifests *broker.Bucket
	feeds     *broker.Bucket
	controls  *broker.Bucket
	parts     *broker.Bucket
	sealer    *protocol.Sealer
	room      func() error
	log       *slog.Logger
	backlog   backlog
	views     *views

	mu    sync.Mutex
	pools map[string]bool // whose consumers this process has seen to
}

// NewPipeline opens the queue. The sealer must have the same key as the workers'. room says why nothing may be accepted
// now, for instance because the disk is nearly full; nil: nothing speaks against it.
func NewPipeline(ctx context.Context, conn *broker.Conn, sealer *protocol.Sealer, room func() error, log *slog.Logger) (*Pipeline, error) {
	if room == nil {
		room = func() error { return nil }
	}
	p := &Pipeline{conn: conn, sealer: sealer, room: room, log: log, pools: map[string]bool{}}
	p.backlog.limit = DefaultMaxQueued
	for name, bucket := range map[string]**broker.Bucket{
		broker.BatchBucket: &p.batches, broker.ClaimBucket: &p.claims, broker.ManifestBucket: &p.manifests,
		broker.FeedBucket: &p.feeds, broker.ControlBucket: &p.controls,
		broker.PartBucket: &p.parts,
	} {
		opened, err := conn.Bucket(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("producer: %w", err)
		}
		*bucket = opened
	}
	p.views = newViews(p.batches)
	return p, nil
}

var (
	// errKeyReused says that an idempotency key came with another request than the first time.
	errKeyReused = errors.New("the idempotency key was used for another request")
	// errGivenUp says that the acceptance was abandoned while it was under way.
	errGivenUp = errors.New("the acceptance took too long and was given up")
	errNoItems = errors.New("a batch without items")
)

// order is a request to be accepted.
type order struct {
	org   protocol.OrgID
	batch protocol.BatchID
	keyed bool   // the id stands for an idempotency key
	trace string // W3C traceparent
	// upload is the session that the batch publishes; "": it is none.
	upload protocol.UploadID
	// rule is the rule whose events ask for the batch, and ruleVersion its version; "": a caller does.
	rule        string
	ruleVersion int
	terms

	// closing returns the terms where they are known only once all items were read; nil: those above stand. A request digest
	// above that is not zero is known all the same.
	closing func() (terms, error)
	// prepare does what must be done once before the batch may run and leaves traces; nil: nothing.
	prepare func(ctx context.Context) error
}

// terms are how a batch is to be run.
type terms struct {
	lane    protocol.Lane
	pool    string
	label   string
	options protocol.Options
	rerunOf protocol.BatchID
	fed     bool     // however few its items are
	request [32]byte // digest of the request: its body and the options beside it
}

// direct reports whether a batch of so many items is published at once and whole. All others are fed.
func (t *terms) direct(items int) bool {
	return protocol.Inline(items) && !t.fed && t.options.Canary == 0 && t.options.Rate == 0
}

// close fills in what was not known before the end of the items.
func (o *order) close() error {
	if o.closing == nil {
		return nil
	}
	at, err := o.closing()
	if err != nil {
		return err
	}
	o.terms, o.closing = at, nil
	return nil
}

// acceptItems makes a batch durable, whole or not at all, and returns its accept record. next returns its items in order, then io.EOF;
// any other error gives the try up: nothing of it is visible, and the error is returned, wrapped. Memory is bounded by a few
// pages, however many items there are. It may be repeated at any point: the same key finds the same record.
func (p *Pipeline) acceptItems(ctx context.Context, o order, next func() (protocol.ManifestItem, error)) (protocol.Acceptance, error) {
	if err := p.admit(ctx, 0); err != nil {
		return protocol.Acceptance{}, fmt.Errorf("accept a batch: %w", err)
	}
	items := make([]protocol.ManifestItem, 0, 16) // most calls have few
	for len(items) <= protocol.PageSize {
		item, err := next()
		if errIsEOF(err) {
			return p.acceptPage(ctx, &o, items)
		}
		if err != nil {
			return protocol.Acceptance{}, fmt.Errorf("accept a batch: %w", err)
		}
		items = append(items, item)
	}
	return p.acceptManifest(ctx, &o, items, next)
}

// acceptPage accepts a batch of one page at most: a record with its manifest, then the items in one atomic chunk, or the
// word that they are to be fed.
func (p *Pipeline) acceptPage(ctx context.Context, o *order, items []protocol.ManifestItem) (protocol.Acceptance, error) {
	if len(items) == 0 {
		return protocol.Acceptance{}, fmt.Errorf("accept a batch: %w", errNoItems)
	}
	// All is here: from now on it does not matter whether the caller still listens.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), acceptTimeout)
	defer cancel()
	if err := o.close(); err != nil {
		return protocol.Acceptance{}, fmt.Errorf("accept a batch: %w", err)
	}
	if err := p.admit(ctx, len(items)); err != nil {
		return protocol.Acceptance{}, fmt.Errorf("accept a batch: %w", err)
	}
	if err := p.ready(ctx, o); err != nil {
		return protocol.Acceptance{}, err
	}
	record, revision, err := p.open(ctx, o, items)
	if err != nil || record.State == protocol.AcceptComplete {
		return record, err
	}
	failpoint.Hit(failpoint.AcceptRecorded)
	if record.Fed() || record.Options.Webhook != nil {
		if err := p.ensureFeed(ctx, &record); err != nil {
			return record, err
		}
	}
	if record.Fed() {
		return p.completePage(ctx, record, revision)
	}
	return p.publishPage(ctx, o, record, items)
}

// ready does what must be done before a batch may run: somebody waits for its items, and what it needs is there.
func (p *Pipeline) ready(ctx context.Context, o *order) error {
	if err := p.ensurePool(ctx, o.pool); err != nil {
		return err
	}
	if o.prepare == nil {
		return nil
	}
	if err := o.prepare(ctx); err != nil {
		return fmt.Errorf("accept a batch: %w", err)
	}
	return nil
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

// newRecord is an accept record as it begins.
func (o *order) newRecord() protocol.Acceptance {
	return protocol.Acceptance{
		Version: protocol.AcceptanceVersion, Batch: o.batch, Org: o.org, Lane: o.lane, Pool: o.pool, Keyed: o.keyed,
		State: protocol.AcceptPending, Created: time.Now().UTC(), Label: o.label, Trace: o.trace, Options: o.options, RerunOf: o.rerunOf, Upload: o.upload,
		Rule: o.rule, RuleVersion: o.ruleVersion,
	}
}

// open creates the accept record of a batch of one page, or finds that of an earlier try.
func (p *Pipeline) open(ctx context.Context, o *order, items []protocol.ManifestItem) (protocol.Acceptance, uint64, error) {
	record := o.newRecord()
	record.Total, record.Request, record.IDs = len(items), hex.EncodeToString(o.request[:]), ids(items)
	if o.direct(len(items)) {
		record.Chunks = 1
	}
	sealed, err := p.sealer.SealPage(o.org, o.batch, 0, items)
	if err != nil {
		return record, 0, fmt.Errorf("accept a batch: %w", err)
	}
	record.Manifest = sealed
	revision, err := p.create(ctx, &record)
	for try := 0; try < reopenTries && (errors.Is(err, broker.ErrExists) || errors.Is(err, broker.ErrConflict)); try++ {
		var found protocol.Acceptance
		if found, revision, err = p.reopen(ctx, record); err == nil {
			return found, revision, nil
		}
	}
	return record, revision, err
}

func (p *Pipeline) create(ctx context.Context, record *protocol.Acceptance) (uint64, error) {
	value, err := protocol.Encode(record)
	if err != nil {
		return 0, fmt.Errorf("accept a batch: %w", err)
	}
	revision, err := p.batches.Create(ctx, protocol.AcceptKey(record.Org, record.Batch), value)
	if err != nil {
		return 0, fmt.Errorf("accept a batch: %w", err)
	}
	return revision, nil
}

// reopenTries is how often a record is read again that another call changed meanwhile.
const reopenTries = 5

// stored reads the accept record of an earlier try, with its revision.
func (p *Pipeline) stored(ctx context.Context, org protocol.OrgID, batch protocol.BatchID) (protocol.Acceptance, uint64, error) {
	var record protocol.Acceptance
	entry, err := p.batches.Get(ctx, protocol.AcceptKey(org, batch))
	if err != nil {
		return record, 0, fmt.Errorf("accept batch %s: %w", batch, err)
	}
	if err := json.Unmarshal(entry.Value, &record); err != nil {
		return record, 0, fmt.Errorf("accept batch %s: read its record: %w", batch, err)
	}
	return record, entry.Revision, nil
}

// reopen continues an acceptance that an earlier try began.
func (p *Pipeline) reopen(ctx context.Context, fresh protocol.Acceptance) (protocol.Acceptance, uint64, error) {
	record, revision, err := p.stored(ctx, fresh.Org, fresh.Batch)
	switch {
	case err != nil:
		return fresh, 0, err
	case record.Request != "" && record.Request != fresh.Request:
		return record, 0, errKeyReused
	case record.Request != "" && record.State != protocol.AcceptAbandoned:
		return record, revision, nil
	}
	// Workers may have dropped some of its items, which are all published anew, under guards of a new generation; or it is a manifest
	// that never became whole. What is fed from the record itself has no generation.
	if fresh.Generation = record.Generation + 1; fresh.Fed() {
		fresh.Generation = 0
	}
	revision, err = p.rewrite(ctx, &fresh, revision)
	return fresh, revision, err
}

// publishPage puts the items of a batch into the queue, unless an earlier try has done so.
func (p *Pipeline) publishPage(ctx context.Context, o *order, record protocol.Acceptance, items []protocol.ManifestItem) (protocol.Acceptance, error) {
	if record.Keyed {
		// Once there are receipts the chunk was published, even if its guard is trimmed by now.
		_, err := p.batches.Get(ctx, protocol.SummaryKey(o.org, record.Batch))
		if err == nil {
			return record, nil
		}
		if !errors.Is(err, broker.ErrNotFound) {
			return record, fmt.Errorf("accept batch %s: %w", record.Batch, err)
		}
	}
	if err := p.publish(ctx, &record, items); err != nil {
		return record, fmt.Errorf("accept batch %s: %w", record.Batch, err)
	}
	p.backlog.add(record.Total)
	failpoint.Hit(failpoint.AcceptanceComplete)
	p.wake(&record)
	return record, nil
}

// completePage says that a batch whose manifest stands in its record may be fed.
func (p *Pipeline) completePage(ctx context.Context, record protocol.Acceptance, revision uint64) (protocol.Acceptance, error) {
	record.State = protocol.AcceptComplete
	_, err := p.rewrite(ctx, &record, revision)
	if errors.Is(err, broker.ErrConflict) {
		// Another call with the same key may have been faster.
		now, _, getErr := p.stored(ctx, record.Org, record.Batch)
		if getErr == nil && now.State == protocol.AcceptComplete && now.Request == record.Request {
			return now, nil
		}
	}
	if err != nil {
		return record, err
	}
	p.accepted(&record)
	return record, nil
}

// accepted tells of a batch that is complete and is to be fed.
func (p *Pipeline) accepted(record *protocol.Acceptance) {
	p.backlog.add(record.Total)
	failpoint.Hit(failpoint.AcceptanceComplete)
	if err := p.conn.Changed(record.Org, record.Batch, false); err != nil {
		p.log.Debug("nobody was told of a new batch; it is found by itself", "batch", record.Batch, "error", err)
	}
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
func ids(items []protocol.ManifestItem) []string {
	list, some := make([]string, len(items)), false
	for i := range items {
		list[i] = items[i].ID
		some = some || items[i].ID != ""
	}
	if !some {
		return nil
	}
	return list
}

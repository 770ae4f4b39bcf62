package triggers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/observe"
	"github.com/copyfleet/copyfleet/producer/events"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	idleWait     = time.Second // for the next notification, when there is nothing else to do
	parkedEvery  = 250 * time.Millisecond
	parkedLook   = 256 // destinations that are looked at together
	mostParked   = 5000
	parkedBytes  = 32 << 20 // that parked events take in memory
	pendingBytes = 8 << 20  // that events which were read and wait for their round take in memory, beyond one notification
	keepEvery    = time.Second
	mostBehind   = 10_000      // notifications that may lie in the stream behind a parked one though they are dealt with
	removeMost   = 1000        // of them that are removed one by one with each housekeeping
	trimEvery    = time.Minute // at the latest: a shorter memory is trimmed as often as it is long
	backoffFirst = 100 * time.Millisecond
	backoffMost  = 5 * time.Second
)

// errFenced says that another process has appended to the journal: what this one remembers is not all that there is.
var errFenced = errors.New("another process decides on the events of the org")

// reader reads notifications in order.
type reader interface {
	Fetch(ctx context.Context, n int, wait time.Duration) ([]broker.Notification, error)
	Close()
}

// ledger are the streams of one org: its notifications and its journal.
type ledger struct {
	read   func(ctx context.Context, after uint64) (reader, error)
	drop   func(ctx context.Context, through uint64) error
	remove func(ctx context.Context, seqs []uint64) error
	append func(ctx context.Context, last uint64, record []byte) (uint64, error)
	visit  func(ctx context.Context, see func(seq uint64, record []byte) error) (uint64, error)
	trim   func(ctx context.Context, seq uint64) error
	newest func(ctx context.Context) (uint64, error) // sequence of the last notification that there is; 0: there is none
}

func ledgerOf(conn *broker.Conn, id protocol.OrgID) ledger {
	return ledger{
		read:   func(ctx context.Context, after uint64) (reader, error) { return conn.Events(ctx, id, after) },
		drop:   func(ctx context.Context, through uint64) error { return conn.DropEvents(ctx, id, through) },
		remove: conn.RemoveEvents,
		append: func(ctx context.Context, last uint64, record []byte) (uint64, error) {
			return conn.AppendTrigger(ctx, id, last, record)
		},
		visit: func(ctx context.Context, see func(uint64, []byte) error) (uint64, error) {
			return conn.Triggers(ctx, id, see)
		},
		trim:   func(ctx context.Context, seq uint64) error { return conn.DropTriggers(ctx, id, seq) },
		newest: func(ctx context.Context) (uint64, error) { return conn.LastEvent(ctx, id) },
	}
}

// org decides on the events of one org. All of it belongs to the goroutine of [org.run].
type org struct {
	id      protocol.OrgID
	streams ledger
	sealer  *protocol.Sealer
	queue   Queue
	memory  time.Duration // how long decisions are remembered
	behind  int           // [mostBehind]
	log     *slog.Logger
	metrics *observe.Metrics
	now     func() time.Time

	rules  func(ctx context.Context) ([]activeRule, error)
	secret func(name string) (string, error)
	stat   func(ctx context.Context, bucket, key, version string) (Object, error)
	show   func(ctx context.Context, rule string, v shown) error
	swept  func(ctx context.Context, rule, id string, t sweepTally) error

	m       *memory
	w       *waiting
	refs    map[parked]bool // that were parked when the journal was read, and have not come again yet
	places  map[parked]bool // the same, without rules
	reader  reader
	raw     []broker.Notification // that were read and not looked at yet, behind all that were
	last    uint64                // sequence of the last notification that was looked at
	pending []arrived             // its events and those before, in order; what is decided on leaves
	held    int                   // bytes that they take in memory
	after   string                // of the first of them the rules up to this one have decided

	recordedThrough uint64    // what the last record says of what was submitted
	lastBatches     uint64    // the last record with batches
	dropped         uint64    // notifications up to it are out of the stream
	stored          []uint64  // those that were looked at and lie in it still, in order
	recordedAt      time.Time // when the last record was made
	kept, trimmed   time.Time // when housekeeping was done
	unshown         map[string]bool
	looked          map[*events.Event]looked // of this round
	unreadable      time.Time                // since when an object cannot be looked at
	recordHasEnded  bool                     // the last record names a sweep that has ended
	nextParked      time.Time
	reported        bool // that something failed, until it works again
}

func newOrg(s *Service, id protocol.OrgID) *org {
	return &org{
		id: id, streams: ledgerOf(s.conn, id), sealer: s.sealer, queue: s.queue, memory: s.cfg.Memory, behind: mostBehind,
		log: s.log.With(slog.String("org", string(id))), metrics: s.cfg.Metrics, now: time.Now,
		rules: func(ctx context.Context) ([]activeRule, error) { return s.rulesNow(ctx, id) }, secret: s.secretOf(id),
		stat: func(ctx context.Context, bucket, key, version string) (Object, error) {
			return s.store.Stat(ctx, bucket, key, version)
		},
		show: func(ctx context.Context, rule string, v shown) error { return s.show(ctx, id, rule, v) },
		swept: func(ctx context.Context, rule, sweep string, t sweepTally) error {
			return s.sweptDecided(ctx, id, rule, sweep, t)
		},
	}
}

// run decides until ctx ends. An error says that what is remembered may not be what the journal says: only a new org may go on.
func (o *org) run(ctx context.Context) error {
	defer o.metrics.OldestEvent(string(o.id), time.Time{})
	err := o.begin(ctx)
	if err == nil {
		defer o.reader.Close()
		err = o.follow(ctx)
	}
	if ctx.Err() != nil {
		return nil // it was told to end
	}
	return err
}

// begin reads the journal, and submits what it says that is perhaps not submitted.
func (o *org) begin(ctx context.Context) error {
	o.m, o.w, o.refs, o.unshown = newMemory(), newWaiting(), map[parked]bool{}, map[string]bool{}
	o.places = map[parked]bool{}
	var open []*record
	var lastRecord *record
	_, err := o.streams.visit(ctx, func(seq uint64, text []byte) error {
		rec, err := decodeRecord(text)
		if err != nil {
			return err
		}
		o.m.apply(seq, rec)
		lastRecord = rec
		if len(rec.Batches) > 0 {
			open = append(open, rec)
			o.lastBatches = rec.N
		}
		for len(open) > 0 && open[0].N <= rec.Submitted {
			open = open[1:]
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read what was decided: %w", err)
	}
	from := o.m.through
	if lastRecord != nil {
		for _, p := range lastRecord.Parked {
			o.refs[p], o.places[parked{Seq: p.Seq, Event: p.Event}] = true, true
			from = min(from, p.Seq-1)
			o.m.count(p.Rule).Waiting++
		}
		o.recordedThrough = lastRecord.Submitted
	}
	for _, rec := range open {
		if err := o.submit(ctx, rec); err != nil {
			return err
		}
	}
	o.m.submitted = o.m.n
	o.endSweeps(ctx)
	for rule := range o.m.counts {
		o.unshown[rule] = true
	}
	o.last, o.trimmed = from, o.now()
	return o.open(ctx, from)
}

// open begins to read behind a sequence. A stream that has not come there is another one: all that is in it is decided on. What was
// decided stays known, so that nothing is copied twice.
func (o *org) open(ctx context.Context, from uint64) (err error) {
	o.reader, err = o.streams.read(ctx, from)
	if errors.Is(err, broker.ErrRewound) {
		o.log.LogAttrs(ctx, slog.LevelError, "the stream of events was lost or restored; what is in it is read from its beginning", slog.Any("error", err))
		o.giveUp(ctx)
		clear(o.places)
		o.m.through, o.m.partial, o.last = 0, nil, 0
		o.reader, err = o.streams.read(ctx, 0)
	}
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	return nil
}

// follow makes rounds until ctx ends.
func (o *org) follow(ctx context.Context) error {
	rest := time.Duration(0)
	for ctx.Err() == nil {
		idle, err := o.gather(ctx)
		if err == nil {
			var fatal error
			if err, fatal = o.step(ctx); fatal != nil {
				return fatal
			}
		}
		if err == nil {
			if err = o.keep(ctx, idle); errors.Is(err, errJournal) {
				return err
			}
		}
		if err == nil {
			rest, o.reported = 0, false
			continue
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // whoever ended it knows
		}
		if errors.Is(err, broker.ErrRewound) {
			return err
		}
		o.complain(ctx, err)
		rest = min(max(2*rest, backoffFirst), backoffMost)
		pause(ctx, rest)
	}
	return nil
}

// complain logs the first of several failures in a row.
func (o *org) complain(ctx context.Context, err error) {
	level := slog.LevelWarn
	if o.reported {
		level = slog.LevelDebug
	}
	o.reported = true
	o.log.LogAttrs(ctx, level, "events wait: they cannot be decided on now", slog.Any("error", err))
}

// gather reads notifications for the next round. idle says that none came though there was nothing else to do.
func (o *org) gather(ctx context.Context) (idle bool, err error) {
	if o.w.number >= mostParked || o.w.bytes >= parkedBytes {
		pause(ctx, parkedEvery)
		return false, nil
	}
	// Rounds that make no copies are held apart, too: each is a record, which is kept for as long as events are remembered.
	due := o.recordedAt.Add(RollingInterval)
	if len(o.pending) == 0 {
		wait := idleWait
		if o.w.number > 0 {
			wait = max(time.Millisecond, min(wait, o.nextParked.Sub(o.now())))
		}
		if none, err := o.fetch(ctx, wait); err != nil || len(o.pending) == 0 {
			return none && o.w.number == 0, err
		}
	}
	for len(o.pending) < RollingItems && o.held < pendingBytes {
		wait := due.Sub(o.now())
		if wait <= 0 {
			return false, nil
		}
		if _, err := o.fetch(ctx, wait); err != nil {
			return false, err
		}
	}
	return false, nil
}

// fetch adds to the events that are pending, as many as there is room for. none says that there were no notifications.
func (o *org) fetch(ctx context.Context, wait time.Duration) (none bool, err error) {
	if len(o.raw) == 0 {
		if o.raw, err = o.reader.Fetch(ctx, roundEvents, wait); err != nil {
			err = fmt.Errorf("read events: %w", err)
		}
		none = len(o.raw) == 0
	}
	for len(o.raw) > 0 && len(o.pending) < roundEvents && o.held < pendingBytes {
		o.take(ctx, &o.raw[0])
		o.raw[0] = broker.Notification{}
		o.raw = o.raw[1:]
	}
	if len(o.pending) > 0 {
		o.metrics.OldestEvent(string(o.id), time.Unix(0, o.pending[0].stored))
	}
	if err == nil && none && len(o.refs) > 0 && len(o.pending) == 0 {
		err = o.lost(ctx)
	}
	return none && err == nil, err
}

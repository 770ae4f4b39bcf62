package aggregator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// feeder brings the items of batches from their manifests into the queue, and carries out what is wanted of batches. All of
// it happens on one goroutine, which owns the fields; the hints are what others leave for it.
type feeder struct {
	id   string
	cfg  Config
	conn *broker.Conn
	log  *slog.Logger

	feeds, controls, batches, claims, parts *broker.Bucket

	hints  *hints
	rows   map[string]*row // by protocol.ControlKey
	due    agenda          // the rows, by when they are to be looked at
	want   map[string]wish // what is wanted of batches that somebody acted upon
	lines  map[broker.Shard]*line
	gauges map[broker.Shard]*gauge
	peers  peers
	held   *holders

	markers []marker // of feed records and controls that are gone
	bare    map[string]bool

	unfed    atomic.Int64 // items that are yet to be fed, for those who measure
	caughtUp [2]bool      // the watches have delivered what there was
	started  time.Time
	beaten   time.Time
}

// wish is a control with its revision.
type wish struct {
	protocol.Control

	revision uint64
}

const (
	feedTick  = 50 * time.Millisecond // while there is something to feed
	idleTick  = time.Second
	soonTick  = time.Millisecond // after an event
	beatEvery = time.Second
	maxLooks  = 256 // rows looked at before items are fed again
	retryFeed = 500 * time.Millisecond
)

func newFeeder(ctx context.Context, a *Aggregator) (*feeder, error) {
	f := &feeder{
		id: protocol.Token(a.cfg.ID), cfg: a.cfg, conn: a.conn, log: a.cfg.Logger, batches: a.bucket, claims: a.claims, parts: a.parts.bucket,
		hints: newHints(), rows: map[string]*row{}, want: map[string]wish{}, lines: map[broker.Shard]*line{}, gauges: map[broker.Shard]*gauge{},
		peers: peers{self: protocol.Token(a.cfg.ID)}, held: newHolders(a.claims, a.conn.AckWait()), bare: map[string]bool{},
	}
	var err error
	if f.feeds, err = a.conn.Bucket(ctx, broker.FeedBucket); err != nil {
		return nil, fmt.Errorf("aggregator: %w", err)
	}
	if f.controls, err = a.conn.Bucket(ctx, broker.ControlBucket); err != nil {
		return nil, fmt.Errorf("aggregator: %w", err)
	}
	return f, nil
}

// run feeds until ctx ends. A watch that breaks is begun again.
func (f *feeder) run(ctx context.Context) {
	defer func() {
		_ = f.conn.TellFeeder(f.id, true) // they take over a little later without it
	}()
	for ctx.Err() == nil {
		watching, cancel := context.WithCancel(ctx)
		err := f.watch(watching)
		cancel()
		if err != nil && ctx.Err() == nil {
			f.log.Warn("a background task failed and will be tried again", "task", "feed", "error", err)
			waitFor(ctx, retryFeed)
		}
	}
}

func (f *feeder) watch(ctx context.Context) error {
	feeds, err := f.feeds.Watch(ctx, ">")
	if err != nil {
		return fmt.Errorf("watch feeds: %w", err)
	}
	controls, err := f.controls.Watch(ctx, ">")
	if err != nil {
		return fmt.Errorf("watch controls: %w", err)
	}
	// What was deleted while nobody watched is not told of: begin with nothing.
	f.rows, f.due, f.lines, f.want = map[string]*row{}, agenda{}, map[broker.Shard]*line{}, map[string]wish{}
	f.caughtUp, f.started = [2]bool{}, time.Now()
	timer := time.NewTimer(soonTick)
	defer timer.Stop()
	at := time.Now().Add(soonTick)
	wake := func() {
		if time.Until(at) > soonTick { // else a stream of events would put it off for ever
			timer.Reset(soonTick)
			at = time.Now().Add(soonTick)
		}
	}
	f.beat()
	for {
		select {
		case <-ctx.Done():
			return nil
		case w, ok := <-feeds:
			if !ok {
				return errors.New("the watch of the feeds ended")
			}
			f.fed(w)
			wake()
		case w, ok := <-controls:
			if !ok {
				return errors.New("the watch of the controls ended")
			}
			f.controlled(w)
			wake()
		case <-f.hints.news:
			wake()
		case <-timer.C:
			rest := f.step(ctx)
			timer.Reset(rest)
			at = time.Now().Add(rest)
		}
	}
}

// fed takes in what the watch tells of a feed record.
func (f *feeder) fed(w broker.Watched) {
	if w.Current {
		f.caughtUp[0] = true
		return
	}
	r := f.rows[w.Entry.Key]
	if w.Deleted {
		f.markers = append(f.markers, marker{f.feeds, w.Entry.Key, w.Entry.Revision, time.Now()})
		if r != nil && r.revision < w.Entry.Revision {
			f.remove(r)
		}
		return
	}
	var feed protocol.Feed
	if err := json.Unmarshal(w.Entry.Value, &feed); err != nil || feed.Version > protocol.FeedVersion {
		f.log.Error("leaving a feed record that this build cannot read", "key", w.Entry.Key, "error", err)
		return
	}
	if r == nil {
		r = &row{key: batchKey{feed.Org, feed.Batch}, name: w.Entry.Key, fresh: f.caughtUp[0], place: -1}
		f.rows[r.name] = r
	}
	if r.revision >= w.Entry.Revision {
		return // our own
	}
	r.feed, r.revision, r.seen, r.mine = feed, w.Entry.Revision, time.Now(), false
	f.soon(r)
}

// controlled takes in what the watch tells of a control.
func (f *feeder) controlled(w broker.Watched) {
	if w.Current {
		f.caughtUp[1] = true
		return
	}
	if w.Deleted {
		f.markers = append(f.markers, marker{f.controls, w.Entry.Key, w.Entry.Revision, time.Now()})
		delete(f.want, w.Entry.Key)
		return
	}
	var control protocol.Control
	if err := json.Unmarshal(w.Entry.Value, &control); err != nil || control.Version > protocol.ControlVersion {
		f.log.Error("leaving a control that this build cannot read", "key", w.Entry.Key, "error", err)
		return
	}
	f.wished(w.Entry.Key, wish{control, w.Entry.Revision})
}

func (f *feeder) wished(key string, w wish) {
	if f.want[key].revision >= w.revision {
		return
	}
	f.want[key] = w
	if r := f.rows[key]; r != nil {
		r.wished = time.Now()
		f.soon(r)
	}
}

// step does what is due, and returns when to come back.
func (f *feeder) step(ctx context.Context) time.Duration {
	if time.Since(f.beaten) >= beatEvery {
		f.beat()
	}
	f.heed(ctx)
	if !f.caughtUp[0] || !f.caughtUp[1] || time.Since(f.started) < hello {
		return feedTick // what is wanted of them, or who feeds them, is not known yet
	}
	if err := f.held.keep(ctx); err != nil {
		f.trouble(ctx, "look at claims", err)
	}
	f.held.forget()
	for range maxLooks {
		r := f.due.next(time.Now())
		if r == nil {
			break
		}
		after, err := f.look(ctx, r)
		if err != nil {
			f.putOff(ctx, r, err)
			if errors.Is(err, broker.ErrUnavailable) {
				return retryFeed
			}
			continue
		}
		if f.rows[r.name] == r {
			f.due.put(r, time.Now().Add(after))
		}
	}
	f.dropMarkers(ctx)
	if err := f.feedAll(ctx); err != nil {
		f.trouble(ctx, "feed", err)
		return retryFeed
	}
	return f.pause()
}

// putOff has a batch wait that met an error, longer each time, so that it does not hold up the others.
func (f *feeder) putOff(ctx context.Context, r *row, err error) {
	f.trouble(ctx, "look after "+string(r.key.batch), err)
	f.leave(r)
	f.due.put(r, time.Now().Add(r.later(retryFeed, endMost)))
}

// pause is how long nothing needs to be done.
func (f *feeder) pause() time.Duration {
	rest := idleTick
	if len(f.lines) > 0 {
		rest = feedTick
	}
	if at, ok := f.due.first(); ok {
		rest = min(rest, max(time.Until(at), soonTick))
	}
	return rest
}

func (f *feeder) trouble(ctx context.Context, task string, err error) {
	if ctx.Err() == nil {
		f.log.Warn("a background task failed and will be tried again", "task", task, "error", err)
	}
}

// beat tells other aggregators that this one lives.
func (f *feeder) beat() {
	f.beaten = time.Now()
	f.weigh()
	if err := f.conn.TellFeeder(f.id, false); err != nil {
		f.log.Debug("others were not told that this aggregator feeds, and may take batches over", "error", err)
	}
}

// heed takes in what came over core NATS.
func (f *feeder) heed(ctx context.Context) {
	changed, feeders, suspects := f.hints.take()
	for id, ends := range feeders {
		if f.peers.heard(id, ends) {
			f.beat() // it is new and knows nobody yet
		}
	}
	for key, final := range changed {
		if final {
			delete(f.bare, key) // another batch may get its id once it is removed
		}
		if r := f.rows[key]; r != nil && (final || r.record == nil || r.watchful()) {
			f.soon(r)
		}
	}
	for key := range suspects {
		if err := f.suspect(ctx, key); err != nil {
			f.trouble(ctx, "look after "+string(key.batch), err)
			f.hints.suspectAgain(key)
		}
	}
}

// soon has a row looked at in this step or the next.
func (f *feeder) soon(r *row) {
	r.patience = 0
	f.due.put(r, later(r.looked, lookLeast))
}

func later(t time.Time, d time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(d)
}

// remove forgets a row whose feed record is gone.
func (f *feeder) remove(r *row) {
	f.leave(r)
	f.due.drop(r)
	delete(f.rows, r.name)
}

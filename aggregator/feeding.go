package aggregator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

// surely is how long a feeder may rely on what it last knew of a batch. The guard of a chunk stays in the queue for a minute
// at least ([Config.TrimAfter]), so that until then no chunk can be published twice.
const surely = 20 * time.Second

// feedAll gives every shard what it has room for.
func (f *feeder) feedAll(ctx context.Context) error {
	var errs []error
	for _, l := range f.lines {
		if err := f.feedLine(ctx, l); err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

func (f *feeder) feedLine(ctx context.Context, l *line) error {
	room, err := f.room(ctx, l.shard)
	if err != nil {
		return err
	}
	for idle := 0; room > 0 && idle < l.size; {
		share := min(max(room/len(l.orgs), 1), broker.MaxChunk)
		r := l.turn()
		n, err := f.feedSome(ctx, r, share)
		if errors.Is(err, broker.ErrUnavailable) || errors.Is(err, broker.ErrFull) {
			return err
		}
		if err != nil {
			f.putOff(ctx, r, err)
			continue
		}
		if n == 0 {
			idle++
			continue
		}
		idle, room = 0, room-n
		if err := f.conn.Wake(l.shard); err != nil {
			f.log.Debug("workers were not woken and will look by themselves", "error", err)
		}
	}
	return nil
}

// feedSome feeds a batch at most so many items, and returns how many it were.
func (f *feeder) feedSome(ctx context.Context, r *row, most int) (int, error) {
	w := f.want[r.name]
	stays := w.Wanted != protocol.WantStop && w.Wanted != protocol.WantPause && w.Resumes <= r.feed.Resumes
	if !stays || !f.may(r) || !r.hungry(w) {
		f.leave(r)
		f.soon(r)
		return 0, nil
	}
	if rate := r.record.options.Rate; rate > 0 {
		most = min(most, r.allow.available(time.Now(), rate))
	}
	if most == 0 {
		return 0, nil
	}
	f.own(r)
	var n int
	var err error
	if r.feed.Redo < r.feed.RedoEnd {
		n, err = f.redoSome(ctx, r, most)
	} else {
		n, err = f.feedNext(ctx, r, min(most, r.end(w)-r.feed.Next))
	}
	if err != nil {
		return 0, fmt.Errorf("feed batch %s: %w", r.key.batch, err)
	}
	r.allow.spend(n)
	if !r.hungry(w) {
		f.leave(r)
		r.patience = 0
		f.due.put(r, time.Now().Add(lookLeast))
	}
	return n, nil
}

// own notes that this feeder acts for a batch. If another one may have done so before, unseen, what that may have
// published is published again under [protocol.Work.Recheck].
func (f *feeder) own(r *row) {
	known := r.mine || r.fresh && r.feed.Owner == ""
	if known && r.confirm.IsZero() {
		r.confirm = r.seen
	}
	if !known || time.Since(r.confirm) > surely {
		r.rechecks = r.feed.Next + broker.MaxChunk
	}
	r.mine, r.confirm = true, time.Now()
}

// feedNext feeds items that were never fed.
func (f *feeder) feedNext(ctx context.Context, r *row, n int) (int, error) {
	first := r.feed.Next
	forms, err := formsOf(r)
	if err != nil {
		return 0, err
	}
	works := forms.works(first, n, first < r.rechecks)
	end, err := f.publish(ctx, r, first, first+n, works)
	if err != nil {
		return 0, err
	}
	feed := r.feed
	feed.Next = end
	moved, err := f.save(ctx, r, feed)
	if err != nil || !moved {
		return 0, err
	}
	return end - first, nil
}

// publish puts a chunk into the queue, once, and returns where it ends: elsewhere than asked for if another feeder published it.
func (f *feeder) publish(ctx context.Context, r *row, first, end int, works [][]byte) (int, error) {
	lane := r.record.lane
	guard := feedGuard(lane, r.key, r.feed.Pass, first)
	subject := protocol.WorkSubject(lane, r.record.pool, protocol.ShardOf(r.key.org), r.key.org, r.key.batch)
	err := f.conn.FeedChunk(ctx, guard, end, subject, works)
	if errors.Is(err, broker.ErrCommitted) {
		end, err = f.conn.FedUntil(ctx, lane, guard)
	}
	if err != nil {
		return 0, err //nolint:wrapcheck // says what it was
	}
	failpoint.Hit(failpoint.ChunkFed)
	f.cfg.Metrics.Fed(ctx, len(works))
	return end, nil
}

// feedGuard lets a chunk in once. It is none of the names that the front gives to the chunks it publishes.
func feedGuard(lane protocol.Lane, key batchKey, pass, first int) string {
	return protocol.GuardSubject(lane, key.org, key.batch, pass, first) + ".fed"
}

// save writes how far a batch is. It returns false if somebody else wrote meanwhile.
func (f *feeder) save(ctx context.Context, r *row, feed protocol.Feed) (bool, error) {
	feed.Version, feed.Owner, feed.At = protocol.FeedVersion, f.id, time.Now().UTC()
	value, err := protocol.Encode(feed)
	if err != nil {
		return false, fmt.Errorf("save how far batch %s is fed: %w", r.key.batch, err)
	}
	revision, err := f.feeds.Update(ctx, broker.Change{Key: r.name, Value: value, Revision: r.revision})
	if errors.Is(err, broker.ErrConflict) {
		f.leave(r)
		r.mine = false
		f.reread(ctx, r)
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("save how far batch %s is fed: %w", r.key.batch, err)
	}
	failpoint.Hit(failpoint.FeedSaved)
	r.feed, r.revision, r.seen, r.confirm = feed, revision, time.Now(), time.Now()
	return true, nil
}

// reread takes in what somebody else wrote of a batch. The watch tells that, too; but after a restart of the broker it is deaf until it
// misses its heartbeats, ten seconds later.
func (f *feeder) reread(ctx context.Context, r *row) {
	entry, err := f.feeds.Get(ctx, r.name)
	if err != nil {
		f.log.Debug("a feed record was not read and will be heard of", "batch", r.key.batch, "error", err)
		return
	}
	f.fed(broker.Watched{Entry: entry})
}

// forms is a work message with a gap for the index: the rest is the same for all items of a batch.
type forms struct{ before, after, recheck []byte }

func formsOf(r *row) (forms, error) {
	work := workOf(r)
	before, after, err := split(work)
	if err != nil {
		return forms{}, err
	}
	work.Recheck = true
	_, recheck, err := split(work)
	return forms{before, after, recheck}, err
}

func split(work protocol.Work) (before, after []byte, err error) {
	whole, err := protocol.Encode(work)
	if err != nil {
		return nil, nil, fmt.Errorf("prepare items: %w", err)
	}
	const gap = `"index":` // the names before it are strings, in which quotes are escaped
	i := bytes.Index(whole, []byte(gap+"0,"))
	if i < 0 {
		return nil, nil, errors.New("prepare items: a work message has no index")
	}
	i += len(gap)
	return whole[:i], whole[i+1:], nil
}

// works makes the messages of n items.
func (m forms) works(first, n int, recheck bool) [][]byte {
	after := m.after
	if recheck {
		after = m.recheck
	}
	const digits = 20
	all := make([]byte, 0, n*(len(m.before)+digits+len(after)))
	list := make([][]byte, n)
	for i := range n {
		from := len(all)
		all = append(all, m.before...)
		all = strconv.AppendInt(all, int64(first+i), 10)
		all = append(all, after...)
		list[i] = all[from:len(all):len(all)]
	}
	return list
}

// workOf is the first item of a batch as it is fed.
func workOf(r *row) protocol.Work {
	return protocol.Work{
		Version: protocol.WorkVersion, Org: r.key.org, Batch: r.key.batch, Total: r.record.total,
		Lane: r.record.lane, Pool: r.record.pool, Shard: protocol.ShardOf(r.key.org), Trace: r.record.trace,
		Generation: r.record.generation, MaxAttempts: r.record.options.Attempts,
	}
}

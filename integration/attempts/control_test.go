package attempts

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
	"github.com/copyfleet/copyfleet/worker"
)

// want says what is wanted of a batch.
func (b *bundle) want(batch protocol.BatchID, wanted protocol.Wanted) {
	b.Helper()
	b.put(broker.ControlBucket, protocol.ControlKey(org, batch), protocol.Control{Version: protocol.ControlVersion, Org: org, Batch: batch, Wanted: wanted, At: time.Now()})
}

// claimed counts the items of a batch in the claims.
func (b *bundle) claimed(batch protocol.BatchID) int {
	b.Helper()
	claims, err := b.conn.Bucket(b.Context(), broker.ClaimBucket)
	if err != nil {
		b.Fatal(err)
	}
	entries, err := claims.List(b.Context(), ">")
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		var claim protocol.Claim
		if err := json.Unmarshal(e.Value, &claim); err != nil {
			b.Fatal(err)
		}
		if claim.Slots == 0 || claim.Pool != protocol.DefaultPool {
			b.Errorf("the claim tells %d slots in pool %q", claim.Slots, claim.Pool)
		}
		for _, h := range claim.Held {
			if h.Ref.Batch == batch {
				n++
			}
		}
	}
	return n
}

func TestStopBreaksRunningItemsOff(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	g := newGate("x")
	b.sources["0"], b.sources["1"] = g, g
	b.work(worker.Config{Slots: 4})
	f := b.manifest(3, 1)
	b.feed(f, 0, 2, nil)
	<-g.opened
	<-g.opened
	b.want(f.batch, protocol.WantStop)
	b.eventually(func() bool { s, _ := b.summary(f.batch); return s.Tally.Canceled == 2 })
	s, _ := b.summary(f.batch)
	for _, r := range s.Receipts {
		if r.State != protocol.ItemCanceled || r.Failure.Class != protocol.Canceled || r.Failure.Code != "canceled" || len(r.Attempts) != 1 {
			t.Errorf("%+v", r)
		}
	}
	b.eventually(func() bool { return b.claimed(f.batch) == 0 })
	b.feed(f, 2, 3, nil) // what comes later is dropped
	b.eventually(b.laneEmpty)
	if s, _ := b.summary(f.batch); s.Tally.Ended() != 2 || b.content("/2") != "" {
		t.Errorf("an item of a stopped batch has run: %+v", s.Tally)
	}
}

func TestPauseBreaksRunningItemsOffUncharged(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	g := newGate("x")
	b.sources["0"] = g
	b.work(worker.Config{Slots: 1, PauseGrace: time.Millisecond})
	f := b.manifest(1, 0)
	b.feed(f, 0, 1, nil)
	<-g.opened
	b.want(f.batch, protocol.WantPause)
	b.eventually(func() bool { return b.laneEmpty() && b.claimed(f.batch) == 0 })
	if s, found := b.summary(f.batch); found {
		t.Errorf("an item that was broken off has news: %+v", s)
	}
	b.feed(f, 0, 1, nil)
	b.eventually(b.laneEmpty) // dropped; it holds no slot
	b.want(f.batch, protocol.WantRun)
	close(g.pass)
	b.feed(f, 0, 1, func(w *protocol.Work) { w.Recheck = true })
	if got := b.receipts(f.batch); got[0].State != protocol.ItemSucceeded || len(got[0].Attempts) != 1 || got[0].Attempts[0].Number != 1 {
		t.Errorf("%+v", got[0])
	}
	if n := len(g.opened); n != 1 {
		t.Errorf("the paused item was opened %d times more, want 1", n)
	}
}

func TestPausedItemsMayEnd(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	g := newGate("x")
	b.sources["0"] = g
	b.work(worker.Config{PauseGrace: time.Minute})
	f := b.manifest(1, 0)
	b.feed(f, 0, 1, nil)
	<-g.opened
	b.want(f.batch, protocol.WantPause)
	other := b.manifest(1, 0) // by the time that this one is dropped, the worker knows of the first one, too
	b.want(other.batch, protocol.WantPause)
	b.feed(other, 0, 1, nil)
	b.eventually(func() bool {
		backlog, err := b.conn.Backlog(t.Context(), broker.Shard{Lane: protocol.Bulk, Pool: protocol.DefaultPool, Index: protocol.ShardOf(org)})
		return err == nil && backlog.Waiting == 0 && backlog.Held == 1
	})
	close(g.pass)
	if got := b.receipts(f.batch); got[0].State != protocol.ItemSucceeded {
		t.Errorf("%+v", got[0])
	}
}

// TestStoppedBetweenLastByteAndCommit stops a batch when its item lacks nothing but the commit.
func TestStoppedBetweenLastByteAndCommit(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.sources["0"] = memory.NewSource([]byte("x"))
	g := &greedy{taken: make(chan struct{}, 1), pass: make(chan struct{})}
	b.dests["/0"] = g
	b.work(worker.Config{})
	batch := b.submit(1, nil)
	<-g.taken
	b.want(batch, protocol.WantStop)
	other := b.manifest(1, 0)
	b.want(other.batch, protocol.WantStop) // the watch tells in order: once an item of this one is dropped, the first is known as well
	b.feed(other, 0, 1, nil)
	b.eventually(b.laneEmpty)
	close(g.pass)
	if got := b.receipts(batch); got[0].State != protocol.ItemCanceled {
		t.Errorf("%+v", got[0])
	}
	if g.ready[0] == nil {
		t.Error("an item of a stopped batch was allowed to become visible")
	}
}

// swept is a destination beside which a dead worker may have left something.
type swept struct {
	memory.Destination
	discards atomic.Int32
}

func (s *swept) Discard() error {
	s.discards.Add(1)
	return nil
}

// TestStoppedItemOfADeadWorkerIsCleanedUp stops a batch one of whose items a worker held that died.
func TestStoppedItemOfADeadWorkerIsCleanedUp(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	d := &swept{}
	b.dests["/0"] = d
	f := b.manifest(1, 1)
	ref := protocol.Ref{Org: org, Batch: f.batch, Index: 0}
	b.put(broker.ClaimBucket, "dead", protocol.Claim{
		Version: protocol.ClaimVersion, Worker: "dead", Written: time.Now(), Pool: protocol.DefaultPool, Slots: 1, Held: []protocol.HeldClaim{{Ref: ref, Fence: 1}},
	})
	b.want(f.batch, protocol.WantStop)
	b.work(worker.Config{})
	b.feed(f, 0, 1, func(w *protocol.Work) { w.Recheck = true })
	b.eventually(func() bool { return d.discards.Load() == 1 && b.laneEmpty() })
	if _, found := b.summary(f.batch); found || len(d.Puts()) != 0 {
		t.Error("an item of a stopped batch has run")
	}
	b.eventually(func() bool { return b.claimed(f.batch) == 1 }) // by the dead one
}

func TestPlannedRetryOfAStoppedBatchIsDropped(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	down := &storage.Error{Class: storage.Unavailable, Code: "http_503", Op: "open", Subject: "x", Message: "down", RetryAfter: 20 * time.Second} // by then the stop is stored
	source := &flaky{fails: 99, err: down}
	b.sources["0"] = source
	b.work(worker.Config{})
	f := b.manifest(1, 0)
	b.feed(f, 0, 1, nil)
	b.eventually(func() bool { s, _ := b.summary(f.batch); return s.Tally.Retrying == 1 })
	if s, _ := b.summary(f.batch); s.Receipts[0].RetryAt.Before(s.Receipts[0].Attempts[0].End) {
		t.Errorf("the retry is told to be due at %s", s.Receipts[0].RetryAt)
	}
	b.want(f.batch, protocol.WantStop)
	b.eventually(func() bool {
		backlog, err := b.conn.Backlog(t.Context(), broker.Shard{Pool: protocol.DefaultPool, Index: protocol.ShardOf(org)})
		return err == nil && backlog.Delivered == 1 && backlog.Waiting == 0 && backlog.Held == 0
	})
	if n := source.count(); n != 1 {
		t.Errorf("the item was opened %d times, want once", n)
	}
}

// TestNothingIsLostOrRepeatedWhileTheBrokerIsAway lets items end while their outcomes cannot be stored.
func TestNothingIsLostOrRepeatedWhileTheBrokerIsAway(t *testing.T) {
	t.Parallel()
	b, restart := newRestartable(t)
	g := newGate("x")
	const items = 6
	for i := range items {
		b.sources[fmt.Sprint(i)] = g
	}
	b.work(worker.Config{Slots: 8})
	f := b.manifest(items, 1)
	b.feed(f, 0, items, nil)
	for range items {
		<-g.opened
	}
	start := restart()
	close(g.pass)
	for i := range items {
		b.eventually(func() bool { return b.content(fmt.Sprint("/", i)) == "x" })
	}
	start()
	b.eventually(func() bool { return b.conn.Ready(t.Context()) == nil })
	b.eventually(func() bool { s, _ := b.summary(f.batch); return s.State == protocol.BatchSucceeded })
	for i := range items {
		if d, _ := b.dest(fmt.Sprint("/", i)).(*memory.Destination); len(d.Puts()) != 1 {
			t.Errorf("item %d was written %d times", i, len(d.Puts()))
		}
	}
}

// crowd is a source that counts how many of it are open at once.
type crowd struct{ now, most, opened atomic.Int32 }

func (c *crowd) Open(ctx context.Context) (*storage.Object, error) {
	c.opened.Add(1)
	now := c.now.Add(1)
	for most := c.most.Load(); now > most && !c.most.CompareAndSwap(most, now); most = c.most.Load() {
	}
	object, err := memory.NewSource([]byte("x")).Open(ctx)
	if err == nil {
		object.Body = leaving{object.Body, c}
	}
	return object, err
}

type leaving struct {
	io.ReadCloser
	crowd *crowd
}

func (l leaving) Close() error {
	l.crowd.now.Add(-1)
	return l.ReadCloser.Close()
}

func TestSlotsAreNeverExceeded(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	const items, slots = 700, 8
	c := &crowd{}
	for i := range items {
		b.sources[fmt.Sprint(i)] = c
	}
	f := b.manifest(items, 1)
	b.work(worker.Config{Slots: slots})
	b.feed(f, 0, items, nil)
	b.eventually(func() bool { s, _ := b.summary(f.batch); return s.State == protocol.BatchSucceeded })
	if c.most.Load() > slots*3/4 || c.opened.Load() != items { // a quarter is kept for the interactive lane
		t.Errorf("%d of %d items ran at once, and %d in all", c.most.Load(), items, c.opened.Load())
	}
}

// TestDrainStoresWhatIsDone stops a worker while it is busy: what became visible has its outcome stored.
func TestDrainStoresWhatIsDone(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	const items = 600
	for i := range items {
		b.sources[fmt.Sprint(i)] = memory.NewSource([]byte("x"))
	}
	f := b.manifest(items, 1)
	stop := b.work(worker.Config{Slots: 16})
	b.feed(f, 0, items, nil)
	b.eventually(func() bool { return b.content("/20") == "x" })
	stop()
	visible := 0
	for i := range items {
		if b.content(fmt.Sprint("/", i)) == "x" {
			visible++
		}
	}
	b.eventually(func() bool { s, _ := b.summary(f.batch); return s.Tally.Succeeded == visible })
	if n := b.claimed(f.batch); n != 0 {
		t.Errorf("%d items stand in the claims of a worker that has ended", n)
	}
	b.work(worker.Config{Slots: 16})
	b.eventually(func() bool { s, _ := b.summary(f.batch); return s.State == protocol.BatchSucceeded })
}

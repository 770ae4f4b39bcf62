package attempts

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
	"github.com/copyfleet/copyfleet/worker"
)

func TestItemsAreCopied(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.sources["0"] = memory.NewSource([]byte("hello"))
	b.sources["1"] = &memory.Source{Data: []byte("of unknown length"), Unknown: true}
	b.sources["2"] = memory.NewSource(nil)
	b.dests["/1"] = &memory.Destination{RequiresSize: true}
	b.work(worker.Config{SpoolDir: filepath.Join(t.TempDir(), "spool")}) // not there yet: the worker makes it
	got := b.receipts(b.submit(3, nil))
	for i, want := range []struct {
		content  string
		verified bool
	}{{"hello", true}, {"of unknown length", false}, {"", true}} {
		r := got[i]
		if r.State != protocol.ItemSucceeded || r.Bytes != int64(len(want.content)) || r.Verified != want.verified || len(r.Attempts) != 1 {
			t.Errorf("item %d: %+v", i, r)
		}
		if text := b.content(fmt.Sprint("/", i)); text != want.content {
			t.Errorf("item %d: the destination holds %q", i, text)
		}
	}
	b.eventually(func() bool { // and acknowledged: nothing of the lane is needed any more
		floors, err := b.conn.Floors(t.Context())
		return err == nil && floors["CF_WORK_INTERACTIVE"] == 4
	})
	if got[0].SHA256 != "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" {
		t.Errorf("the digest of hello is told as %s", got[0].SHA256)
	}
}

// flaky fails a number of times before it opens.
type flaky struct {
	mu    sync.Mutex
	fails int
	err   error
	then  storage.Source
	opens int
}

func (f *flaky) Open(ctx context.Context) (*storage.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opens++
	if f.opens <= f.fails {
		return nil, f.err
	}
	return f.then.Open(ctx)
}

func (f *flaky) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.opens
}

func TestRetriesByCause(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	down := storage.Errorf(storage.Unavailable, "http_503", "open", "x", "the server is down")
	denied := storage.Errorf(storage.Denied, "http_403", "open", "x", "no")
	sources := []*flaky{
		{fails: 2, err: down, then: memory.NewSource([]byte("third time"))},
		{fails: 99, err: down},
		{fails: 99, err: denied},
	}
	for i, s := range sources {
		b.sources[fmt.Sprint(i)] = s
	}
	b.work(worker.Config{})
	got := b.receipts(b.submit(3, nil))
	for i, want := range []struct {
		state    protocol.ItemState
		attempts int
	}{{protocol.ItemSucceeded, 3}, {protocol.ItemFailed, protocol.DefaultMaxAttempts}, {protocol.ItemFailed, 1}} {
		if got[i].State != want.state || len(got[i].Attempts) != want.attempts || sources[i].count() != want.attempts {
			t.Errorf("item %d: %s after %d attempts, opened %d times, want %s after %d", i, got[i].State, len(got[i].Attempts), sources[i].count(), want.state, want.attempts)
		}
		for n, a := range got[i].Attempts {
			if a.Number != n+1 || a.Worker == "" || a.Start.IsZero() || a.End.Before(a.Start) {
				t.Errorf("item %d: attempt %+v", i, a)
			}
		}
	}
}

// panicking panics when it is opened.
type panicking struct{}

func (panicking) Open(context.Context) (*storage.Object, error) { panic("poison") }

func TestPanicIsAnOutcome(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.sources["0"] = panicking{}
	b.sources["1"] = memory.NewSource([]byte("fine"))
	b.work(worker.Config{})
	got := b.receipts(b.submit(2, func(w *protocol.Work) { w.MaxAttempts = 2 }))
	if got[0].State != protocol.ItemFailed || got[0].Failure.Code != "panic" || len(got[0].Attempts) != 2 {
		t.Errorf("the poisoned item: %+v", got[0])
	}
	if got[1].State != protocol.ItemSucceeded {
		t.Errorf("its neighbor: %+v", got[1])
	}
}

// gate is a source that gives its bytes when it is opened up.
type gate struct {
	opened chan struct{} // a token for each Open
	pass   chan struct{} // closed: go on
	data   string
}

func newGate(data string) *gate {
	return &gate{opened: make(chan struct{}, 16), pass: make(chan struct{}), data: data}
}

func (g *gate) Open(ctx context.Context) (*storage.Object, error) {
	g.opened <- struct{}{}
	select {
	case <-g.pass:
		return memory.NewSource([]byte(g.data)).Open(ctx)
	case <-ctx.Done():
		return nil, &storage.Error{Class: storage.Interrupted, Code: "canceled", Message: "canceled", Err: context.Cause(ctx)}
	}
}

func TestDrainHandsBackUncharged(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	g := newGate("late")
	b.sources["0"] = g
	stop := b.work(worker.Config{Drain: time.Millisecond})
	batch := b.submit(1, nil)
	<-g.opened
	stop()
	if s, found := b.summary(batch); found {
		t.Errorf("an item that was handed back has news: %+v", s)
	}
	close(g.pass)
	b.work(worker.Config{})
	got := b.receipts(batch)
	if got[0].State != protocol.ItemSucceeded || len(got[0].Attempts) != 1 || got[0].Attempts[0].Worker != "w2" {
		t.Errorf("after the hand-over: %+v", got[0])
	}
}

func TestDrainLetsRunningItemsFinish(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	g := newGate("in time")
	b.sources["0"] = g
	stop := b.work(worker.Config{Drain: time.Minute})
	batch := b.submit(1, nil)
	<-g.opened
	go func() { close(g.pass) }()
	stop()
	if got := b.receipts(batch); got[0].State != protocol.ItemSucceeded {
		t.Errorf("%+v", got[0])
	}
}

func TestSlotsBoundWhatRuns(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	g := newGate("x")
	for i := range 10 {
		b.sources[fmt.Sprint(i)] = g
	}
	b.work(worker.Config{Slots: 3})
	batch := b.submit(10, nil)
	for range 3 {
		<-g.opened
	}
	// A worker with all slots taken fetches nothing: another one gets the rest at once.
	b.work(worker.Config{Slots: 7})
	for range 7 {
		<-g.opened
	}
	close(g.pass)
	per := map[string]int{}
	for _, r := range b.receipts(batch) {
		per[r.Attempts[0].Worker]++
	}
	if per["w1"] != 3 || per["w2"] != 7 {
		t.Errorf("items by worker: %v, want 3 and 7", per)
	}
}

func TestSettledItemIsNotCopiedAgain(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	source := &flaky{then: memory.NewSource([]byte("x"))}
	b.sources["0"] = source
	stop := b.work(worker.Config{})
	var message []byte
	batch := b.submit(1, func(w *protocol.Work) { message, _ = json.Marshal(w) })
	b.receipts(batch)
	stop()
	// The same item once more, as after a restart of the server that forgot the acknowledgement.
	subject := protocol.WorkSubject(protocol.Interactive, protocol.DefaultPool, protocol.ShardOf(org), org, batch)
	if _, err := b.conn.PublishChunk(t.Context(), "cf.guard.interactive.again", subject, [][]byte{message}); err != nil {
		t.Fatal(err)
	}
	b.work(worker.Config{}) // what lies in the stream at its start may be a repetition
	b.receipts(b.submit(1, nil))
	if source.count() != 2 {
		t.Errorf("the source was opened %d times, want once for each batch", source.count())
	}
}

func TestForeignSealFailsTheItem(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.work(worker.Config{})
	got := b.receipts(b.submit(1, func(w *protocol.Work) { w.Sealed[len(w.Sealed)-1] ^= 1 }))
	if got[0].State != protocol.ItemFailed || got[0].Failure.Code != "seal_unreadable" || got[0].Failure.Hint == "" {
		t.Errorf("%+v", got[0])
	}
}

// greedy takes the body and asks whether it is ready, but only when told.
type greedy struct {
	taken chan struct{}
	pass  chan struct{}
	mu    sync.Mutex
	ready []error
}

func (g *greedy) NeedsSize() bool { return false }
func (g *greedy) Put(_ context.Context, c storage.Content) (storage.Stored, error) {
	n, err := io.Copy(io.Discard, c.Body)
	if err != nil {
		return storage.Stored{}, err
	}
	g.taken <- struct{}{}
	<-g.pass
	err = c.Ready()
	g.mu.Lock()
	g.ready = append(g.ready, err)
	g.mu.Unlock()
	return storage.Stored{Bytes: n}, err
}

// TestStaleWorkerDoesNotCommit takes an item away from a worker between its last byte and its commit.
func TestStaleWorkerDoesNotCommit(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.sources["0"] = memory.NewSource([]byte("x"))
	g := &greedy{taken: make(chan struct{}, 4), pass: make(chan struct{})}
	b.dests["/0"] = g
	b.work(worker.Config{Slots: 1})
	batch := b.submit(1, nil)
	<-g.taken
	// Another worker claims the item, as it would after the server gave it away, and the connection broke in between.
	ref := protocol.Ref{Org: org, Batch: batch, Index: 0}
	value, err := json.Marshal(protocol.Claim{Version: 1, Worker: "other", Written: time.Now(), Held: []protocol.HeldClaim{{Ref: ref, Fence: 99}}})
	if err != nil {
		t.Fatal(err)
	}
	claims, err := b.conn.Bucket(t.Context(), broker.ClaimBucket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claims.Put(t.Context(), "other", value); err != nil {
		t.Fatal(err)
	}
	if err := b.conn.ForceReconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(g.pass)
	b.eventually(func() bool { g.mu.Lock(); defer g.mu.Unlock(); return len(g.ready) == 1 })
	if g.ready[0] == nil {
		t.Error("the worker committed what another had claimed")
	}
	if _, found := b.summary(batch); found {
		t.Error("a worker that lost an item reported on it")
	}
}

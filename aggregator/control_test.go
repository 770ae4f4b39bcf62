package aggregator_test

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/aggregator"
	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// want writes a control as the front does.
func (b *bundle) want(a protocol.Acceptance, change func(*protocol.Control)) {
	b.Helper()
	bucket, key := b.bucket(broker.ControlBucket), protocol.ControlKey(a.Org, a.Batch)
	for {
		control, _ := get[protocol.Control](b, broker.ControlBucket, key)
		entry, err := bucket.Get(b.Context(), key)
		if err != nil && !errors.Is(err, broker.ErrNotFound) {
			b.Fatal(err)
		}
		control.Version, control.Org, control.Batch, control.At = 1, a.Org, a.Batch, time.Now()
		change(&control)
		value, err := protocol.Encode(control)
		if err != nil {
			b.Fatal(err)
		}
		_, err = bucket.Update(b.Context(), broker.Change{Key: key, Value: value, Revision: entry.Revision})
		if err == nil {
			return
		}
		if !errors.Is(err, broker.ErrConflict) {
			b.Fatal(err)
		}
	}
}

func stop(c *protocol.Control)   { c.Wanted, c.Reason = protocol.WantStop, protocol.ReasonCaller }
func pause(c *protocol.Control)  { c.Wanted, c.Reason = protocol.WantPause, protocol.ReasonCaller }
func resume(c *protocol.Control) { c.Wanted, c.Reason = protocol.WantRun, ""; c.Resumes++ }

// acceptDirect does what the front does for a small batch: it publishes the items itself.
func (b *bundle) acceptDirect(a *protocol.Acceptance) {
	b.Helper()
	a.Chunks, a.Generation, a.State, a.Manifest = 1, 0, protocol.AcceptPending, []byte("sealed")
	put(b, broker.BatchBucket, protocol.AcceptKey(a.Org, a.Batch), *a)
	var items [][]byte
	for i := range a.Total {
		item, err := protocol.Encode(protocol.Work{Version: 2, Org: a.Org, Batch: a.Batch, Index: i, Total: a.Total, Lane: a.Lane, Pool: a.Pool})
		if err != nil {
			b.Fatal(err)
		}
		items = append(items, item)
	}
	if _, err := b.conn.PublishChunk(b.Context(), a.Guard(0), a.Subject(), items); err != nil {
		b.Fatal(err)
	}
}

// claim writes what a worker holds.
func (b *bundle) claim(worker string, written time.Time, a protocol.Acceptance, indexes ...int) {
	b.Helper()
	claim := protocol.Claim{Version: 2, Worker: worker, Written: written}
	for _, i := range indexes {
		claim.Held = append(claim.Held, protocol.HeldClaim{Ref: protocol.Ref{Org: a.Org, Batch: a.Batch, Index: i}, Fence: 1})
	}
	put(b, broker.ClaimBucket, worker, claim)
}

func (b *bundle) waiting(org protocol.OrgID) int {
	b.Helper()
	backlog, err := b.conn.Backlog(b.Context(), broker.Shard{Lane: protocol.Bulk, Pool: protocol.DefaultPool, Index: protocol.ShardOf(org)})
	if err != nil {
		b.Fatal(err)
	}
	return backlog.Waiting
}

func TestStopOfAMillionIsOneWrite(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{})()
	const total = 1_000_000
	a := accepted("ORG", total, protocol.Options{})
	b.accept(a)
	b.eventually(func() bool { return b.waiting("ORG") > 0 })
	for i := range 300 {
		b.publish(report(a.Batch, i, total))
	}
	b.want(a, stop)
	s := b.final(a.Batch)
	want := protocol.Tally{Succeeded: 200, Failed: 100, Canceled: total - 300, Bytes: 2000}
	if s.Tally != want || s.State != protocol.BatchCanceled || s.Rest != protocol.ItemCanceled || s.Reason != protocol.ReasonCaller {
		t.Errorf("%+v", s)
	}
	if n := b.waiting("ORG"); n > 0 {
		t.Errorf("%d items still wait", n)
	}
	b.publish(report(a.Batch, 500, total)) // late
	other := accepted("ORG", 1, protocol.Options{})
	b.publish(report(other.Batch, 0, 1))
	b.final(other.Batch)
	if s := b.final(a.Batch); s.Tally != want {
		t.Errorf("a late report changed it: %+v", s.Tally)
	}
}

func TestStopWaitsForWorkersThatLive(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{})()
	const total = 600
	a := accepted("ORG", total, protocol.Options{})
	b.accept(a)
	b.crew().collect(512)
	b.claim("dead", time.Now().Add(-time.Hour), a, 1)
	b.claim("living", time.Now().Add(-5*time.Minute), a, 2, 300) // its clock is late
	b.want(a, stop)
	b.publish(report(a.Batch, 2, total))
	b.eventually(func() bool { s, found := b.summary(a.Batch); return found && s.Tally.Succeeded == 1 })
	other := accepted("OTHER", 10, protocol.Options{}) // shows that the feeder has come round
	b.accept(other)
	b.want(other, stop)
	b.eventually(func() bool {
		s, found := get[protocol.Summary](b, broker.BatchBucket, protocol.SummaryKey("OTHER", other.Batch))
		return found && s.State.Final()
	})
	if s, _ := b.summary(a.Batch); s.State.Final() {
		t.Error("it has ended although a worker holds an item of it")
	}
	b.publish(report(a.Batch, 300, total)) // fails
	s := b.final(a.Batch)
	if want := (protocol.Tally{Succeeded: 1, Failed: 1, Canceled: total - 2, Bytes: 10}); s.Tally != want {
		t.Errorf("%+v", s.Tally)
	}
}

func TestPauseAndResumeLoseNothing(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{})()
	const total = 700
	a := accepted("ORG", total, protocol.Options{})
	b.accept(a)
	c := b.crew()
	first := c.collect(100)
	for _, w := range first[:50] {
		b.publish(report(a.Batch, w.Index, total))
	}
	retrying := report(a.Batch, first[50].Index, total)
	retrying.Receipt.State, retrying.Receipt.Failure = protocol.ItemRetrying, &protocol.Failure{Class: protocol.Timeout}
	b.publish(retrying)
	b.eventually(func() bool { s, _ := b.summary(a.Batch); return s.Tally.Ended() == 50 && s.Tally.Retrying == 1 })
	b.want(a, pause)
	b.eventually(func() bool { return b.waiting("ORG") == 0 })
	b.want(a, resume)
	works := c.collect(total - 50)
	ended := map[int]bool{}
	for _, w := range first[:50] {
		ended[w.Index] = true
	}
	seen := map[int]int{}
	for _, w := range works {
		seen[w.Index]++
		if ended[w.Index] {
			t.Errorf("item %d was fed again although it has ended", w.Index)
		}
		if w.Index == first[50].Index && len(w.Attempts) != 1 {
			t.Error("an item that was tried is fed again without its attempts")
		}
		if w.Index < 512 && !w.Recheck {
			t.Errorf("item %d is fed again without a recheck", w.Index)
		}
	}
	if len(seen) != total-50 || len(works) != total-50 {
		t.Errorf("%d items came, %d different ones, want %d", len(works), len(seen), total-50)
	}
	feed, _ := get[protocol.Feed](b, broker.FeedBucket, protocol.ControlKey("ORG", a.Batch))
	if feed.Pass != 1 || feed.Resumes != 1 || feed.RedoEnd != 0 {
		t.Errorf("feed %+v", feed)
	}
}

// TestResumeDoesNotWaitForWhatRuns resumes a batch of which a worker runs an item that takes long.
func TestResumeDoesNotWaitForWhatRuns(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	server, err := broker.StartServer(broker.ServerConfig{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	b.conn, err = broker.Connect(broker.Config{Server: server, Name: t.Name(), Logger: slog.New(slog.DiscardHandler), AckWait: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.conn.Close)
	if err := b.conn.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.batches = b.bucket(broker.BatchBucket)
	defer b.run(aggregator.Config{})()
	const total, runs = 300, 2
	a := accepted("ORG", total, protocol.Options{})
	b.accept(a)
	c := b.crew()
	c.collect(total)
	b.claim("living", time.Now(), a, runs)
	b.want(a, pause)
	b.want(a, resume)
	var works []protocol.Work
	told := time.Now()
	b.eventually(func() bool {
		if time.Since(told) > time.Second { // as often as its AckWait asks for, and more
			b.claim("living", time.Now(), a, runs)
			told = time.Now()
		}
		works = append(works, c.fetch(1000)...)
		return len(works) >= total-1
	})
	eachOnce(t, append(works, protocol.Work{Index: runs}), 0, total)
}

func TestCanaryPausesAndTheResumeRunsAll(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{})()
	const total = 300
	a := accepted("ORG", total, protocol.Options{Canary: 5})
	b.accept(a)
	c := b.crew()
	eachOnce(t, c.collect(5), 0, 5)
	for i := range 5 {
		b.publish(report(a.Batch, i, total))
	}
	b.eventually(func() bool {
		control, there := get[protocol.Control](b, broker.ControlBucket, protocol.ControlKey("ORG", a.Batch))
		return there && control.Wanted == protocol.WantPause && control.Reason == protocol.ReasonCanary
	})
	if n := b.waiting("ORG"); n > 0 {
		t.Errorf("%d items beyond the canary wait", n)
	}
	b.want(a, resume)
	eachOnce(t, c.collect(total-5), 5, total-5)
}

func TestTooManyFailuresStop(t *testing.T) {
	t.Parallel()
	for _, direct := range []bool{false, true} {
		b := newBundle(t)
		stopIt := b.run(aggregator.Config{})
		const total = 250
		a := accepted("ORG", total, protocol.Options{MaxFailed: protocol.Threshold{Given: true, Count: 3}})
		if direct {
			b.acceptDirect(&a)
		} else {
			b.accept(a)
		}
		for i := range 10 { // 0, 3, 6, 9 fail
			b.publish(report(a.Batch, i, total))
		}
		s := b.final(a.Batch)
		if s.Reason != protocol.ReasonMaxFailed || s.Tally.Failed != 4 || s.Tally.Canceled != total-10 || s.State != protocol.BatchCanceled {
			t.Errorf("direct %v: %+v", direct, s)
		}
		control, _ := get[protocol.Control](b, broker.ControlBucket, protocol.ControlKey("ORG", a.Batch))
		if control.Wanted != protocol.WantStop {
			t.Errorf("direct %v: control %+v", direct, control)
		}
		stopIt()
	}
}

func TestLostItemsAreFedAgain(t *testing.T) {
	t.Parallel()
	for _, direct := range []bool{false, true} {
		b := newBundle(t)
		stopIt := b.run(aggregator.Config{ID: "a"}) // patient until some have ended: how long that takes is the machine's
		const total = 200
		a := accepted("ORG", total, protocol.Options{})
		c := b.crew()
		if direct {
			b.acceptDirect(&a)
		} else {
			b.accept(a)
		}
		c.collect(total) // and nobody reports them
		for i := range 20 {
			b.publish(report(a.Batch, i, total))
		}
		b.eventually(func() bool { s, found := b.summary(a.Batch); return found && s.Tally.Ended() == 20 })
		stopIt()
		stopIt = b.run(aggregator.Config{ID: "a", RecoverAfter: 300 * time.Millisecond, SweepEvery: 50 * time.Millisecond, AbandonAfter: 100 * time.Millisecond})
		works := c.collect(total - 20)
		eachOnce(t, works, 20, total-20)
		for _, w := range works {
			if !w.Recheck {
				t.Fatal("fed again without a recheck")
			}
			b.publish(report(a.Batch, w.Index, total))
		}
		checkWhole(b, a.Batch, total)
		stopIt()
	}
}

// TestLostItemsAreFedAgainInABusyShard has the items of another batch wait in the same shard all the time.
func TestLostItemsAreFedAgainInABusyShard(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{RecoverAfter: 300 * time.Millisecond})()
	const total = 20
	a, busy := accepted("ORG", total, protocol.Options{}), accepted("ORG", 100_000, protocol.Options{})
	c := b.crew()
	b.accept(a)
	c.collect(total) // and nobody reports them
	b.accept(busy)
	b.eventually(func() bool { return b.waiting("ORG") >= 512 })
	again := 0
	b.eventually(func() bool {
		for _, w := range c.fetch(100) {
			if w.Batch == a.Batch {
				again++
			}
		}
		return again >= total && b.waiting("ORG") > 0 // more: they came twice before they were looked for
	})
}

// TestLostCanaryIsFedAgain loses all that a batch may feed before its canary has ended.
func TestLostCanaryIsFedAgain(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{RecoverAfter: 300 * time.Millisecond})()
	const total, canary = 600, 20
	a := accepted("ORG", total, protocol.Options{Canary: canary})
	b.accept(a)
	c := b.crew()
	c.collect(canary) // and nobody reports them
	eachOnce(t, c.collect(canary), 0, canary)
}

func TestNoticeOfTheEnd(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{})()
	const total = 2
	a := accepted("ORG", total, protocol.Options{Webhook: &protocol.Webhook{Sealed: []byte("x"), Shown: "https://example.com"}})
	b.accept(a)
	c := b.crew()
	c.collect(total)
	for i := range total {
		b.publish(report(a.Batch, i, total))
	}
	notice := c.collect(1)[0]
	if notice.Kind != protocol.KindWebhook || notice.Index != protocol.WebhookIndex || notice.Batch != a.Batch || notice.Lane != protocol.Interactive {
		t.Errorf("%+v", notice)
	}
	before := b.final(a.Batch)
	told := func(state protocol.ItemState, attempts int) protocol.Report {
		r := report(a.Batch, 1, total)
		r.Ref.Index, r.Receipt.Index = protocol.WebhookIndex, protocol.WebhookIndex
		r.Receipt.State, r.Receipt.Attempts, r.Receipt.RetryAt = state, make([]protocol.Attempt, attempts), time.Now().Add(time.Minute)
		return r
	}
	b.publish(told(protocol.ItemRetrying, 1))
	b.eventually(func() bool { s, _ := b.summary(a.Batch); return s.Webhook != nil })
	if _, there := get[protocol.Feed](b, broker.FeedBucket, protocol.ControlKey("ORG", a.Batch)); !there {
		t.Error("nobody looks after the notice any more")
	}
	b.publish(told(protocol.ItemSucceeded, 2))
	b.eventually(func() bool {
		_, there := get[protocol.Feed](b, broker.FeedBucket, protocol.ControlKey("ORG", a.Batch))
		return !there
	})
	s, _ := b.summary(a.Batch)
	if s.Webhook.State != protocol.ItemSucceeded || len(s.Webhook.Attempts) != 2 {
		t.Errorf("webhook %+v", s.Webhook)
	}
	if s.Tally != before.Tally || !s.Ended.Equal(before.Ended) || s.State != before.State {
		t.Errorf("the notice changed the batch from %+v to %+v", before, s)
	}
}

func TestRateIsKept(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{})()
	a := accepted("ORG", 1000, protocol.Options{Rate: 50})
	begin := time.Now()
	b.accept(a)
	n := len(b.crew().collect(40))
	// The first item at once, then 50 a second: 40 take 0.78 s at least, whatever the machine does.
	if passed := time.Since(begin); float64(n-1) > 50*passed.Seconds() {
		t.Errorf("%d items in %s", n, passed)
	}
}

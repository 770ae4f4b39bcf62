package aggregator_test

import (
	"encoding/json"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/aggregator"
	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// bucket opens a bucket.
func (b *bundle) bucket(name string) *broker.Bucket {
	b.Helper()
	bucket, err := b.conn.Bucket(b.Context(), name)
	if err != nil {
		b.Fatal(err)
	}
	return bucket
}

// put stores a value whatever was there.
func put[T any](b *bundle, bucket, key string, value T) {
	b.Helper()
	data, err := protocol.Encode(value)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := b.bucket(bucket).Put(b.Context(), key, data); err != nil {
		b.Fatal(err)
	}
}

// get reads a value; false: there is none.
func get[T any](b *bundle, bucket, key string) (T, bool) {
	b.Helper()
	var value T
	entry, err := b.bucket(bucket).Get(b.Context(), key)
	if errors.Is(err, broker.ErrNotFound) {
		return value, false
	}
	if err != nil {
		b.Fatal(err)
	}
	if err := json.Unmarshal(entry.Value, &value); err != nil {
		b.Fatal(err)
	}
	return value, true
}

// accepted is the accept record of a fed batch.
func accepted(org protocol.OrgID, total int, options protocol.Options) protocol.Acceptance {
	return protocol.Acceptance{
		Version: protocol.AcceptanceVersion, Batch: protocol.NewBatchID(), Org: org, Lane: protocol.Bulk, Pool: protocol.DefaultPool,
		Total: total, State: protocol.AcceptComplete, Generation: 1, Created: time.Now(), Trace: "00-trace", Options: options,
	}
}

// accept stores what the front does for a fed batch, but for the manifest, which only workers read.
func (b *bundle) accept(a protocol.Acceptance) {
	b.Helper()
	put(b, broker.FeedBucket, protocol.ControlKey(a.Org, a.Batch), protocol.Feed{Version: 1, Org: a.Org, Batch: a.Batch, Created: a.Created, At: a.Created})
	put(b, broker.BatchBucket, protocol.AcceptKey(a.Org, a.Batch), a)
	if err := b.conn.Changed(a.Org, a.Batch, false); err != nil {
		b.Fatal(err)
	}
}

// crew takes items out of the queue.
type crew struct {
	*bundle
	intake *broker.Intake
}

func (b *bundle) crew() *crew {
	b.Helper()
	intake, err := b.conn.Intake(b.Context(), protocol.DefaultPool)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(intake.Close)
	return &crew{b, intake}
}

// fetch takes and acknowledges what there is.
func (c *crew) fetch(most int) []protocol.Work {
	c.Helper()
	items, err := c.intake.Fetch(c.Context(), most, most)
	if err != nil {
		c.Fatal(err)
	}
	works := make([]protocol.Work, len(items))
	for i, item := range items {
		if err := json.Unmarshal(item.Data, &works[i]); err != nil {
			c.Fatal(err)
		}
		if err := item.Ack(); err != nil {
			c.Fatal(err)
		}
	}
	return works
}

// collect takes items until there are so many.
func (c *crew) collect(total int) []protocol.Work {
	c.Helper()
	var all []protocol.Work
	c.eventually(func() bool {
		all = append(all, c.fetch(1000)...)
		return len(all) >= total
	})
	return all
}

// eachOnce checks that works are the items from first on, each once.
func eachOnce(t *testing.T, works []protocol.Work, first, total int) {
	t.Helper()
	seen := map[int]int{}
	for _, w := range works {
		seen[w.Index]++
	}
	for i := first; i < first+total; i++ {
		if seen[i] != 1 {
			t.Fatalf("item %d came %d times", i, seen[i])
		}
	}
	if len(works) != total {
		t.Fatalf("%d items, want %d", len(works), total)
	}
}

func TestFedBatchReachesTheQueueOnce(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{})()
	const total = 5000
	a := accepted("ORG", total, protocol.Options{Attempts: 7})
	b.accept(a)
	works := b.crew().collect(total)
	eachOnce(t, works, 0, total)
	want := protocol.Work{
		Version: protocol.WorkVersion, Org: "ORG", Batch: a.Batch, Index: 4321, Total: total, Lane: protocol.Bulk, Pool: protocol.DefaultPool,
		Shard: protocol.ShardOf("ORG"), Trace: "00-trace", Generation: 1, MaxAttempts: 7,
	}
	for _, w := range works {
		if w.Index == want.Index {
			if diff := cmp.Diff(want, w); diff != "" {
				t.Errorf("item (-want +got):\n%s", diff)
			}
		}
	}
	feed, _ := get[protocol.Feed](b, broker.FeedBucket, protocol.ControlKey("ORG", a.Batch))
	if feed.Next != total {
		t.Errorf("next is %d", feed.Next)
	}
}

func TestFeedingKeepsTheQueueShort(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{})()
	a := accepted("ORG", 100_000, protocol.Options{})
	b.accept(a)
	shard := broker.Shard{Lane: protocol.Bulk, Pool: protocol.DefaultPool, Index: protocol.ShardOf("ORG")}
	waiting := func() int {
		backlog, err := b.conn.Backlog(t.Context(), shard)
		if err != nil {
			t.Fatal(err)
		}
		return backlog.Waiting
	}
	b.eventually(func() bool { return waiting() == 512 })
	small := accepted("ORG", 100, protocol.Options{}) // its feeding shows that the feeder has come round again
	b.accept(small)
	c := b.crew()
	seen := 0
	b.eventually(func() bool {
		if n := waiting(); n > 20_000 {
			t.Errorf("%d items wait", n)
		}
		for _, w := range c.fetch(200) {
			if w.Batch == small.Batch {
				seen++
			}
		}
		return seen == 100
	})
}

func TestPendingBatchIsNotFed(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{})()
	pending := accepted("ORG", 0, protocol.Options{})
	pending.State = protocol.AcceptPending
	b.accept(pending)
	other := accepted("ORG", 300, protocol.Options{})
	b.accept(other)
	c := b.crew()
	for _, w := range c.collect(300) {
		if w.Batch != other.Batch {
			t.Fatal("an item of a batch that was not accepted is in the queue")
		}
	}
	pending.State, pending.Total = protocol.AcceptComplete, 400
	put(b, broker.BatchBucket, protocol.AcceptKey("ORG", pending.Batch), pending)
	if err := b.conn.Changed("ORG", pending.Batch, false); err != nil {
		t.Fatal(err)
	}
	eachOnce(t, c.collect(400), 0, 400)
}

func TestTenantsTakeTurns(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	first, second := sameShard()
	large, small := accepted(first, 50_000, protocol.Options{}), accepted(second, 200, protocol.Options{})
	b.accept(large)
	b.accept(small)
	defer b.run(aggregator.Config{})()
	c := b.crew()
	before, seen := 0, 0
	b.eventually(func() bool {
		for _, w := range c.fetch(100) {
			if w.Org == second {
				seen++
			} else if seen < 200 {
				before++
			}
		}
		return seen == 200
	})
	if before > 2000 {
		t.Errorf("%d items of the large batch went before the small one's", before)
	}
}

// sameShard returns two tenants that share a shard.
func sameShard() (first, second protocol.OrgID) {
	for i := 1; ; i++ {
		second = protocol.OrgID("ORG-" + strconv.Itoa(i))
		if protocol.ShardOf(second) == protocol.ShardOf("ORG") {
			return "ORG", second
		}
	}
}

func TestBatchThatEndedHasNoFeedRecord(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{})()
	const total = 300
	a := accepted("ORG", total, protocol.Options{})
	b.accept(a)
	b.crew().collect(total)
	for i := range total {
		b.publish(report(a.Batch, i, total))
	}
	checkWhole(b, a.Batch, total)
	b.eventually(func() bool {
		_, there := get[protocol.Feed](b, broker.FeedBucket, protocol.ControlKey("ORG", a.Batch))
		return !there
	})
}

func TestBatchThatCannotBeReadHoldsUpNobody(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{})()
	for range 5 {
		broken := accepted("ORG", 10, protocol.Options{})
		put(b, broker.BatchBucket, protocol.AcceptKey("ORG", broken.Batch), []string{"no record"})
		put(b, broker.FeedBucket, protocol.ControlKey("ORG", broken.Batch), protocol.Feed{Version: 1, Org: "ORG", Batch: broken.Batch})
	}
	c := b.crew()
	for range 3 {
		b.accept(accepted("ORG", 300, protocol.Options{}))
		eachOnce(t, c.collect(300), 0, 300)
	}
}

// TestFeedersSideBySide runs three aggregators on many batches: they share them, and what one of them does in vain is not seen.
func TestFeedersSideBySide(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	stop := b.run(aggregator.Config{})
	for range 2 {
		t.Cleanup(b.run(aggregator.Config{}))
	}
	const batches, total = 40, 300
	seen := map[protocol.BatchID]map[int]int{}
	for i := range batches {
		a := accepted(protocol.OrgID("ORG-"+strconv.Itoa(i%5)), total, protocol.Options{})
		seen[a.Batch] = map[int]int{}
		b.accept(a)
	}
	c := b.crew()
	works := c.collect(batches * total / 2)
	stop() // its batches are taken over
	works = append(works, c.collect(batches*total-len(works))...)
	for _, w := range works {
		seen[w.Batch][w.Index]++
	}
	for batch, items := range seen {
		for i := range total {
			if items[i] != 1 {
				t.Fatalf("item %d of %s came %d times", i, batch, items[i])
			}
		}
	}
}

func BenchmarkFeed(b *testing.B) {
	// Items that reach the queue while somebody takes them as fast as they come.
	s := newBundleOf(b)
	stop := s.run(aggregator.Config{})
	defer stop()
	c := s.crew()
	a := accepted("ORG", b.N, protocol.Options{})
	b.ResetTimer()
	s.accept(a)
	for got := 0; got < b.N; {
		items, err := c.intake.Fetch(b.Context(), 5000, 5000)
		if err != nil {
			b.Fatal(err)
		}
		for _, item := range items {
			_ = item.Ack()
		}
		got += len(items)
		if len(items) == 0 {
			_ = c.intake.Wait(b.Context(), true, nil)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "items/s")
}

package attempts

import (
	"fmt"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage/memory"
	"github.com/copyfleet/copyfleet/worker"
)

// fed is a batch whose items stand in a manifest.
type fed struct {
	batch      protocol.BatchID
	total      int
	generation int
}

// manifest stores the pages of a batch that copies from the source "i" to the destination "/i". In generation 0 they stand in the
// accept record.
func (b *bundle) manifest(total, generation int) fed {
	b.Helper()
	f := fed{batch: protocol.NewBatchID(), total: total, generation: generation}
	for page := range protocol.Pages(total) {
		items := make([]protocol.ManifestItem, min(protocol.PageSize, total-page*protocol.PageSize))
		for i := range items {
			index := page*protocol.PageSize + i
			items[i] = protocol.ManifestItem{ID: fmt.Sprint("id-", index), Src: src(fmt.Sprint(index)), Dest: dst(fmt.Sprint("/", index))}
		}
		sealed, err := b.sealer.SealPage(org, f.batch, page, items)
		if err != nil {
			b.Fatal(err)
		}
		b.storePage(f, page, sealed)
	}
	return f
}

func (b *bundle) storePage(f fed, page int, sealed []byte) {
	b.Helper()
	if f.generation == 0 {
		record := protocol.Acceptance{Version: protocol.AcceptanceVersion, Org: org, Batch: f.batch, Total: f.total, State: protocol.AcceptComplete, Manifest: sealed}
		b.put(broker.BatchBucket, protocol.AcceptKey(org, f.batch), record)
		return
	}
	pages, err := b.conn.Bucket(b.Context(), broker.ManifestBucket)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := pages.Put(b.Context(), protocol.ManifestKey(org, f.batch, f.generation, page), sealed); err != nil {
		b.Fatal(err)
	}
}

// put stores a record in a bucket, whatever was there.
func (b *bundle) put(bucket, key string, record any) {
	b.Helper()
	value, err := protocol.Encode(record)
	if err != nil {
		b.Fatal(err)
	}
	into, err := b.conn.Bucket(b.Context(), bucket)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := into.Put(b.Context(), key, value); err != nil {
		b.Fatal(err)
	}
}

// feed publishes the items from first to before end, as a feeder does.
func (b *bundle) feed(f fed, first, end int, adjust func(*protocol.Work)) {
	b.Helper()
	var messages [][]byte
	for i := first; i < end; i++ {
		w := protocol.Work{
			Version: protocol.WorkVersion, Org: org, Batch: f.batch, Index: i, Total: f.total, Lane: protocol.Bulk, Pool: protocol.DefaultPool,
			Shard: protocol.ShardOf(org), Generation: f.generation,
		}
		if adjust != nil {
			adjust(&w)
		}
		message, err := protocol.Encode(w)
		if err != nil {
			b.Fatal(err)
		}
		messages = append(messages, message)
	}
	b.feeds++
	guard := protocol.GuardSubject(protocol.Bulk, org, f.batch, b.feeds, first)
	if _, err := b.conn.PublishChunk(b.Context(), guard, protocol.WorkSubject(protocol.Bulk, protocol.DefaultPool, protocol.ShardOf(org), org, f.batch), messages); err != nil {
		b.Fatal(err)
	}
	if err := b.conn.Wake(broker.Shard{Lane: protocol.Bulk, Pool: protocol.DefaultPool, Index: protocol.ShardOf(org)}); err != nil {
		b.Fatal(err)
	}
}

func TestFedItemsComeFromTheManifest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ total, generation int }{{200, 0}, {200, 3}, {600, 1}} {
		t.Run(fmt.Sprint(c.total, " of generation ", c.generation), func(t *testing.T) {
			t.Parallel()
			b := newBundle(t)
			for i := range c.total {
				b.sources[fmt.Sprint(i)] = memory.NewSource([]byte(fmt.Sprint("content ", i)))
			}
			f := b.manifest(c.total, c.generation)
			b.work(worker.Config{})
			b.feed(f, 0, c.total, nil)
			b.eventually(func() bool { s, _ := b.summary(f.batch); return s.State == protocol.BatchSucceeded })
			for i := range c.total {
				if got := b.content(fmt.Sprint("/", i)); got != fmt.Sprint("content ", i) {
					t.Fatalf("item %d: the destination holds %q", i, got)
				}
			}
			if s, _ := b.summary(f.batch); c.total <= protocol.PageSize && s.Receipts[7].ID != "id-7" {
				t.Errorf("the receipt of id-7 names %q", s.Receipts[7].ID)
			}
		})
	}
}

// TestItemOfARemovedBatchIsDropped feeds items whose manifest is not there any more.
func TestItemOfARemovedBatchIsDropped(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.work(worker.Config{})
	for _, generation := range []int{0, 1} {
		f := fed{batch: protocol.NewBatchID(), total: 3, generation: generation}
		b.feed(f, 0, 3, nil)
		b.eventually(b.laneEmpty)
		if _, found := b.summary(f.batch); found {
			t.Error("a batch that was removed has news")
		}
	}
}

// laneEmpty reports whether nothing of the bulk lane waits or is held.
func (b *bundle) laneEmpty() bool {
	backlog, err := b.conn.Backlog(b.Context(), broker.Shard{Lane: protocol.Bulk, Pool: protocol.DefaultPool, Index: protocol.ShardOf(org)})
	return err == nil && backlog.Waiting == 0 && backlog.Held == 0
}

func TestUnreadableManifestFailsItsItems(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.work(worker.Config{})
	damaged := b.manifest(2, 1)
	b.storePage(damaged, 0, []byte(strings.Repeat("x", 100)))
	short := b.manifest(2, 1)
	short.total = 3 // the third is in no page
	for _, f := range []fed{damaged, short} {
		b.feed(f, f.total-1, f.total, nil)
		b.eventually(func() bool { s, _ := b.summary(f.batch); return s.Tally.Failed == 1 })
		if s, _ := b.summary(f.batch); s.Receipts[0].Failure.Code != "seal_unreadable" {
			t.Errorf("%+v", s.Receipts[0].Failure)
		}
	}
}

// TestRecheckedItemIsNotCopiedAgain feeds twice what has its outcome, as a feeder does that took over.
func TestRecheckedItemIsNotCopiedAgain(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	sources := []*flaky{{then: memory.NewSource([]byte("x"))}, {then: memory.NewSource([]byte("y"))}}
	b.sources["0"], b.sources["1"] = sources[0], sources[1]
	b.work(worker.Config{})
	b.receipts(b.submit(1, func(w *protocol.Work) { w.Sealed[0] ^= 1 })) // the worker runs: nothing from here on looks repeated to it
	f := b.manifest(2, 1)
	b.feed(f, 0, 1, nil)
	b.eventually(func() bool { s, _ := b.summary(f.batch); return s.Tally.Succeeded == 1 })
	b.feed(f, 0, 2, func(w *protocol.Work) { w.Recheck = true })
	b.eventually(func() bool { s, _ := b.summary(f.batch); return s.State == protocol.BatchSucceeded })
	b.eventually(b.laneEmpty)
	if n := sources[0].count(); n != 1 {
		t.Errorf("the item was opened %d times", n)
	}
}

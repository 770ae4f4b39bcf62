package aggregator_test

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/aggregator"
	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

func (b *bundle) publishParts(reports ...protocol.PartReport) {
	b.Helper()
	data, err := json.Marshal(protocol.ReportBundle{Version: protocol.ReportVersion, Worker: "w", Parts: reports})
	if err != nil {
		b.Fatal(err)
	}
	if err := b.conn.PublishReports(b.Context(), data); err != nil {
		b.Fatal(err)
	}
}

// plan stores what the owner of an item writes.
func (b *bundle) plan(batch protocol.BatchID, index, count int, upload string) {
	b.Helper()
	put(b, broker.PartBucket, protocol.PartPlanKey("ORG", batch, index), protocol.PartPlan{Version: protocol.PartVersion, Epoch: 1, Count: count, PartSize: 5, Size: int64(5 * count), Upload: upload})
}

func partReport(batch protocol.BatchID, index, number int, upload string) protocol.PartReport {
	return protocol.PartReport{
		Ref: protocol.Ref{Org: "ORG", Batch: batch, Index: index, Part: number}, Epoch: 1,
		State: protocol.PartState{Number: number, Size: 5, Upload: upload, Worker: "w"},
	}
}

// folded waits until all that was published is folded.
func (b *bundle) folded() {
	b.Helper()
	b.eventually(func() bool { floor, last, err := b.conn.ReportFloor(b.Context()); return err == nil && floor == last })
}

// parts counts the parts of an item that are stored in an upload.
func (b *bundle) parts(batch protocol.BatchID, index, count int, upload string) int {
	b.Helper()
	n, last := 0, 0
	for p := range protocol.PartPageOf(count) + 1 {
		page, _ := get[protocol.PartPage](b, broker.PartBucket, protocol.PartPageKey("ORG", batch, index, p))
		for _, s := range page.Parts {
			if protocol.PartPageOf(s.Number) != p || s.Number <= last || page.Upload != s.Upload {
				b.Fatalf("part %d of %s is in page %d of %s, behind %d", s.Number, s.Upload, p, page.Upload, last)
			}
			last = s.Number
			if s.Upload == upload {
				n++
			}
		}
	}
	return n
}

func TestReportsOfPartsBecomePages(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{ID: "a"})()
	defer b.run(aggregator.Config{ID: "b"})() // each loses races against the other
	const count, items = 2*protocol.PageSize + 7, 3
	batch := protocol.NewBatchID()
	told, deaf, err := b.conn.WatchParts("ORG", batch, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer deaf()
	var reports []protocol.PartReport
	for index := range items {
		b.plan(batch, index, count, "u")
		for n := range count {
			reports = append(reports, partReport(batch, index, n+1, "u"))
		}
	}
	rand.Shuffle(len(reports), func(i, j int) { reports[i], reports[j] = reports[j], reports[i] })
	for len(reports) > 0 {
		n := min(len(reports), 1+rand.IntN(100))
		b.publishParts(reports[:n]...)
		if rand.IntN(2) == 0 {
			b.publishParts(reports[:n]...) // delivered twice
		}
		reports = reports[n:]
	}
	b.folded() // and so committed: the parts of a bundle are in KV before it is acknowledged
	for index := range items {
		if n := b.parts(batch, index, count, "u"); n != count {
			t.Errorf("item %d has %d parts, want %d", index, n, count)
		}
	}
	select {
	case <-told:
	case <-time.After(4 * time.Minute):
		t.Error("who waits was not told")
	}
	if _, found := b.summary(batch); found {
		t.Error("parts made receipts")
	}
}

// TestAnItemOfTenThousandParts has as many parts as any store takes folded by two aggregators, in random order, some of them twice and some
// of an upload that is gone.
func TestAnItemOfTenThousandParts(t *testing.T) {
	t.Parallel()
	const count, bundled, most = 10_000, 256, 512 << 10
	b := newBundle(t)
	batch := protocol.NewBatchID()
	upload := strings.Repeat("0123456789abcdef", 12)
	b.plan(batch, 0, count, upload)
	var reports []protocol.PartReport
	for n := range count {
		r := partReport(batch, 0, n+1, upload)
		r.State.Size, r.State.ETag, r.State.Checksum = 16<<20, fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64()), fmt.Sprintf("%012x", rand.Uint64()>>16)
		if reports = append(reports, r); n%10 == 0 {
			reports = append(reports, r)
		}
		if n%10 == 5 {
			r.State.Upload = "gone"
			reports = append(reports, r)
		}
	}
	rand.Shuffle(len(reports), func(i, j int) { reports[i], reports[j] = reports[j], reports[i] })
	defer b.run(aggregator.Config{ID: "a"})()
	defer b.run(aggregator.Config{ID: "b"})()
	begun := time.Now()
	for some := range slices.Chunk(reports, bundled) {
		b.publishParts(some...)
	}
	b.folded()
	took := time.Since(begun)
	if n := b.parts(batch, 0, count, upload); n != count {
		t.Errorf("%d parts are known, want %d", n, count)
	}
	largest := 0
	for page := range protocol.PartPageOf(count) + 1 {
		found, _ := get[protocol.PartPage](b, broker.PartBucket, protocol.PartPageKey("ORG", batch, 0, page))
		value, err := protocol.Encode(found)
		if err != nil {
			t.Fatal(err)
		}
		largest = max(largest, len(value))
	}
	if largest > most {
		t.Errorf("a page has %d bytes before it is compressed, may have %d", largest, most)
	}
	t.Logf("%d reports of %d parts folded in %s; the largest page has %d KiB", len(reports), count, took, largest>>10)
}

func TestPartsThatNoPlanAsksForLeaveNothing(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{})()
	batch := protocol.NewBatchID()
	b.plan(batch, 1, 9, "new")
	b.plan(batch, 2, 9, "u")
	b.publishParts(partReport(batch, 0, 1, "u"), partReport(batch, 1, 1, "old"), partReport(batch, 1, 10, "new"), partReport(batch, 2, 3, "u"))
	outcome := report(batch, 5, 9)
	outcome.Ref.Part = 2
	b.publish(outcome) // what becomes of a part is no outcome
	b.folded()
	if n := b.parts(batch, 2, 9, "u"); n != 1 {
		t.Errorf("%d parts of the plan, want 1", n)
	}
	// The item ends: its owner removes the plan and then the pages.
	bucket := b.bucket(broker.PartBucket)
	for _, filter := range []string{protocol.PartPlanKey("ORG", batch, 2), protocol.PartPageKey("ORG", batch, 2, 0)} {
		if err := bucket.DropAll(t.Context(), filter); err != nil {
			t.Fatal(err)
		}
	}
	b.publishParts(partReport(batch, 2, 3, "u"), partReport(batch, 2, 4, "u"))
	b.folded()
	keys, err := bucket.Keys(t.Context(), ">")
	if err != nil || len(keys) != 1 {
		t.Errorf("%q, %v: only one plan is to be there", keys, err)
	}
	if _, found := b.summary(batch); found {
		t.Error("there are receipts")
	}
	// It is run again, and its parts are kept again.
	b.plan(batch, 2, 9, "v")
	b.publishParts(partReport(batch, 2, 3, "u"), partReport(batch, 2, 4, "v"))
	b.folded()
	if n, old := b.parts(batch, 2, 9, "v"), b.parts(batch, 2, 9, "u"); n != 1 || old != 0 {
		t.Errorf("%d parts of the new plan and %d of the old one, want 1 and 0", n, old)
	}
}

func TestPartsOfANewUploadReplaceThoseOfTheOldOne(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{})()
	batch := protocol.NewBatchID()
	b.plan(batch, 0, 9, "old")
	b.publishParts(partReport(batch, 0, 1, "old"), partReport(batch, 0, 2, "old"))
	b.folded()
	b.plan(batch, 0, 9, "new")
	b.publishParts(partReport(batch, 0, 2, "new"))
	b.publishParts(partReport(batch, 0, 3, "old"))
	b.folded()
	if n, old := b.parts(batch, 0, 9, "new"), b.parts(batch, 0, 9, "old"); n != 1 || old != 0 {
		t.Errorf("%d parts of the new upload and %d of the old one, want 1 and 0", n, old)
	}
}

func TestPartsThatCannotBeReadHoldUpNobody(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{})()
	batch := protocol.NewBatchID()
	b.plan(batch, 0, 9, "u")
	bucket := b.bucket(broker.PartBucket)
	for _, key := range []string{protocol.PartPageKey("ORG", batch, 0, 0), protocol.PartPlanKey("ORG", batch, 1)} {
		if _, err := bucket.Put(t.Context(), key, []byte("no JSON")); err != nil {
			t.Fatal(err)
		}
	}
	b.publishParts(partReport(batch, 0, 1, "u"), partReport(batch, 1, 1, "u"))
	b.publish(report(batch, 0, 1))
	b.final(batch)
	b.folded()
	if n := b.parts(batch, 0, 9, "u"); n != 1 {
		t.Errorf("%d parts, want 1", n)
	}
}

func TestPartsAreSwept(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	const after = time.Second
	defer b.run(aggregator.Config{PartsAfter: after, SweepEvery: 20 * time.Millisecond})()
	ended, running := accepted("ORG", 1, protocol.Options{}), accepted("ORG", 300, protocol.Options{})
	removed := protocol.NewBatchID()
	c := b.crew()
	for _, a := range []protocol.Acceptance{ended, running} {
		b.accept(a)
		c.collect(a.Total)
	}
	b.publish(report(ended.Batch, 0, 1), report(running.Batch, 299, 300))
	b.final(ended.Batch)
	b.folded()
	written := time.Now()
	b.plan(ended.Batch, 0, 9, "u")
	b.plan(running.Batch, 299, 9, "u") // this one has ended
	b.plan(running.Batch, 298, 9, "u")
	b.plan(removed, 0, 9, "u")
	for _, key := range []string{protocol.PartPageKey("ORG", removed, 0, 0), protocol.PartPageKey("ORG", running.Batch, 5, 0), protocol.PartPageKey("ORG", running.Batch, 298, 0)} {
		put(b, broker.PartBucket, key, protocol.PartPage{Upload: "u"})
	}
	works := c.collect(4) // for each of the two once, and once more when it had become twice as old
	for _, w := range works {
		if !w.Sweep || !w.Recheck || w.Kind != protocol.KindCopy || w.Part != 0 || w.Batch == running.Batch && w.Index != 299 || w.Batch != running.Batch && w.Batch != ended.Batch {
			t.Errorf("a worker is asked to %+v", w)
		}
	}
	b.eventually(func() bool {
		keys, err := b.bucket(broker.PartBucket).Keys(t.Context(), ">")
		return err == nil && len(keys) == 4 // the plans, which workers remove, and the page of the item that runs
	})
	more := c.fetch(100)
	if most := 2 * bits.Len64(uint64(time.Since(written)/after)); len(works)+len(more) > most {
		t.Errorf("workers were asked %d times, may be %d times", len(works)+len(more), most)
	}
}

func TestStopCleansUpWhatNobodyHeld(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{})()
	a := accepted("ORG", 5, protocol.Options{})
	b.accept(a)
	c := b.crew()
	c.collect(5)
	b.plan(a.Batch, 3, 9, "u") // it waits for a retry
	b.want(a, stop)
	b.final(a.Batch)
	if works := c.collect(1); len(works) != 1 || works[0].Index != 3 || !works[0].Recheck {
		t.Errorf("workers are asked to %+v", works)
	}
}

func TestClaimsOfPartsAreWaitedFor(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{})()
	a := accepted("ORG", 5, protocol.Options{})
	b.accept(a)
	b.crew().collect(5)
	ref := protocol.Ref{Org: a.Org, Batch: a.Batch, Index: 3, Part: 7}
	claim := protocol.Claim{Version: 2, Worker: "w", Written: time.Now(), Held: []protocol.HeldClaim{{Ref: ref, Fence: 1}}}
	put(b, broker.ClaimBucket, "w", claim)
	b.want(a, stop)
	quiet := time.NewTimer(time.Second)
	defer quiet.Stop()
	<-quiet.C
	if s, _ := b.summary(a.Batch); s.State.Final() {
		t.Error("the batch ended although a part of it is at work")
	}
	claim.Held = nil
	put(b, broker.ClaimBucket, "w", claim)
	b.final(a.Batch)
}

package worker

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
)

// planned begins an upload and writes a plan for it, as an owner does that has spread the parts.
func (k *partsKit) planned(t *testing.T, dest *memory.Destination, source *memory.Source) protocol.PartPlan {
	t.Helper()
	size := int64(len(source.Data))
	upload, err := dest.Begin(t.Context(), storage.PartContent{Size: size, PartSize: testPart})
	if err != nil {
		t.Fatal(err)
	}
	plan := protocol.PartPlan{
		Version: protocol.PartVersion, Epoch: 3, Fence: 1, ETag: source.ETag, Size: size, PartSize: testPart,
		Count: int((size + testPart - 1) / testPart), Upload: upload, Spread: true,
	}
	if _, err := k.records.save(t.Context(), k.ref, &plan, 0); err != nil {
		t.Fatal(err)
	}
	return plan
}

// part publishes a part of the item.
func (k *partsKit) part(t *testing.T, number, epoch int) {
	t.Helper()
	k.publish(t, func(_ *protocol.ManifestItem, w *protocol.Work) {
		w.Kind, w.Part, w.Epoch, w.Recheck = protocol.KindPart, number, epoch, true
	})
}

// died leaves the claim of a worker that died with a part.
func (k *partsKit) died(t *testing.T, number, crashes int) {
	t.Helper()
	ref := k.ref
	ref.Part = number
	claim := protocol.Claim{
		Version: protocol.ClaimVersion, Worker: "dead", Written: time.Now().Add(-time.Minute),
		Held: []protocol.HeldClaim{{Ref: ref, Fence: 1, Crashes: crashes}},
	}
	value, err := protocol.Encode(claim)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bucketFor(t, k.conn, broker.ClaimBucket).Put(t.Context(), protocol.Token("dead"), value); err != nil {
		t.Fatal(err)
	}
}

// idle waits until the queue is empty.
func (k *partsKit) idle(t *testing.T) {
	t.Helper()
	shard := broker.Shard{Lane: protocol.Bulk, Pool: protocol.DefaultPool, Index: protocol.ShardOf(k.ref.Org)}
	until(t, "nothing waits and nothing is held", func() bool {
		b, err := k.conn.Backlog(t.Context(), shard)
		return err == nil && b.Waiting == 0 && b.Held == 0 && b.Delivered > 0
	})
}

func TestPartThatNobodyWantsIsDropped(t *testing.T) {
	t.Parallel()
	source, dest := sourceOf(bytesOf(manyParts, 1)), &memory.Destination{}
	k := newPartsKit(t, source, dest)
	k.planned(t, dest, source)
	cfg, log := k.config("w1"), &lockedLog{}
	cfg.Logger = slog.New(slog.NewJSONHandler(log, nil))
	k.run(t, cfg)
	k.part(t, 2, 3)
	k.kept(t, 1)
	k.part(t, 2, 3)  // it is stored
	k.part(t, 3, 2)  // of an owner that is gone
	k.part(t, 99, 3) // there is none
	k.idle(t)
	if puts := dest.PartPuts(); len(puts) != 1 || puts[0].Number != 2 {
		t.Errorf("parts were written: %+v", puts)
	}
	if err := k.records.remove(t.Context(), k.ref); err != nil {
		t.Fatal(err)
	}
	k.part(t, 4, 3)
	k.idle(t)
	if n := len(dest.PartPuts()); n != 1 {
		t.Errorf("%d parts were written, of which one of an item that has ended", n)
	}
	if text := log.String(); strings.Contains(text, "dropped") { // there may be many of them, and nothing is wrong
		t.Errorf("the log says %s", text)
	}
}

func TestPartOfADeadWorkerMayHaveTwoWriters(t *testing.T) {
	t.Parallel()
	source, dest := sourceOf(bytesOf(manyParts, 1)), &memory.Destination{}
	k := newPartsKit(t, source, dest)
	k.planned(t, dest, source)
	k.died(t, 2, 0)
	k.run(t, k.config("w1"))
	k.part(t, 2, 3)
	k.part(t, 3, 3)
	k.kept(t, 2)
	for _, r := range k.reported() {
		if twice := r.State.Number == 2; r.State.Failure != nil || r.State.Twice != twice || r.Epoch != 3 {
			t.Errorf("reported: %+v", r)
		}
	}
}

func TestPoisonPartIsReportedLost(t *testing.T) {
	t.Parallel()
	source, dest := sourceOf(bytesOf(manyParts, 1)), &memory.Destination{}
	k := newPartsKit(t, source, dest)
	k.planned(t, dest, source)
	k.died(t, 2, maxCrashes-1)
	k.run(t, k.config("w1"))
	k.part(t, 2, 3)
	until(t, "the part is known", func() bool { return len(k.reported()) == 1 })
	r := k.reported()[0]
	if f := r.State.Failure; f == nil || f.Class != protocol.Lost || f.Code != "worker_lost" || r.Epoch != 3 {
		t.Errorf("reported: %+v", r)
	}
	if n := len(dest.PartPuts()); n != 0 {
		t.Errorf("it was written %d times", n)
	}
	k.idle(t)
}

// A part that is gone for good at its source fails the item, and says so.
func TestPartOfAChangedSource(t *testing.T) {
	t.Parallel()
	source, dest := sourceOf(bytesOf(manyParts, 1)), &memory.Destination{}
	k := newPartsKit(t, source, dest)
	k.planned(t, dest, source)
	source.ETag = `"v2"`
	k.run(t, k.config("w1"))
	k.part(t, 2, 3)
	until(t, "the part is known", func() bool { return len(k.reported()) == 1 })
	r := k.reported()[0]
	if f := r.State.Failure; f == nil || f.Code != storage.CodeSourceChanged {
		t.Errorf("reported: %+v", r)
	}
	if reason := restartReason(&failureError{*r.State.Failure}); reason != protocol.RestartSourceChanged {
		t.Errorf("its owner begins anew because of %q", reason)
	}
}

func TestSweptItemLeavesNothing(t *testing.T) {
	t.Parallel()
	source, dest := sourceOf(bytesOf(manyParts, 1)), &memory.Destination{}
	k := newPartsKit(t, source, dest)
	k.planned(t, dest, source)
	k.run(t, k.config("w1"))
	k.publish(t, func(_ *protocol.ManifestItem, w *protocol.Work) { w.Sweep = true })
	k.clean(t)
	k.idle(t)
	if left := dest.Uploads(); len(left) != 0 {
		t.Errorf("uploads are left: %v", left)
	}
	if _, exists := dest.Bytes(); exists || len(k.receipts) != 0 {
		t.Error("the item was run")
	}
}

// TestStaleOwnerRemovesNothing has an item given up whose plan somebody else has taken over meanwhile.
func TestStaleOwnerRemovesNothing(t *testing.T) {
	t.Parallel()
	source, dest := sourceOf(bytesOf(manyParts, 1)), &memory.Destination{}
	k := newPartsKitOn(t, brokerWaiting(t, time.Hour), source, dest) // nobody extends the claim
	plan := k.planned(t, dest, source)
	w, err := New(t.Context(), k.config("w1"), k.conn, Drivers{Sandboxes: k}, k.sealer)
	if err != nil {
		t.Fatal(err)
	}
	j := w.claim(t)
	j.work.Org, j.asked = k.ref.Org, &protocol.ManifestItem{ID: "item"}
	_, j.planned, err = k.records.plan(t.Context(), k.ref)
	if err != nil {
		t.Fatal(err)
	}
	plan.Epoch++
	if _, err := k.records.save(t.Context(), k.ref, &plan, j.planned); err != nil {
		t.Fatal(err)
	}
	if _, err := w.dropParts(t.Context(), j, dest); !errors.Is(err, errLeaseLost) {
		t.Errorf("it was removed: %v", err)
	}
	if left := dest.Uploads(); len(left) != 1 {
		t.Errorf("uploads are left: %v", left)
	}
	j.planned = 0 // a next owner may
	if had, err := w.dropParts(t.Context(), j, dest); err != nil || !had {
		t.Errorf("it was not removed: %v", err)
	}
	k.clean(t)
	if left := dest.Uploads(); len(left) != 0 {
		t.Errorf("uploads are left: %v", left)
	}
}

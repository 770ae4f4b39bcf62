package worker

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
)

// haunted is a store in which a part that lands while its upload is removed brings the upload back.
type haunted struct {
	*memory.Destination

	landing func() // during the first Abort; nil: nothing lands then
	stored  func() // after a part was stored; nil: nothing happens then

	mu     sync.Mutex
	back   bool
	aborts int
}

func (h *haunted) Abort(ctx context.Context, upload string) error {
	h.mu.Lock()
	h.back = false
	h.aborts++
	first := h.aborts == 1
	h.mu.Unlock()
	if first && h.landing != nil {
		h.comesBack()
		h.landing()
	}
	return h.Destination.Abort(ctx, upload) //nolint:wrapcheck // as it is
}

func (h *haunted) PutPart(ctx context.Context, upload string, part storage.Part) (storage.PartStored, error) {
	stored, err := h.Destination.PutPart(ctx, upload, part)
	if err == nil && h.stored != nil {
		h.stored()
	}
	return stored, err //nolint:wrapcheck // as it is
}

func (h *haunted) comesBack() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.back = true
}

func (h *haunted) state() (back bool, aborts int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.back, h.aborts
}

// busy leaves the claim of a worker on a part, and returns what ends it. The worker lives for as long as the test takes: its clock is ahead.
func (k *partsKit) busy(t *testing.T, number int) (ends func()) {
	t.Helper()
	ref := k.ref
	ref.Part = number
	claim := protocol.Claim{Version: protocol.ClaimVersion, Worker: "other", Written: time.Now().Add(time.Hour), Held: []protocol.HeldClaim{{Ref: ref, Fence: 1}}}
	value, err := protocol.Encode(claim)
	if err != nil {
		t.Fatal(err)
	}
	bucket := bucketFor(t, k.conn, broker.ClaimBucket)
	if _, err := bucket.Put(t.Context(), protocol.Token("other"), value); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := bucket.Drop(context.Background(), protocol.Token("other")); err != nil {
			t.Error(err)
		}
	}
}

// TestPartsThatLandLate removes the upload of an item while another worker has a part of it, which lands in that moment: when an item is given
// up, and when it begins anew.
func TestPartsThatLandLate(t *testing.T) {
	t.Parallel()
	for name, stale := range map[string]bool{"spread": false, "taken over": true} {
		t.Run("given up, "+name, func(t *testing.T) {
			t.Parallel()
			source, dest := sourceOf(bytesOf(manyParts, 1)), &haunted{Destination: &memory.Destination{}}
			k := newPartsKit(t, source, dest)
			plan := k.planned(t, dest.Destination, source)
			if _, revision, err := k.records.plan(t.Context(), k.ref); err != nil {
				t.Fatal(err)
			} else if plan.Stale, plan.Spread = stale, !stale; true {
				if _, err := k.records.save(t.Context(), k.ref, &plan, revision); err != nil {
					t.Fatal(err)
				}
			}
			dest.landing = k.busy(t, 2)
			k.run(t, k.config("w1"))
			k.publish(t, func(_ *protocol.ManifestItem, w *protocol.Work) { w.Sweep = true })
			k.clean(t)
			if back, aborts := dest.state(); back || aborts != 2 {
				t.Errorf("the upload is there: %t; it was removed %d times", back, aborts)
			}
		})
	}
	t.Run("begun anew", func(t *testing.T) {
		t.Parallel()
		source, dest := sourceOf(bytesOf(manyParts, 1)), &haunted{Destination: &memory.Destination{}}
		k := newPartsKit(t, source, dest)
		k.planned(t, dest.Destination, source)
		source.ETag = `"v2"`
		dest.landing = k.busy(t, 2)
		k.run(t, k.config("w1"))
		k.publish(t, func(_ *protocol.ManifestItem, w *protocol.Work) { w.Recheck = true })
		if r := k.final(t); r.State != protocol.ItemSucceeded || r.RestartReason != protocol.RestartSourceChanged {
			t.Errorf("%s, %+v; restarted for %q", r.State, r.Failure, r.RestartReason)
		}
		if back, aborts := dest.state(); back || aborts != 2 {
			t.Errorf("the upload is there: %t; it was removed %d times", back, aborts)
		}
	})
}

// TestAPartOfWhatIsNoMore has a part be stored when its item has been given up long since: its worker removes what came back by it.
func TestAPartOfWhatIsNoMore(t *testing.T) {
	t.Parallel()
	for _, again := range []bool{false, true} {
		source, dest := sourceOf(bytesOf(manyParts, 1)), &haunted{Destination: &memory.Destination{}}
		k := newPartsKit(t, source, dest)
		plan := k.planned(t, dest.Destination, source)
		dest.stored = func() {
			defer dest.comesBack()
			if !again {
				if err := k.records.remove(context.Background(), k.ref); err != nil {
					t.Error(err)
				}
				return
			}
			_, revision, err := k.records.plan(context.Background(), k.ref)
			if err != nil {
				t.Error(err)
			}
			plan.Upload, plan.Epoch = "another", plan.Epoch+1
			if _, err := k.records.save(context.Background(), k.ref, &plan, revision); err != nil {
				t.Error(err)
			}
		}
		k.run(t, k.config("w1"))
		k.part(t, 2, 3)
		until(t, "the upload is removed", func() bool { back, aborts := dest.state(); return !back && aborts == 1 })
		k.idle(t)
	}
}

// TestBegunWithoutAName finds the plan of an owner that died when it had begun an upload, and before it could write down what that is called.
func TestBegunWithoutAName(t *testing.T) {
	t.Parallel()
	for _, sweep := range []bool{true, false} {
		source, dest := sourceOf(bytesOf(manyParts, 1)), &memory.Destination{}
		k := newPartsKit(t, source, dest)
		plan := k.planned(t, dest, source)
		_, revision, err := k.records.plan(t.Context(), k.ref)
		if err != nil {
			t.Fatal(err)
		}
		plan.Upload, plan.Spread, plan.Created = "", false, time.Now()
		if _, err := k.records.save(t.Context(), k.ref, &plan, revision); err != nil {
			t.Fatal(err)
		}
		k.run(t, k.config("w1"))
		k.publish(t, func(_ *protocol.ManifestItem, w *protocol.Work) { w.Sweep, w.Recheck = sweep, true })
		if !sweep {
			if r := k.final(t); r.State != protocol.ItemSucceeded || r.RestartReason != "" || len(r.Attempts) != 1 {
				t.Errorf("%s, %+v; %d attempts, restarted for %q", r.State, r.Failure, len(r.Attempts), r.RestartReason)
			}
		}
		k.clean(t)
		if left := dest.Uploads(); len(left) != 0 {
			t.Errorf("sweep %t: uploads are left: %v", sweep, left)
		}
	}
}

package worker

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
)

// TestDeathsAfterProgressAreNotCharged lets an item whose workers died be taken by another one: what the last of them came to decides whether it
// is tried.
func TestDeathsAfterProgressAreNotCharged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fence   uint64 // of the claim that the plan is of; that which died has 1
		had     int
		crashes int // of the claim that died
		charged int // of the next one; maxCrashes: there is none
	}{
		"progress":                {1, 0, maxCrashes - 1, maxCrashes - 1},
		"progress, spread":        {1, 0, soloCrashes - 1, soloCrashes - 1},
		"no progress":             {1, 1, maxCrashes - 1, maxCrashes},
		"that of an earlier one":  {9, 0, maxCrashes - 1, maxCrashes},
		"no progress, not yet it": {1, 1, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, held := bytesOf(manyParts, 1), protocol.HeldClaim{Crashes: -1}
			source, dest := sourceOf(data), &memory.Destination{}
			var k *partsKit
			k = newPartsKit(t, source, gated{dest, func(number int) error {
				if number == 2 {
					held = k.claimOf(t, "w1")
				}
				return nil
			}})
			k.stored(t, k.begun(t, dest, source, c.fence, c.had), dest, data[:testPart])
			k.died(t, 0, c.crashes)
			k.run(t, k.config("w1"))
			k.publish(t, func(_ *protocol.ManifestItem, w *protocol.Work) { w.Recheck = true })
			r := k.final(t)
			if c.charged == maxCrashes {
				if r.State != protocol.ItemFailed || r.Failure.Code != "worker_lost" {
					t.Errorf("the receipt says %+v", r)
				}
				k.clean(t)
				return
			}
			k.arrived(t, dest, &r, data)
			if r.ResumedFrom != testPart || held.Crashes != c.charged || held.Waiting {
				t.Errorf("the item was resumed from %d bytes under the claim %+v", r.ResumedFrom, held)
			}
		})
	}
}

// TestDeathsWithoutProgressEndAnItem has the same part kill one worker after the other, each of which has taken the item over.
func TestDeathsWithoutProgressEndAnItem(t *testing.T) {
	t.Parallel()
	data := bytesOf(manyParts, 1)
	source, dest := sourceOf(data), &memory.Destination{}
	k := newPartsKit(t, source, dest)
	plan := k.begun(t, dest, source, 1, 0)
	k.stored(t, plan, dest, data[:testPart])
	w, err := New(t.Context(), k.config("w1"), k.conn, Drivers{Sandboxes: k}, k.sealer)
	if err != nil {
		t.Fatal(err)
	}
	for n, charged := range []int{0, 1, 2, 3} {
		j := w.claim(t)
		j.work, j.held.Ref, j.asked = k.work(t, nil), k.ref, &protocol.ManifestItem{ID: "item"}
		j.held.Fence = uint64(n + 2)
		j.held.died = protocol.HeldClaim{Ref: k.ref, Fence: uint64(n + 1), Crashes: max(charged-1, 0)}
		j.held.Crashes = j.held.died.Charge()
		if err := w.forgive(t.Context(), j); err != nil {
			t.Fatal(err)
		}
		if j.held.Crashes != charged {
			t.Errorf("after %d deaths, the first with progress, %d are charged, not %d", n+1, j.held.Crashes, charged)
		}
		o := &owner{w: w, j: j, from: source, to: dest, mark: planMark(&plan)}
		o.meter = newCounter(&o.t, 0, nil)
		if err := o.begin(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		w.claims.drop(j.held)
		if o.plan.Had != 1 {
			t.Errorf("the plan says %+v", o.plan)
		}
	}
}

// begun begins an upload and writes the plan of an owner that went in order.
func (k *partsKit) begun(t *testing.T, dest *memory.Destination, source *memory.Source, fence uint64, had int) protocol.PartPlan {
	t.Helper()
	k.planned(t, dest, source)
	plan, revision, err := k.records.plan(t.Context(), k.ref)
	if err != nil {
		t.Fatal(err)
	}
	plan.Fence, plan.Had, plan.Spread = fence, had, false
	if _, err := k.records.save(t.Context(), k.ref, &plan, revision); err != nil {
		t.Fatal(err)
	}
	return plan
}

// stored stores the first part.
func (k *partsKit) stored(t *testing.T, plan protocol.PartPlan, dest *memory.Destination, data []byte) {
	t.Helper()
	if _, err := dest.PutPart(t.Context(), plan.Upload, storage.Part{Number: 1, Size: int64(len(data)), Body: bytes.NewReader(data)}); err != nil {
		t.Fatal(err)
	}
	page := protocol.PartPage{Version: protocol.PartVersion, Upload: plan.Upload, Parts: []protocol.PartState{
		{Number: 1, Size: int64(len(data)), Upload: plan.Upload, Worker: "dead"},
	}}
	value, err := protocol.Encode(page)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.records.bucket.Put(t.Context(), protocol.PartPageKey(k.ref.Org, k.ref.Batch, k.ref.Index, 0), value); err != nil {
		t.Fatal(err)
	}
}

// claimOf is what a worker's record says of the item.
func (k *partsKit) claimOf(t *testing.T, worker string) protocol.HeldClaim {
	t.Helper()
	entry, err := bucketFor(t, k.conn, broker.ClaimBucket).Get(t.Context(), protocol.Token(worker))
	if err != nil {
		t.Error(err)
		return protocol.HeldClaim{}
	}
	var claim protocol.Claim
	if err := json.Unmarshal(entry.Value, &claim); err != nil {
		t.Error(err)
	}
	for _, h := range claim.Held {
		if h.Ref == k.ref {
			return h
		}
	}
	return protocol.HeldClaim{Crashes: -1}
}

package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
)

// spreading is the configuration of a worker that has every rest of an item spread.
func (k *partsKit) spreading(id string) Config {
	cfg := k.config(id)
	cfg.SpreadAfter = time.Nanosecond
	return cfg
}

func TestPartsAreManyWorkersWork(t *testing.T) {
	t.Parallel()
	data, dest := bytesOf(20*testPart+5, 3), &memory.Destination{}
	// Each part waits until two workers have one.
	var arrived atomic.Int32
	both := make(chan struct{})
	k := newPartsKit(t, sourceOf(data), gated{dest, func(number int) error {
		if number == 1 {
			return nil // the owner's
		}
		if arrived.Add(1) == 5 { // a worker has four slots, of which bulk work gets three
			close(both)
		}
		<-both
		return nil
	}})
	k.run(t, k.spreading("w1"))
	k.run(t, k.spreading("w2"))
	k.publish(t, nil)
	r := k.final(t)
	k.arrived(t, dest, &r, data)
	if r.ResumedFrom != 0 || len(r.Attempts) != 1 {
		t.Errorf("the receipt says %+v", r)
	}
	var workers []string
	for _, s := range k.reported() {
		if s.State.Failure != nil || s.State.Twice {
			t.Errorf("reported: %+v", s)
		}
		workers = append(workers, s.State.Worker)
	}
	slices.Sort(workers)
	if len(workers) != 21 || len(slices.Compact(workers)) != 2 {
		t.Errorf("the parts are the work of %v", workers)
	}
}

// TestWaitingItemsHoldNoSlot gives a worker with a single slot several items at once that are all spread.
func TestWaitingItemsHoldNoSlot(t *testing.T) {
	t.Parallel()
	for _, lane := range protocol.Lanes {
		t.Run(string(lane), func(t *testing.T) {
			t.Parallel()
			data := bytesOf(manyParts, 3)
			k := newPartsKit(t, sourceOf(data), &memory.Destination{})
			cfg := k.spreading("w1")
			cfg.Slots = 1
			k.run(t, cfg)
			const items = 9 // more than may wait
			for i := range items {
				k.ref.Index = i
				k.publish(t, func(_ *protocol.ManifestItem, w *protocol.Work) { w.Index, w.Total, w.Lane = i, items, lane })
			}
			for range items {
				if r := k.final(t); r.State != protocol.ItemSucceeded || r.SHA256 != digestOf(data) {
					t.Errorf("the receipt says %+v", r)
				}
			}
			if spreadParts(k) == 0 {
				t.Error("nothing was spread")
			}
			for i := range items {
				k.ref.Index = i
				k.clean(t)
			}
		})
	}
}

func TestObjectIsReadBack(t *testing.T) {
	t.Parallel()
	data, dest := bytesOf(manyParts, 3), &memory.Destination{}
	k := newPartsKit(t, sourceOf(data), opaque{dest})
	w, err := New(t.Context(), k.spreading("w0"), k.conn, Drivers{Sandboxes: k}, k.sealer)
	if err != nil {
		t.Fatal(err)
	}
	k.run(t, w.cfg)
	k.publish(t, nil)
	r := k.final(t)
	k.arrived(t, dest, &r, data)
	if n := spreadParts(k); n == 0 {
		t.Error("nothing was spread")
	}
}

// A digest that the caller gave must be known before an object is visible.
func TestObjectWithDigestIsNotSpread(t *testing.T) {
	t.Parallel()
	data, dest := bytesOf(manyParts, 3), &memory.Destination{}
	k := newPartsKit(t, sourceOf(data), opaque{dest})
	k.run(t, k.spreading("w1"))
	k.publish(t, func(item *protocol.ManifestItem, _ *protocol.Work) { item.Expect.SHA256 = digestOf(data) })
	r := k.final(t)
	k.arrived(t, dest, &r, data)
	if n := spreadParts(k); n != 0 {
		t.Errorf("%d parts were spread", n)
	}
}

// spreadParts is how many parts were reported without a chain: those of workers that had only them.
func spreadParts(k *partsKit) int {
	n := 0
	for _, s := range k.reported() {
		if len(s.State.Chain) == 0 {
			n++
		}
	}
	return n
}

// A part that fails fails its item, whose receipt tells all that was found there, whoever had it.
func TestFailedPartFailsItsItem(t *testing.T) {
	t.Parallel()
	full := storage.Errorf(storage.NoSpace, "no_space", "write", "x", "the disk is full%s", strings.Repeat(".", 300))
	full.Hint, full.Err = "Free some space.", errors.New("ENOSPC")
	for name, config := range map[string]func(*partsKit, string) Config{"in order": (*partsKit).config, "spread": (*partsKit).spreading} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dest := &memory.Destination{FailParts: map[int]error{4: full}}
			k := newPartsKit(t, sourceOf(bytesOf(manyParts, 3)), dest)
			k.run(t, config(k, "w1"))
			k.publish(t, nil)
			r := k.final(t)
			want := protocol.Failure{
				Class: protocol.NoSpace, Code: "no_space", Message: "Failed to upload file: x: " + full.Message, Hint: full.Hint, Part: 4, Host: "sandbox a",
			}
			if r.State != protocol.ItemFailed || r.Failure == nil {
				t.Fatalf("the receipt says %+v", r)
			}
			if got := *r.Failure; got.Cause == "" {
				t.Errorf("it has no cause: %+v", got)
			} else if got.Cause = ""; got != want {
				t.Errorf("the receipt says\n%+v, want\n%+v", got, want)
			}
			if last := r.Attempts[len(r.Attempts)-1].Failure; last == nil || last.Part != 4 {
				t.Errorf("the attempt says %+v", last)
			}
			k.clean(t)
			if left := dest.Uploads(); len(left) != 0 {
				t.Errorf("uploads are left: %v", left)
			}
		})
	}
}

// TestPartIsTriedAgainInPlace has a part fail twice in a way that passes.
func TestPartIsTriedAgainInPlace(t *testing.T) {
	t.Parallel()
	data := bytesOf(manyParts, 3)
	dest := &memory.Destination{FailParts: map[int]error{4: storage.Errorf(storage.Unavailable, "busy", "write", "x", "it is busy")}, FailPartTimes: 2}
	k := newPartsKit(t, sourceOf(data), dest)
	k.run(t, k.spreading("w1"))
	k.publish(t, nil)
	r := k.final(t)
	k.arrived(t, dest, &r, data)
	if len(r.Attempts) != 1 {
		t.Errorf("the receipt says %+v", r)
	}
}

// TestStoppingOwnerHandsOver ends the owner while its parts wait; the next one goes on, and nothing is charged.
func TestStoppingOwnerHandsOver(t *testing.T) {
	t.Parallel()
	data, dest := bytesOf(manyParts, 3), &memory.Destination{}
	gate, spread := make(chan struct{}), make(chan struct{})
	var once sync.Once
	k := newPartsKit(t, sourceOf(data), gated{dest, func(number int) error {
		if number > 1 {
			once.Do(func() { close(spread) })
			<-gate
		}
		return nil
	}})
	stop := k.run(t, k.spreading("w1"))
	k.publish(t, nil)
	<-spread
	k.kept(t, 1)
	var stopping sync.WaitGroup
	stopping.Go(stop) // it waits for its parts, but not with the item
	k.run(t, k.spreading("w2"))
	until(t, "the other worker has the item", func() bool {
		plan, _, err := k.records.plan(t.Context(), k.ref)
		return err == nil && plan.Epoch == 2
	})
	close(gate)
	stopping.Wait()
	r := k.final(t)
	k.arrived(t, dest, &r, data)
	if r.ResumedFrom < testPart || len(r.Attempts) != 1 || r.Attempts[0].Worker != "w2" {
		t.Errorf("the receipt says %+v", r)
	}
	if finals := dest.Finals(); len(finals) != 1 || !finals[0].Content.Fresh {
		t.Errorf("a writer of the first epoch might be at it still: %+v", finals)
	}
}

// control says what is wanted of the batch.
func (k *partsKit) control(t *testing.T, wanted protocol.Wanted) {
	t.Helper()
	value, err := protocol.Encode(protocol.Control{Version: protocol.ControlVersion, Org: k.ref.Org, Batch: k.ref.Batch, Wanted: wanted})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bucketFor(t, k.conn, broker.ControlBucket).Put(t.Context(), protocol.ControlKey(k.ref.Org, k.ref.Batch), value); err != nil {
		t.Fatal(err)
	}
	if wanted != protocol.WantRun {
		if err := k.conn.Recall(t.Context(), protocol.Bulk, protocol.DefaultPool, k.ref.Org, k.ref.Batch); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStopWhileSpreadLeavesNothing(t *testing.T) {
	t.Parallel()
	dest := &memory.Destination{}
	ctx, cancel := context.WithTimeout(t.Context(), partsLimit)
	defer cancel()
	spread := make(chan struct{})
	var once sync.Once
	k := newPartsKit(t, &hanging{Source: sourceOf(bytesOf(manyParts, 3)), from: testPart, hung: func() { once.Do(func() { close(spread) }) }}, dest)
	k.run(t, k.spreading("w1"))
	k.run(t, k.spreading("w2"))
	k.publish(t, nil)
	select {
	case <-spread:
	case <-ctx.Done():
		t.Fatal("no part was begun")
	}
	k.control(t, protocol.WantStop)
	if r := k.final(t); r.State != protocol.ItemCanceled {
		t.Errorf("the receipt says %+v", r)
	}
	k.clean(t)
	if left := dest.Uploads(); len(left) != 0 {
		t.Errorf("uploads are left: %v", left)
	}
	until(t, "nothing is claimed", func() bool { return k.claimed(t) == 0 })
}

// claimed is how much workers claim.
func (k *partsKit) claimed(t *testing.T) int {
	t.Helper()
	c := &claims{bucket: bucketFor(t, k.conn, broker.ClaimBucket), conn: k.conn}
	taken, err := c.parts(t.Context(), k.ref)
	if err != nil {
		t.Fatal(err)
	}
	return len(taken)
}

// pausedSpread pauses an item three of whose parts are stored while the others are with the worker.
func pausedSpread(t *testing.T, data []byte, dest storage.Destination, before func(k *partsKit)) (k *partsKit, open *atomic.Bool) {
	t.Helper()
	open = new(atomic.Bool)
	k = newPartsKit(t, &hanging{Source: sourceOf(data), from: 3 * testPart, open: open}, dest)
	cfg := k.spreading("w1")
	cfg.PauseGrace = time.Millisecond
	cfg.Slots = 8 // so that those that hang leave room for the others
	k.run(t, cfg)
	k.publish(t, nil)
	k.kept(t, 3)
	before(k)
	k.control(t, protocol.WantPause)
	return k, open
}

// resumed goes on with a paused item.
func (k *partsKit) resumed(t *testing.T) protocol.Receipt {
	t.Helper()
	k.control(t, protocol.WantRun)
	k.publish(t, func(_ *protocol.ManifestItem, w *protocol.Work) { w.Recheck = true })
	return k.final(t)
}

// settling reports whether the plan of a paused item says that no part is begun any more, and whether it says that all that were have ended.
func (k *partsKit) settling(t *testing.T) (begun, settled bool) {
	t.Helper()
	plan, _, err := k.records.plan(t.Context(), k.ref)
	return err == nil && plan.Epoch == 2, err == nil && plan.Settled
}

// TestPausedItemKeepsItsParts pauses while parts are with the workers, and goes on.
func TestPausedItemKeepsItsParts(t *testing.T) {
	t.Parallel()
	data, dest := bytesOf(manyParts, 3), &memory.Destination{}
	k, open := pausedSpread(t, data, dest, func(*partsKit) {})
	until(t, "nothing is claimed", func() bool { return k.claimed(t) == 0 })
	until(t, "the plan says that nobody is at a part", func() bool { begun, settled := k.settling(t); return begun && settled })
	open.Store(true)
	r := k.resumed(t)
	k.arrived(t, dest, &r, data)
	if r.ResumedFrom != 3*testPart || len(r.Attempts) != 1 {
		t.Errorf("the receipt says %+v", r)
	}
}

// TestPausedItemWaitsForASlowWorker pauses while another worker has a part, which does not end for long or never does.
func TestPausedItemWaitsForASlowWorker(t *testing.T) {
	t.Parallel()
	for _, ends := range []bool{true, false} {
		t.Run(fmt.Sprintf("it ends: %v", ends), func(t *testing.T) {
			t.Parallel()
			data, dest := bytesOf(manyParts, 3), &memory.Destination{}
			var claims *broker.Bucket
			k, open := pausedSpread(t, data, dest, func(k *partsKit) {
				claims = bucketFor(t, k.conn, broker.ClaimBucket)
				ref := k.ref
				ref.Part = 9
				claim, err := protocol.Encode(protocol.Claim{
					Version: protocol.ClaimVersion, Worker: "w2", Written: time.Now().Add(-time.Hour), Held: []protocol.HeldClaim{{Ref: ref, Fence: 1}},
				})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := claims.Put(t.Context(), protocol.Token("w2"), claim); err != nil {
					t.Fatal(err)
				}
			})
			until(t, "no part is begun any more", func() bool { begun, _ := k.settling(t); return begun })
			if _, settled := k.settling(t); settled {
				t.Error("the plan says that nobody is at a part")
			}
			if ends {
				if err := claims.Drop(t.Context(), protocol.Token("w2")); err != nil {
					t.Fatal(err)
				}
				until(t, "the plan says that nobody is at a part", func() bool { _, settled := k.settling(t); return settled })
			}
			open.Store(true)
			r := k.resumed(t)
			k.arrived(t, dest, &r, data)
		})
	}
}

// hanging is a source whose bodies give nothing from an offset on until they are closed, or it is open.
type hanging struct {
	*memory.Source

	from int64
	hung func()
	open *atomic.Bool
}

func (h *hanging) OpenRange(ctx context.Context, mark storage.Mark, offset, length int64) (*storage.Object, error) {
	if offset >= h.from && (h.open == nil || !h.open.Load()) {
		if h.hung != nil {
			h.hung()
		}
		<-ctx.Done()
		return nil, storage.Errorf(storage.Interrupted, "stopped", "open", "x", "it was stopped")
	}
	return h.Source.OpenRange(ctx, mark, offset, length)
}

// TestLostPartsArePublishedAgain takes the parts out of the queue behind their owner's back. Only then there is a worker for them.
func TestLostPartsArePublishedAgain(t *testing.T) {
	t.Parallel()
	data, dest := bytesOf(manyParts, 3), &memory.Destination{}
	source := sourceOf(data)
	k := newPartsKitOn(t, quickBroker(t), source, dest)
	w, err := New(t.Context(), k.config("owner"), k.conn, Drivers{Sandboxes: k}, k.sealer)
	if err != nil {
		t.Fatal(err)
	}
	j := w.claim(t)
	j.asked = &protocol.ManifestItem{ID: "item"}
	j.work = k.work(t, nil)
	j.out = true // it has no slot to leave
	o := &owner{w: w, j: j, from: source, to: dest, resumes: new(atomic.Int64), mark: storage.Mark{ETag: source.ETag, Size: int64(len(data))}}
	o.meter = newCounter(&o.t, int64(len(data)), nil)
	if err := o.begin(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if !o.wait() {
		t.Fatal("there is no place to wait")
	}
	waited := make(chan error, 1)
	go func() { waited <- o.scatter(t.Context()) }()
	shard := broker.Shard{Lane: protocol.Bulk, Pool: protocol.DefaultPool, Index: protocol.ShardOf(k.ref.Org)}
	until(t, "the parts are in the queue", func() bool {
		b, err := k.conn.Backlog(t.Context(), shard)
		return err == nil && b.Waiting >= 6 // or more, if nobody has looked for long
	})
	if err := k.conn.Recall(t.Context(), protocol.Bulk, protocol.DefaultPool, k.ref.Org, k.ref.Batch); err != nil {
		t.Fatal(err)
	}
	k.run(t, k.config("w1"))
	select {
	case err := <-waited:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(partsLimit):
		t.Fatal("the parts are lost")
	}
	// One that took its worker long may have been published once more, and then copied once more.
	copied := map[int]bool{}
	for _, s := range k.reported() {
		copied[s.State.Number] = s.State.Failure == nil
	}
	if parts, _ := o.left(); parts != 0 || len(copied) != 6 {
		t.Errorf("%d parts are missing, %d were reported: %+v", parts, len(copied), k.reported())
	}
}

package transfer

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// TestOneFileIsMovedByManyWorkers reads files whose source is slow on each connection: their parts come over several, to several workers.
func TestOneFileIsMovedByManyWorkers(t *testing.T) {
	t.Parallel()
	f := newFleet(t, miniotest.Shared(t), 4, append(slices.Clip(small), mixtest.Steady)...)
	items := f.pair("shared", served{content: content{4, 100 * mib}, rate: 20 * mib})
	begun := time.Now()
	id := f.submit(t, "", items...)
	workers := [2]map[string]bool{{}, {}}
	if !mixtest.Until(comes, func() bool {
		for n := range items {
			for _, s := range f.states(t, id, n) {
				workers[n][s.Worker] = true
			}
		}
		view, err := f.API.Batch(t.Context(), id)
		return err == nil && view.State.Final()
	}) {
		t.Fatal("the batch did not end")
	}
	took := time.Since(begun)
	f.check(t, id, items...)
	for n, i := range items {
		file := f.file(i)
		if len(workers[n]) < 2 || file.together.Load() < 3 {
			t.Errorf("item %s: its parts were stored by %d workers, over %d connections at once", i.id, len(workers[n]), file.together.Load())
		}
		if given := file.given.Load(); given > i.content.size*5/4 {
			t.Errorf("item %s: the source gave %d bytes of a file of %d", i.id, given, i.content.size)
		}
	}
	t.Logf("%d items, 0 faults, 0 lost; by %d and %d workers in %s, of which one connection would have taken %s", len(items), len(workers[0]), len(workers[1]), took, 5*time.Second)
}

// spreading submits a pair of files and returns when their parts are being moved by several connections; the sources give their ends only
// once gate is closed. That is few parts, so that none waits behind them for a place at the source.
func (f *fleet) spreading(t *testing.T, name string, size int64, gate <-chan struct{}) (string, []item) {
	t.Helper()
	items := f.pair(name, served{content: content{6, size}, rate: 20 * mib, holdAt: size - 9*mib, gate: gate})
	id := f.submit(t, "", items...)
	for n, i := range items {
		f.stored(t, id, n, 3)
		if !mixtest.Until(comes, func() bool {
			plan, found := f.plan(t, id, n)
			return found && plan.Spread && f.file(i).running.Load() > 1
		}) {
			t.Fatalf("item %s was not spread", i.id)
		}
	}
	return id, items
}

func TestPauseAndResumeInTheMiddleOfASpreadFile(t *testing.T) {
	t.Parallel()
	f := newFleet(t, miniotest.Shared(t), 2, append(slices.Clip(roomy), mixtest.Steady)...)
	gate := make(chan struct{})
	id, items := f.spreading(t, "paused", 64*mib, gate)
	f.act(t, id, "pause")
	epochs := make([]int, len(items))
	for n := range items {
		if !mixtest.Until(comes, func() bool { return len(f.holds(t, id, n, false))+len(f.holds(t, id, n, true)) == 0 }) {
			t.Fatalf("item %d of a paused batch is still held", n)
		}
		plan, found := f.plan(t, id, n)
		if !found || len(f.states(t, id, n)) == 0 {
			t.Errorf("a pause forgot what was stored of item %d", n)
		}
		epochs[n] = plan.Epoch
	}
	f.act(t, id, "resume")
	for n := range items {
		var plan protocol.PartPlan
		if !mixtest.Until(comes, func() bool { plan, _ = f.plan(t, id, n); return plan.Epoch > epochs[n] }) {
			t.Fatalf("nobody goes on with item %d", n)
		}
		if plan.Stale { // or all of it is copied once more
			t.Errorf("all parts of item %d had ended in order, and somebody is taken to write them still", n)
		}
	}
	close(gate)
	receipts := f.check(t, id, items...)
	for n := range receipts {
		if r := &receipts[n]; r.ResumedFrom == 0 || len(r.Attempts) != 1 {
			t.Errorf("item %s: resumed from %d bytes, %d attempts", r.ID, r.ResumedFrom, len(r.Attempts))
		}
	}
	t.Logf("%d items, 1 pause in the middle, 0 lost; %d bytes not moved again", len(items), resumed(receipts))
}

func TestCancelInTheMiddleOfASpreadFile(t *testing.T) {
	t.Parallel()
	f := newFleet(t, miniotest.Shared(t), 2, roomy...)
	gate := make(chan struct{})
	defer close(gate)
	id, items := f.spreading(t, "canceled", 64*mib, gate)
	f.act(t, id, "cancel")
	f.canceled(t, id, items)
	t.Logf("%d items, 1 cancel in the middle, nothing left", len(items))
}

// TestCancelOfWhatNobodyHolds cancels a batch that is paused in the middle, and whose worker is dead.
func TestCancelOfWhatNobodyHolds(t *testing.T) {
	t.Parallel()
	f := newFleet(t, miniotest.Shared(t), 1, roomy...)
	gate := make(chan struct{})
	defer close(gate)
	id, items := f.spreading(t, "forsaken", 32*mib, gate)
	f.act(t, id, "pause")
	for n := range items {
		if !mixtest.Until(comes, func() bool { return len(f.holds(t, id, n, false))+len(f.holds(t, id, n, true)) == 0 }) {
			t.Fatalf("item %d of a paused batch is still held", n)
		}
	}
	f.workers[0].Kill9(t)
	f.startWorker(t)
	f.act(t, id, "cancel")
	f.canceled(t, id, items)
	t.Logf("%d items, 1 fault (worker killed), canceled while they were paused, nothing left", len(items))
}

func (f *fleet) canceled(t *testing.T, id string, items []item) {
	t.Helper()
	view := f.API.WaitFinal(t, id, settles)
	if view.State != protocol.BatchCanceled || view.Counts["canceled"] != len(items) {
		t.Errorf("the batch ended as %+v", view)
	}
	f.nothingLeft(t, items...)
	for _, i := range items {
		if size, sum := f.arrived(t, i); size >= 0 {
			t.Errorf("item %s was canceled, but its destination holds %d bytes, %s", i.id, size, sum)
		}
	}
}

// TestFrozenWorkerOfParts freezes a worker that has parts of files of others for longer than its lease, and wakes it while they go
// on, or when they are done.
func TestFrozenWorkerOfParts(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("woken when all is done: %v", late), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, miniotest.Shared(t), 2, roomy...)
			gate := make(chan struct{})
			id, items := f.spreading(t, "frozen", 64*mib, gate)
			frozen := f.helper(t, id)
			frozen.Signal(t, syscall.SIGSTOP)
			close(gate)
			if late {
				f.API.WaitFinal(t, id, settles)
			} else if !mixtest.Until(comes, func() bool { return f.again(t, id) }) {
				t.Fatal("nobody took over what the frozen worker had")
			}
			frozen.Signal(t, syscall.SIGCONT)
			frozen.Signal(t, syscall.SIGTERM)
			if code := frozen.Wait(t); code != 0 {
				t.Errorf("the frozen worker ended with %d", code)
			}
			f.check(t, id, items...)
			t.Logf("%d items, 1 fault (worker of parts frozen), 0 lost", len(items))
		})
	}
}

// helper returns a worker that has a part of an item that it does not hold itself.
func (f *fleet) helper(t *testing.T, id string) *mixtest.Process {
	t.Helper()
	var found *mixtest.Process
	if !mixtest.Until(comes, func() bool {
		for n := range 2 {
			owners := f.holds(t, id, n, false)
			for _, w := range f.holds(t, id, n, true) {
				if len(owners) == 1 && owners[0] != w {
					found = w
					return true
				}
			}
		}
		return false
	}) {
		t.Fatal("no worker has a part of another one's item")
	}
	return found
}

// again reports whether a part was written by a second worker.
func (f *fleet) again(t *testing.T, id string) bool {
	t.Helper()
	for n := range 2 {
		for _, s := range f.states(t, id, n) {
			if s.Twice {
				return true
			}
		}
	}
	view, err := f.API.Batch(t.Context(), id)
	return err == nil && view.State.Final()
}

// TestPauseForAMomentInTheMiddleOfASpreadFile pauses and resumes at once, as who has second thoughts does. What waited of the parts, and what
// was handed back for want of a place, is not waited for until AckWait is over, which is longer here than the test waits.
func TestPauseForAMomentInTheMiddleOfASpreadFile(t *testing.T) {
	t.Parallel()
	f := newFleet(t, miniotest.Shared(t), 1, append(slices.Clip(small), "ACK_WAIT=10m")...)
	size := int64(96 * mib)
	items := f.pair("moment", served{content: content{6, size}, rate: 2 * mib})
	id := f.submit(t, "", items...)
	for n := range items {
		f.stored(t, id, n, 8)
		if !mixtest.Until(comes, func() bool { plan, found := f.plan(t, id, n); return found && plan.Spread }) {
			t.Fatalf("item %d was not spread", n)
		}
	}
	f.act(t, id, "pause")
	f.act(t, id, "resume")
	begun := time.Now()
	receipts := f.check(t, id, items...)
	for n := range receipts {
		if r := &receipts[n]; len(r.Attempts) != 1 {
			t.Errorf("item %s: %d attempts", r.ID, len(r.Attempts))
		}
		if given := f.file(items[n]).given.Load(); given > size*5/4 {
			t.Errorf("item %s: the source gave %d bytes of a file of %d", items[n].id, given, size)
		}
	}
	t.Logf("%d items, 1 pause of a moment, 0 lost; done %s after it", len(items), time.Since(begun).Round(time.Second))
}

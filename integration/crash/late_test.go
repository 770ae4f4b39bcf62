package crash

import (
	"syscall"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

func TestKilledWhileHandingBack(t *testing.T) {
	t.Parallel()
	f, doomed := roles(t, "DRAIN=1s", "FAILPOINT="+string(failpoint.ClaimReleased)) // nobody but a worker comes to that point
	gate := make(chan struct{})
	batch := halfDone(f, oldBytes, oldBytes, gate)
	stop := f.Watch(t, batch)
	id := submit(t, f, batch)
	asked(t, f, batch, 1)
	doomed.Signal(t, syscall.SIGTERM)
	doomed.Wait(t)
	if !doomed.Killed() {
		t.Fatal("the worker did not die at its failpoint")
	}
	close(gate)
	f.Start(t, "worker", "FAILPOINT=")
	receipts := f.Check(t, id, batch, settles)
	stop()
	t.Logf("%d items, 1 fault (worker killed while it handed them back), 0 lost", len(receipts))
}

// trims is longer than the aggregator waits before it trims what was acknowledged.
const trims = 300 * time.Second

func TestKilledAfterTrim(t *testing.T) {
	t.Parallel()
	f := mixtest.NewUp(t)
	doomed := f.Start(t, "up", "FAILPOINT="+string(failpoint.Trimmed))
	batch := mixed(t, f, "trimmed", 24)
	call := send(t, f, batch)
	id := call.finish(t, f)
	select {
	case <-doomed.Ended():
	case <-time.After(trims):
		t.Fatalf("nothing was trimmed within %s", trims)
	}
	if !doomed.Killed() {
		t.Fatal("up did not die at its failpoint")
	}
	f.Start(t, "up")
	asked := f.AskedBelow("/get/")
	if again := call.try(t.Context(), f); again.err != nil || again.Batch() != id {
		t.Errorf("the call repeated is batch %q, %v; was %s", again.Batch(), again.err, id)
	}
	receipts := f.Check(t, id, batch, settles)
	after := f.Small("after", 5)
	f.Check(t, send(t, f, after).finish(t, f), after, settles)
	if n := f.AskedBelow("/get/trimmed/"); n != asked {
		t.Errorf("%d sources were asked again after the trim", n-asked)
	}
	t.Logf("%d items, 1 fault (up killed after it trimmed the queue), 0 lost", len(receipts))
}

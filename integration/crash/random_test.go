package crash

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	manyItems = 300
	kills     = 3
)

// chance is a source of random moments whose seed the test's log tells.
func chance(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// moment waits until some more of the sources were asked, or all is over.
func moment(t *testing.T, f *mixtest.Fleet, id string, more int) {
	t.Helper()
	from := f.AskedBelow("/get/")
	if !mixtest.Until(settles, func() bool {
		if f.AskedBelow("/get/") >= from+more {
			return true
		}
		view, err := f.API.Batch(t.Context(), id)
		return err == nil && view.State.Final()
	}) {
		t.Fatal("nothing moves any more")
	}
}

func TestUpKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	random := chance(t)
	f := mixtest.NewUp(t)
	batch := f.Mixed(t, "many", manyItems)
	for i := range batch {
		batch[i].MayFail = protocol.Lost // one that ran at each of the three kills is taken for their cause
	}
	stop := f.Watch(t, batch)
	up := f.Start(t, "up")
	id := submit(t, f, batch)
	for range kills {
		moment(t, f, id, 1+random.IntN(manyItems/5))
		up.Kill9(t)
		up = f.Start(t, "up")
	}
	receipts := f.Check(t, id, batch, settles)
	taken := 0
	for i := range receipts {
		if receipts[i].State == protocol.ItemFailed {
			taken++
		}
	}
	if taken > 1 {
		t.Errorf("%d items were given up, but only one runs alone", taken)
	}
	t.Logf("%d items, %d faults (up killed), 0 lost; %d given up after three crashes; %d files seen, each whole", len(receipts), kills, taken, stop())
}

func TestNATSKilledInMidBatch(t *testing.T) {
	t.Parallel()
	random := chance(t)
	f := mixtest.NewRoles(t, miniotest.Shared(t))
	server := f.StartNATS(t)
	for _, role := range []string{"api", "aggregator", "worker", "worker"} {
		f.Start(t, role)
	}
	batch := f.Mixed(t, "many", manyItems)
	stop := f.Watch(t, batch)
	id := submit(t, f, batch)
	for range kills {
		moment(t, f, id, 1+random.IntN(manyItems/5))
		server.Kill9(t)
		server = f.StartNATS(t)
	}
	receipts := f.Check(t, id, batch, settles)
	if repeated := submit(t, f, batch); repeated != id {
		t.Errorf("the call repeated is batch %s, was %s", repeated, id)
	}
	f.Check(t, id, batch, settles)
	t.Logf("%d items, %d faults (nats-server killed), 0 lost; %d files seen, each whole", len(receipts), kills, stop())
}

// A front dies between two chunks. Nothing of the batch runs until its caller has repeated the call; then all of it.
func TestFrontKilledBetweenChunks(t *testing.T) {
	t.Parallel()
	f := mixtest.NewUp(t, "SLOTS=64")
	batch := f.Small("chunks", 1005)
	stop := f.Watch(t, batch)
	doomed := f.Start(t, "up", "FAILPOINT=chunk_published")
	call := send(t, f, batch)
	doomed.Wait(t)
	if !doomed.Killed() {
		t.Fatal("the front did not die at its failpoint")
	}
	f.Start(t, "up")
	// These come behind the first chunk in its queue: once they are done, its items had their turn.
	behind := f.Small("behind", 150)
	f.Check(t, send(t, f, behind).finish(t, f), behind, settles)
	if n := f.AskedBelow("/get/chunks/"); n != 0 {
		t.Errorf("%d items ran of a batch that was never accepted", n)
	}
	receipts := f.Check(t, call.finish(t, f), batch, settles)
	if n := f.AskedBelow("/get/chunks/"); n != len(batch) {
		t.Errorf("%d items were run %d times", len(batch), n)
	}
	t.Logf("%d items, 1 fault (front killed after the first of 2 chunks), 0 lost; %d files seen, each whole", len(receipts), stop())
}

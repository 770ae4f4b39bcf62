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

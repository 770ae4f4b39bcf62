package shutdown

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

const (
	rounds    = 3
	batches   = 4
	rollItems = 120
)

// Every process but NATS is restarted in order, one after the other, while batches run: no item fails, none is tried twice,
// and none is copied twice.
func TestRollingRestartIsFree(t *testing.T) {
	t.Parallel()
	// What is not handed back in order would not come again in this test.
	f := mixtest.NewRoles(t, miniotest.Shared(t), "ACK_WAIT=5m", "SLOTS=4")
	f.StartNATS(t)
	roles := []string{"worker", "worker", "aggregator"}
	f.Start(t, "api")
	processes := make([]*mixtest.Process, len(roles))
	for i, role := range roles {
		processes[i] = f.Start(t, role)
	}
	load := make([]mixtest.Batch, batches)
	done := make([]<-chan answer, batches)
	for i := range load {
		load[i] = f.Mixed(t, fmt.Sprint("roll", i), rollItems)
		done[i] = call(t, f, load[i])
	}
	faults := 0
	for range rounds {
		for i, role := range roles {
			moved(t, f)
			processes[i].Signal(t, syscall.SIGTERM)
			mustEndInOrder(t, processes[i])
			processes[i] = f.Start(t, role)
			faults++
		}
	}
	items := 0
	for i := range load {
		a := received(t, done[i])
		a.must(t, 200)
		for _, r := range f.Check(t, a.Batch(), load[i], settles) {
			items++
			if len(r.Attempts) != 1 {
				t.Errorf("item %s: %d attempts", r.ID, len(r.Attempts))
			}
		}
		for _, c := range load[i] {
			if path, ok := c.Dest["url"].(string); ok {
				if n := len(f.Taken(path[len(f.URL):])); n != 1 {
					t.Errorf("item %s was uploaded %d times", c.ID, n)
				}
			}
		}
	}
	t.Logf("%d items, %d restarts in order, 0 lost, 0 repeated", items, faults)
}

// moved waits until some more items have begun, or all have.
func moved(t *testing.T, f *mixtest.Fleet) {
	t.Helper()
	const sources = batches * rollItems * 3 / 5 // those that come over HTTP
	from := f.AskedBelow("/get/")
	if !mixtest.Until(settles, func() bool {
		n := f.AskedBelow("/get/")
		return n >= from+sources/(rounds*4) || n >= sources
	}) {
		t.Fatal("nothing moves any more")
	}
}

// An aggregator that is stopped in order gives back the reports that were on their way to it.
func TestStoppedAggregatorDelaysNothing(t *testing.T) {
	t.Parallel()
	const soon = 150 * time.Second // half of the wait that nobody may have to sit through
	f := mixtest.NewRoles(t, miniotest.Shared(t), "ACK_WAIT=5m")
	f.StartNATS(t)
	f.Start(t, "api")
	f.Start(t, "worker")
	aggregator := f.Start(t, "aggregator")
	batch := f.Mixed(t, "agg", rollItems)
	done := call(t, f, batch)
	for range rounds {
		aggregator.Signal(t, syscall.SIGTERM)
		mustEndInOrder(t, aggregator)
		aggregator = f.Start(t, "aggregator")
	}
	a := received(t, done)
	a.must(t, 200)
	f.Check(t, a.Batch(), batch, soon)
	t.Logf("%d items, %d restarts of the aggregator, 0 lost", len(batch), rounds)
}

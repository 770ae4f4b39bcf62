package crash

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// TestKilledWhileItemsWaitForTheirHost kills a worker right after it has put items away, and right after it has put them into the queue
// again: both the new messages and the old ones come, and each item has one outcome.
func TestKilledWhileItemsWaitForTheirHost(t *testing.T) {
	t.Parallel()
	for _, plan := range []string{
		string(failpoint.WaitPlanned), string(failpoint.WaitPlanned) + ":2", string(failpoint.QueuedAgain), string(failpoint.QueuedAgain) + ":2",
	} {
		t.Run(plan, func(t *testing.T) {
			t.Parallel()
			f, first := roles(t)
			first.Kill9(t)
			host := mixtest.NewPeer(t)
			host.Fail(true)
			batch := f.Small("healthy", 20)
			for i := range 80 {
				c := mixtest.Copy{ID: fmt.Sprintf("waits-%d", i), Content: fmt.Appendf(nil, "item %d of a host that fails", i), Dest: mixtest.ToSandbox(fmt.Sprintf("/out/waits/%d", i))}
				c.Src = mixtest.FromURL(host.Give(fmt.Sprintf("/waits/%d", i), c.Content))
				batch = append(batch, c)
			}
			stop := f.Watch(t, batch)
			doomed := f.Start(t, "worker", "FAILPOINT="+plan)
			id := submit(t, f, batch)
			select {
			case <-doomed.Ended():
			case <-time.After(dies):
				t.Fatalf("it did not come to %s within %s", plan, dies)
			}
			if !doomed.Killed() || !strings.Contains(doomed.Log(), failpoint.Env) {
				t.Fatalf("it did not die at its failpoint %s", plan)
			}
			host.Fail(false)
			f.Start(t, "worker")
			receipts := f.Check(t, id, batch, settles)
			spent, healthy, asked := attempts(receipts), 20, host.AskedBelow("/waits/")
			if spent > healthy+asked {
				t.Errorf("%d attempts are charged for %d requests: those that wait are to keep theirs", spent, healthy+asked)
			}
			// Both workers may have all of their 32 slots find out that the host fails, and probe it once after each rest.
			const probes = 8
			if spent > len(batch)+2*32+probes {
				t.Errorf("%d attempts are charged to %d items: a host that rests is to be left alone", spent, len(batch))
			}
			seen := stop()
			t.Logf("%d items, 1 fault (worker killed at %s), 0 lost; %d attempts, %d files seen, each whole", len(receipts), plan, spent, seen)
		})
	}
}

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
			// Each slot may have an attempt at the host before it rests, one that the crash takes along, and those of probes: 64 and a few, more where the
			// machine is slow. Items that did not keep theirs would spend 240 beside the first of each.
			if spent, made := attempts(receipts), len(batch)+host.AskedBelow("/waits/"); spent > made || spent > len(batch)+128 {
				t.Errorf("%d attempts are charged to %d items, with %d requests to their host: those that wait are to keep theirs", spent, len(batch), made-len(batch))
			}
			seen := stop()
			t.Logf("%d items, 1 fault (worker killed at %s), 0 lost; %d attempts, %d files seen, each whole", len(receipts), plan, attempts(receipts), seen)
		})
	}
}

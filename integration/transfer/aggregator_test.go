package transfer

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// dies starts an aggregator that is to die at a failpoint, in place of the one that runs.
func (f *fleet) dies(t *testing.T, plan string, env ...string) *mixtest.Process {
	t.Helper()
	f.aggregator.Kill9(t)
	f.aggregator = f.Start(t, "aggregator", append(env, "FAILPOINT="+plan)...)
	return f.aggregator
}

// comeTo waits for the death of a process at its failpoint.
func comeTo(t *testing.T, p *mixtest.Process, plan string) {
	t.Helper()
	select {
	case <-p.Ended():
	case <-time.After(comes):
		t.Fatalf("the %s did not come to %s within %s", p.Name, plan, comes)
	}
	if !p.Killed() || !strings.Contains(p.Log(), failpoint.Env) {
		t.Fatalf("the %s did not die at its failpoint %s", p.Name, plan)
	}
}

// TestAggregatorKilledWhileKeepingParts kills the aggregator right after it stored what is known of parts, and right after it told that.
func TestAggregatorKilledWhileKeepingParts(t *testing.T) {
	t.Parallel()
	for _, plan := range []string{string(failpoint.PartsCommitted), string(failpoint.PartsCommitted) + ":3", string(failpoint.PartsTold)} {
		t.Run(plan, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, miniotest.Shared(t), 2, append(slices.Clip(small), mixtest.Steady)...)
			doomed := f.dies(t, plan)
			items := f.pair("kept", served{content: content{8, 24 * mib}, rate: 16 * mib})
			id := f.submit(t, "", items...)
			comeTo(t, doomed, plan)
			f.aggregator = f.Start(t, "aggregator")
			f.check(t, id, items...)
			for _, i := range items {
				if given := f.file(i).given.Load(); given > i.content.size*3/2 {
					t.Errorf("item %s: the source gave %d bytes of a file of %d", i.id, given, i.content.size)
				}
			}
			t.Logf("%d items, 1 fault (aggregator killed at %s), 0 lost", len(items), plan)
		})
	}
}

// TestAggregatorKilledWhileSweepingParts kills the aggregator right after it asked for the removal of what an item left whose owner died
// between its report and the removal.
func TestAggregatorKilledWhileSweepingParts(t *testing.T) {
	t.Parallel()
	f := newFleet(t, miniotest.Shared(t), 1, small...)
	item := item{id: "swept", src: f.from("/swept"), dest: f.ToObject("swept.bin"), content: content{8, 12 * mib}}
	f.give("/swept", served{content: item.content})
	id := f.submit(t, "", item)
	f.check(t, id, item)
	f.leavePlan(t, id, item)
	f.workers[0].Kill9(t)
	plan := string(failpoint.SweepAsked)
	comeTo(t, f.dies(t, plan, "PARTS_AFTER=1s"), plan)
	f.aggregator = f.Start(t, "aggregator", "PARTS_AFTER=1s")
	f.startWorker(t)
	f.check(t, id, item)
	t.Logf("1 item, 1 fault (aggregator killed at %s), 0 lost", plan)
}

// leavePlan leaves what an owner does that died after its report: a plan, and the unfinished upload that it names.
func (f *fleet) leavePlan(t *testing.T, id string, i item) {
	t.Helper()
	key, _ := i.dest["key"].(string)
	upload := "plain." + f.beginUpload(t, key) // as the driver names one without checksums
	value, err := json.Marshal(protocol.PartPlan{
		Version: protocol.PartVersion, Epoch: 1, Size: i.content.size, PartSize: 6 * mib, Count: 2, Upload: upload, Created: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.parts.Put(t.Context(), protocol.PartPlanKey(protocol.OrgID(f.API.Org), protocol.BatchID(id), 0), value); err != nil {
		t.Fatal(err)
	}
	if left := f.left(t, []item{i}); len(left) != 2 {
		t.Fatalf("left behind: %q, want a plan and an upload", left)
	}
}

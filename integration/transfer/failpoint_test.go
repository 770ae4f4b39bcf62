package transfer

import (
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/protocol"
)

// TestKilledWhileCopyingParts kills a worker at each step of an item that is copied in parts, and has another one take over.
func TestKilledWhileCopyingParts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		plan   string
		spread bool
		// continues says that the next owner must find parts.
		continues bool
		fails     bool
	}{
		{plan: string(failpoint.UploadBegun)},
		{plan: string(failpoint.PartPlanned)},
		{plan: string(failpoint.PartStored)},
		{plan: string(failpoint.PartStored) + ":3", spread: true},
		{plan: string(failpoint.PartReported), continues: true},
		{plan: string(failpoint.PartReported) + ":3", spread: true, continues: true},
		{plan: string(failpoint.PartsSpread), spread: true},
		{plan: string(failpoint.PartsComplete)},
		{plan: string(failpoint.PartsComplete), spread: true, continues: true},
		{plan: string(failpoint.Completing), spread: true, continues: true},
		{plan: string(failpoint.UploadCompleted)},
		{plan: string(failpoint.UploadCompleted), spread: true},
		{plan: string(failpoint.PartsCleared)},
		{plan: string(failpoint.UploadAborted), fails: true},
	} {
		for _, kind := range []string{"sandbox", "object", "boxes"} {
			name, _, _ := strings.Cut(test.plan, ":")
			if test.spread {
				name += " spread"
			}
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				env := append([]string{}, alone...)
				if test.spread {
					env[2] = "SPREAD_AFTER=1ns"
				}
				start := newFleet
				if kind == "boxes" {
					start = newBoxFleet
				}
				f := start(t, miniotest.Shared(t), 0, env...)
				doomed := f.startWorker(t, "FAILPOINT="+test.plan+"@f-")
				items := f.pair("f", served{content: content{7, 26*mib + 7}})
				if kind == "object" { // alone: an object might be between its upload's beginning and its plan
					items = items[1:]
				} else {
					items = items[:1]
				}
				if test.fails {
					for i := range items {
						items[i].more = map[string]any{"sha256": strings.Repeat("0", 64)}
					}
				}
				id := f.submit(t, "", items...)
				select {
				case <-doomed.Ended():
				case <-time.After(comes):
					t.Fatalf("the worker did not come to %s", test.plan)
				}
				if !doomed.Killed() {
					t.Fatalf("the worker ended, but not at %s", test.plan)
				}
				f.startWorker(t)
				if test.fails {
					f.API.WaitFinal(t, id, settles)
					f.nothingLeft(t, items...)
					return
				}
				receipts := f.check(t, id, items...)
				for n, i := range items {
					r := &receipts[n]
					if test.continues && r.ResumedFrom == 0 {
						t.Errorf("item %s was copied anew: restarted for %q", i.id, r.RestartReason)
					}
					if r.Method != protocol.MethodParts {
						t.Errorf("item %s was copied by %s", i.id, r.Method)
					}
				}
				t.Logf("%d items, 1 fault (worker killed at %s), 0 lost; %d bytes not moved again", len(items), test.plan, resumed(receipts))
			})
		}
	}
}

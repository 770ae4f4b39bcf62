package crash

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// TestKilledWhereNothingMayBeReplaced kills the worker right before and right after a destination becomes visible that must not be
// replaced. Whoever comes next does not take what the dead one made for somebody else's, replaces nothing, and fails nothing.
func TestKilledWhereNothingMayBeReplaced(t *testing.T) {
	t.Parallel()
	for _, point := range []failpoint.Point{failpoint.TempSynced, failpoint.LeaseChecked, failpoint.Renamed, failpoint.DestinationVisible} {
		t.Run(string(point), func(t *testing.T) {
			t.Parallel()
			f := mixtest.NewUp(t)
			doomed := f.Start(t, "up", "FAILPOINT="+string(point)+":2")
			var items []map[string]any
			contents := map[string]string{}
			for i, policy := range []string{"fail", "skip", "fail", "fail", "if_different", "skip", "fail"} {
				path := fmt.Sprint("/once/", i)
				contents[path] = strings.Repeat(fmt.Sprint("content of ", i), 100)
				items = append(items, map[string]any{
					"src": mixtest.FromURL(f.Give("/get"+path, []byte(contents[path]))), "conflict": policy,
					"dest": map[string]any{"type": "sandboxFileLocation", "sandbox": f.Sandbox, "path": path},
				})
			}
			answer, err := f.API.Call(t.Context(), http.MethodPost, "/v1/batches", nil, map[string]any{"items": items})
			if err != nil || answer.Status != http.StatusAccepted {
				t.Fatalf("status %d, %v: %s", answer.Status, err, answer.Body)
			}
			select {
			case <-doomed.Ended():
			case <-time.After(dies):
				t.Fatalf("up did not come to %s within %s", point, dies)
			}
			f.Start(t, "up")
			view := f.API.WaitFinal(t, answer.Batch(), settles)
			receipts, err := f.API.Receipts(t.Context(), answer.Batch())
			if err != nil || view.State != protocol.BatchSucceeded || view.Counts["failed"] != 0 {
				t.Fatalf("%+v, %v: %+v", view, err, receipts)
			}
			for path, want := range contents {
				got, err := f.Arrived(t.Context(), &mixtest.Copy{Dest: mixtest.ToSandbox(path)})
				if err != nil || string(got) != want {
					t.Errorf("%s arrived as %q: %v", path, got, err)
				}
			}
			t.Logf("%d items, 1 fault (up killed at %s), 0 lost; %d skipped", len(receipts), point, view.Counts["skipped"])
		})
	}
}

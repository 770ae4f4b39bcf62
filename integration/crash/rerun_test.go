package crash

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// TestKilledWhileRerunning kills a front after it has entered what is to run again and before the new batch is begun. The same call repeated
// goes on; another call gets the items once the dead one has had its time. Either way each item runs again once.
func TestKilledWhileRerunning(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]string{"the same call": "first", "another call": "second"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n = 6
			f := mixtest.NewUp(t, mixtest.Steady)
			before := f.Start(t, "up")
			var batch mixtest.Batch
			for i := range n {
				path := fmt.Sprint("/", i)
				batch = append(batch, mixtest.Copy{
					ID: fmt.Sprint("id-", i), Content: []byte("late " + path), Src: mixtest.FromURL(f.URL + path), Dest: mixtest.ToSandbox("/out" + path),
				})
			}
			answer, err := f.API.Copy(t.Context(), f.Sandbox, nil, batch.Files())
			if err != nil || answer.Status != http.StatusOK {
				t.Fatalf("%d %v", answer.Status, err)
			}
			for i := range n {
				path := fmt.Sprint("/", i)
				f.Give(path, batch[i].Content)
			}
			before.Kill9(t)

			doomed := f.Start(t, "up", "FAILPOINT="+string(failpoint.RerunRecorded))
			retry := func(key string) (mixtest.Answer, error) {
				return f.API.Call(t.Context(), http.MethodPost, "/v1/batches/"+answer.Batch()+"/retry", map[string]string{"Idempotency-Key": key}, map[string]any{})
			}
			if got, err := retry("first"); err == nil {
				t.Fatalf("a front that was to die answered %d: %s", got.Status, got.Body)
			}
			select {
			case <-doomed.Ended():
			case <-time.After(dies):
				t.Fatal("the front did not die")
			}
			f.Start(t, "up")
			var got mixtest.Answer
			accepted := mixtest.Until(dies, func() bool {
				got, err = retry(again)
				return err != nil || got.Status == http.StatusAccepted
			})
			if !accepted || err != nil {
				t.Fatalf("the repeated call: %d %v %s", got.Status, err, got.Body)
			}
			f.Check(t, got.Batch(), batch, settles)
			for i := range n {
				if asked := f.Asked(fmt.Sprint("/", i)); asked != 2 {
					t.Errorf("source %d was asked %d times, must be 2: it failed, and ran again once", i, asked)
				}
			}
			for _, key := range []string{"first", "second", "third"} {
				late, err := retry(key)
				if key == again {
					var v struct {
						Batch struct {
							ID string `json:"id"`
						} `json:"batch"`
					}
					if err != nil || late.Status != http.StatusAccepted || json.Unmarshal(late.Body, &v) != nil || v.Batch.ID != got.Batch() {
						t.Errorf("the call repeated once more: %d %v %s", late.Status, err, late.Body)
					}
				} else if err != nil || late.Status != http.StatusConflict {
					t.Errorf("a later call with the key %s: %d %v %s", key, late.Status, err, late.Body)
				}
			}
			view, err := f.API.Batch(t.Context(), answer.Batch())
			if err != nil || view.State != protocol.BatchFailed || view.Counts["failed"] != n {
				t.Errorf("the receipts of the first batch changed: %+v %v", view, err)
			}
			t.Logf("%d items, 1 fault (killed at %s, then %s), 0 lost, 0 run twice", n, failpoint.RerunRecorded, name)
		})
	}
}

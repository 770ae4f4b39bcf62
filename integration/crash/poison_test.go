package crash

import (
	"testing"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// maxDeaths bounds the workers that the test gives to an item: more than the fleet may need.
const maxDeaths = 6

func TestPoisonItemHurtsOnlyItself(t *testing.T) {
	t.Parallel()
	tests := []struct {
		point failpoint.Point
		kind  string
		dest  func(*mixtest.Fleet) map[string]any
	}{
		{failpoint.BytesMoving, "sandbox", func(*mixtest.Fleet) map[string]any { return mixtest.ToSandbox("/out/poison.bin") }},
		{failpoint.BytesMoving, "object", func(f *mixtest.Fleet) map[string]any { return f.ToObject("poison.bin") }},
		{failpoint.LeaseChecked, "sandbox", func(*mixtest.Fleet) map[string]any { return mixtest.ToSandbox("/out/poison.bin") }},
	}
	for _, test := range tests {
		t.Run(string(test.point)+" "+test.kind, func(t *testing.T) {
			t.Parallel()
			f := mixtest.NewRoles(t, miniotest.Shared(t))
			f.StartNATS(t)
			f.Start(t, "api")
			f.Start(t, "aggregator")
			batch := f.Mixed(t, "p", 40)
			content := []byte("kills whoever touches it")
			batch[7] = mixtest.Copy{
				ID: "poison", Src: mixtest.FromURL(f.Give("/get/poison", content)), Dest: test.dest(f),
				Content: content, Fails: protocol.Lost,
			}
			stop := f.Watch(t, batch)
			id := submit(t, f, batch)
			deaths := 0
			for ; deaths <= maxDeaths; deaths++ {
				worker := f.Start(t, "worker", "FAILPOINT="+string(test.point)+"@poison")
				if !diesBefore(t, f, worker, id) {
					break
				}
			}
			receipts := f.Check(t, id, batch, settles)
			stop()
			if deaths != 3 {
				t.Errorf("%d workers died of the item, must be 3", deaths)
			}
			t.Logf("%d items, %d faults (worker killed by one of them at %s), 0 lost", len(receipts), deaths, test.point)
		})
	}
}

// diesBefore reports whether the worker dies before the batch has ended.
func diesBefore(t *testing.T, f *mixtest.Fleet, worker *mixtest.Process, id string) bool {
	t.Helper()
	died := false
	if !mixtest.Until(settles, func() bool {
		select {
		case <-worker.Ended():
			died = true
			return true
		default:
		}
		view, err := f.API.Batch(t.Context(), id)
		return err == nil && view.State.Final()
	}) {
		t.Fatalf("batch %s did not end within %s, and the worker did not die", id, settles)
	}
	if died && !worker.Killed() {
		t.Fatal("the worker ended, but not at its failpoint")
	}
	return died
}

// submit sends a batch without waiting for its end.
func submit(t *testing.T, f *mixtest.Fleet, batch mixtest.Batch) string {
	t.Helper()
	header := map[string]string{"Prefer": "respond-async", "Idempotency-Key": t.Name() + "." + batch[0].ID}
	var id string
	if !mixtest.Until(settles, func() bool { // a broker whose disk stalls refuses in between
		answer, err := f.API.Copy(t.Context(), f.Sandbox, header, batch.Files())
		id = answer.Batch()
		if err == nil && answer.Status/100 == 4 {
			t.Fatalf("the batch was refused: %s", answer.Body)
		}
		return err == nil && answer.Status == 202
	}) {
		t.Fatal("the batch was not accepted")
	}
	return id
}

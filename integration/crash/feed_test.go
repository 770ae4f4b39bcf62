package crash

import (
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// feeding is how a batch comes to a point of the feeder, and what becomes of it after the crash.
type feeding struct {
	point   string
	options map[string]any
	acts    []string // upon the batch, before the process dies
	after   []string // upon the batch, when the process runs again and the batch is paused
	ends    protocol.BatchState
}

// manifest is a batch as POST /v1/batches takes it.
func manifest(f *mixtest.Fleet, batch mixtest.Batch, options map[string]any) map[string]any {
	items := batch.Files()
	for _, item := range items {
		dest, _ := item["dest"].(map[string]any)
		dest["sandbox"] = f.Sandbox
	}
	body := map[string]any{"items": items}
	maps.Copy(body, options)
	return body
}

// act acts upon a batch; it may be what kills the process.
func act(t *testing.T, f *mixtest.Fleet, id, verb string) {
	t.Helper()
	answer, err := f.API.Call(t.Context(), http.MethodPost, "/v1/batches/"+id+"/"+verb, nil, nil)
	if err == nil && answer.Status != http.StatusOK {
		t.Fatalf("%s: %d %s", verb, answer.Status, answer.Body)
	}
}

func TestKilledWhileFeeding(t *testing.T) {
	t.Parallel()
	const total = 600
	slow := map[string]any{"rate": 5}
	for _, c := range []feeding{
		{point: "chunk_fed", ends: protocol.BatchSucceeded},
		{point: "chunk_fed:2", ends: protocol.BatchSucceeded},
		{point: "feed_saved", ends: protocol.BatchSucceeded},
		{point: "feed_saved:2", ends: protocol.BatchSucceeded},
		{point: "control_ordered", options: map[string]any{"canary": 3}, after: []string{"resume"}, ends: protocol.BatchSucceeded},
		{point: "recalled", options: slow, acts: []string{"cancel"}, ends: protocol.BatchCanceled},
		{point: "rest_canceled", options: slow, acts: []string{"cancel"}, ends: protocol.BatchCanceled},
		{point: "redo_begun", options: map[string]any{"rate": 200}, acts: []string{"pause", "resume"}, ends: protocol.BatchSucceeded},
	} {
		t.Run(c.point, func(t *testing.T) {
			t.Parallel()
			f := mixtest.NewUp(t)
			batch := f.Small("b", total)
			doomed := f.Start(t, "up", "FAILPOINT="+c.point)
			const key = "the-batch"
			accept := func() (mixtest.Answer, error) {
				return f.API.Call(t.Context(), http.MethodPost, "/v1/batches", map[string]string{"Idempotency-Key": key}, manifest(f, batch, c.options))
			}
			answer, err := accept()
			if err == nil && answer.Status != http.StatusAccepted {
				t.Fatalf("%d %s", answer.Status, answer.Body)
			}
			for _, verb := range c.acts {
				act(t, f, answer.Batch(), verb)
			}
			select {
			case <-doomed.Ended():
			case <-time.After(dies):
				t.Fatalf("up did not come to %s", c.point)
			}
			if !doomed.Killed() {
				t.Fatalf("up did not die at %s", c.point)
			}
			f.Start(t, "up")
			if err != nil { // it died before it had answered
				if answer, err = accept(); err != nil || answer.Status != http.StatusAccepted {
					t.Fatalf("the repeated call: %d %v %s", answer.Status, err, answer.Body)
				}
			}
			id := answer.Batch()
			for _, verb := range c.after {
				if !mixtest.Until(settles, func() bool {
					view, err := f.API.Batch(t.Context(), id)
					return err == nil && view.State == protocol.BatchPaused
				}) {
					t.Fatal("the batch was not paused")
				}
				act(t, f, id, verb)
			}
			if c.ends == protocol.BatchSucceeded {
				f.Check(t, id, batch, settles)
				return
			}
			view := f.API.WaitFinal(t, id, settles)
			sum := 0
			for _, n := range view.Counts {
				sum += n
			}
			if view.State != c.ends || sum != total || view.Counts["canceled"] == 0 {
				t.Errorf("%+v", view)
			}
			f.CheckNothingHidden(t)
		})
	}
}

func TestKilledWhileAskingForANotice(t *testing.T) {
	t.Parallel()
	f := mixtest.NewUp(t)
	doomed := f.Start(t, "up", "FAILPOINT="+string(failpoint.NoticeAsked))
	batch := f.Small("b", 3)
	answer, err := f.API.Call(t.Context(), http.MethodPost, "/v1/batches", nil, manifest(f, batch, map[string]any{"webhook": map[string]any{"url": f.Give("/notice", nil)}}))
	if err != nil || answer.Status != http.StatusAccepted {
		t.Fatalf("%d %v %s", answer.Status, err, answer.Body)
	}
	select {
	case <-doomed.Ended():
	case <-time.After(dies):
		t.Fatal("up did not come to it")
	}
	f.Start(t, "up")
	f.Check(t, answer.Batch(), batch, settles)
	if !mixtest.Until(settles, func() bool { return f.Asked("/notice") > 0 }) {
		t.Error("nobody was told of the end")
	}
}

func TestKilledWhileRemoving(t *testing.T) {
	t.Parallel()
	for _, point := range []failpoint.Point{failpoint.BatchEmptied, failpoint.BatchRemoved} {
		t.Run(string(point), func(t *testing.T) {
			t.Parallel()
			f := mixtest.NewUp(t, "RETENTION=2s")
			doomed := f.Start(t, "up", "FAILPOINT="+string(point))
			answer, err := f.API.Call(t.Context(), http.MethodPost, "/v1/batches", nil, manifest(f, f.Small("b", 300), nil))
			if err != nil || answer.Status != http.StatusAccepted {
				t.Fatalf("%d %v %s", answer.Status, err, answer.Body)
			}
			select {
			case <-doomed.Ended():
			case <-time.After(dies):
				t.Fatalf("up did not come to %s", point)
			}
			f.Start(t, "up")
			if !mixtest.Until(settles, func() bool {
				got, err := f.API.Call(t.Context(), http.MethodGet, "/v1/batches/"+answer.Batch(), nil, nil)
				return err == nil && got.Status == http.StatusNotFound
			}) {
				t.Error("the batch is still there")
			}
		})
	}
}

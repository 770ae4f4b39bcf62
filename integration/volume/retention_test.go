package volume

import (
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// traces returns the subjects of all streams on which there is something that names a batch: all buckets, and planned retries. The
// queue and the reports are not asked: they are trimmed by their floors, which know of no batch.
func traces(t *testing.T, js jetstream.JetStream, id string) []string {
	t.Helper()
	var found []string
	names := js.StreamNames(t.Context())
	for name := range names.Name() {
		if strings.HasPrefix(name, "CF_") && name != "CF_RETRY" {
			continue
		}
		stream, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(">"))
		if err != nil {
			t.Fatal(err)
		}
		for subject := range info.State.Subjects {
			if strings.Contains(subject, id) {
				found = append(found, name+": "+subject)
			}
		}
	}
	if err := names.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}

// TestRetention lets batches of each kind end, and sees that nothing is left of them in any stream some seconds later, while one that runs
// for longer is kept.
func TestRetention(t *testing.T) {
	t.Parallel()
	f, _ := roles(t, "RETENTION=20s", "SLOTS=16", "IDLE_TIMEOUT=10m") // the item that is stuck is to stay so, and the end of its batch is to be seen
	js := f.JetStream(t)
	gate := make(chan struct{})
	kept := slowly(f, "kept", 300, 0)
	kept[7].Src = mixtest.FromURL(f.GiveHalf("/get/kept/stuck", kept[7].Content, gate))
	running := f.Submit(t, kept, "")
	asked(t, f, "kept", 300)

	hook := f.Give("/hook", nil)
	batches := map[string]string{
		"direct":   f.Submit(t, f.Small("direct", 20), ""),
		"fed":      f.Submit(t, f.Small("fed", 1500), ""),
		"failed":   f.Submit(t, failing(f, "failed", 300), "max_failed=5"),
		"canceled": f.Submit(t, slowly(f, "canceled", 600, 0), "rate=5"),
		"canary":   f.SubmitJSON(t, f.Small("canary", 20), map[string]any{"canary": 3, "webhook": map[string]any{"url": hook, "secret": "0123456789abcdef"}}),
	}
	f.API.WaitState(t, batches["canary"], protocol.BatchPaused, limit)
	f.API.Act(t, batches["canary"], "resume")
	f.API.Act(t, batches["canceled"], "cancel")
	for name, id := range batches {
		var left []string
		if !mixtest.Until(limit, func() bool { left = traces(t, js, id); return len(left) == 0 }) {
			t.Errorf("of the batch %s (%s) is left: %q", name, id, left)
		}
		for _, path := range []string{"", "/items", "/report.ndjson", "/webhook", "/events"} {
			answer, err := f.API.Call(t.Context(), http.MethodGet, "/v1/batches/"+id+path, nil, nil)
			if err != nil || answer.Status != http.StatusNotFound {
				t.Errorf("%s of the batch %s: %d %v", path, name, answer.Status, err)
			}
		}
	}
	if left := traces(t, js, running); len(left) == 0 {
		t.Error("a batch that runs was removed")
	}
	close(gate)
	view := f.API.WaitFinal(t, running, limit)
	if view.State != protocol.BatchSucceeded || view.Counts["succeeded"] != len(kept) {
		t.Errorf("%+v", view)
	}
	if !mixtest.Until(limit, func() bool { return len(traces(t, js, running)) == 0 }) {
		t.Errorf("left of it: %q", traces(t, js, running))
	}
}

// failing makes a batch none of whose sources is there.
func failing(f *mixtest.Fleet, name string, n int) mixtest.Batch {
	batch := f.Small(name, n)
	for i := range batch {
		batch[i].Src, batch[i].Fails = mixtest.FromURL(f.URL+"/get/none/"+batch[i].ID), protocol.NotFound
	}
	return batch
}

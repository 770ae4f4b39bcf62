package crash

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// TestKilledAfterTheNotice kills the process between the receiver's answer and its note of it: the notice comes once more, and can be
// recognized.
func TestKilledAfterTheNotice(t *testing.T) {
	t.Parallel()
	f := mixtest.NewUp(t, mixtest.Steady)
	type notice struct{ delivery, body string }
	var mu sync.Mutex
	var told []notice
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		told = append(told, notice{r.Header.Get("Copyfleet-Delivery"), string(body)})
	}))
	t.Cleanup(receiver.Close)

	doomed := f.Start(t, "up", "FAILPOINT="+string(failpoint.NoticeSent))
	item := map[string]any{
		"src":  mixtest.FromURL(f.Give("/told", []byte("content"))),
		"dest": map[string]any{"type": "sandboxFileLocation", "sandbox": f.Sandbox, "path": "/told"},
	}
	answer, err := f.API.Call(t.Context(), http.MethodPost, "/v1/batches", nil, map[string]any{
		"items": []any{item}, "webhook": map[string]any{"url": receiver.URL, "secret": "0123456789abcdef"},
	})
	if err != nil || answer.Status != http.StatusAccepted {
		t.Fatalf("status %d, %v: %s", answer.Status, err, answer.Body)
	}
	select {
	case <-doomed.Ended():
	case <-time.After(dies):
		t.Fatalf("it did not die within %s", dies)
	}
	f.Start(t, "up")
	var log struct{ State, Delivery string }
	if !mixtest.Until(settles, func() bool {
		return f.API.Get(t.Context(), "/v1/batches/"+answer.Batch()+"/webhook", &log) == nil && log.State == "delivered"
	}) {
		t.Fatalf("the notice was not delivered: %+v", log)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(told) != 2 || told[0] != told[1] || told[0].delivery != log.Delivery {
		t.Errorf("told %+v, the log says %+v", told, log)
	}
}

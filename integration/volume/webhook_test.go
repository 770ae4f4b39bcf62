package volume

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

const secret = "at least sixteen characters"

// receiver takes notices. It refuses the first ones, or all of them hang.
type receiver struct {
	refuse int
	hang   bool

	closing chan struct{}
	mu      sync.Mutex
	got     []notice
}

type notice struct {
	delivery, signature string
	body                []byte
}

func newReceiver(t *testing.T, refuse int, hang bool) (*receiver, string) {
	t.Helper()
	r := &receiver{refuse: refuse, hang: hang, closing: make(chan struct{})}
	server := httptest.NewServer(r)
	t.Cleanup(func() { close(r.closing); server.Close() })
	return r, server.URL + "/notice?token=s3cret"
}

// ServeHTTP implements http.Handler.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	r.got = append(r.got, notice{req.Header.Get("Copyfleet-Delivery"), req.Header.Get("Copyfleet-Signature"), body})
	n := len(r.got)
	r.mu.Unlock()
	if r.hang {
		select {
		case <-r.closing:
		case <-req.Context().Done():
		}
		return
	}
	if n <= r.refuse {
		w.WriteHeader(http.StatusInternalServerError)
	}
}

func (r *receiver) taken() []notice {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got
}

// signed computes a signature anew, by the words of docs/webhooks.md.
func signed(n notice) bool {
	sent, found := "", ""
	for part := range strings.SplitSeq(n.signature, ",") {
		switch name, value, _ := strings.Cut(part, "="); name {
		case "t":
			sent = value
		case "v1":
			found = value
		}
	}
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%s.%s", sent, n.body)
	return sent != "" && found == hex.EncodeToString(mac.Sum(nil))
}

type deliveries struct {
	URL      string             `json:"url"`
	State    string             `json:"state"`
	Delivery string             `json:"delivery"`
	Attempts []protocol.Attempt `json:"attempts"`
}

// TestNotices has the ends of large batches told: to one who takes it at the third try, and to one who hangs, which delays nobody.
func TestNotices(t *testing.T) {
	t.Parallel()
	f, _ := roles(t)
	const hanging = 5 // more than may be told at once
	hung, slow := newReceiver(t, 0, true)
	for i := range hanging {
		batch := f.Small(fmt.Sprint("hung-", i), 20)
		f.SubmitJSON(t, batch, map[string]any{"webhook": map[string]any{"url": slow}})
	}
	if !mixtest.Until(limit, func() bool { return len(hung.taken()) > 0 }) {
		t.Fatal("nobody was told")
	}
	told, url := newReceiver(t, 2, false)
	batch := append(f.Small("told", 600), failing(f, "not", 10)...)
	id := f.SubmitJSON(t, batch, map[string]any{"label": "nightly", "webhook": map[string]any{"url": url, "secret": secret}})
	f.Check(t, id, batch, limit)
	var log deliveries
	if !mixtest.Until(limit, func() bool {
		return f.API.Get(t.Context(), "/v1/batches/"+id+"/webhook", &log) == nil && log.State == "delivered"
	}) {
		t.Fatalf("not delivered: %+v", log)
	}
	notices := told.taken()
	if len(notices) < 3 || len(log.Attempts) != 3 || strings.Contains(log.URL, "s3cret") || log.Attempts[0].Failure == nil || log.Attempts[0].Failure.Status != http.StatusInternalServerError {
		t.Errorf("%d notices; the log is %+v", len(notices), log)
	}
	for _, n := range notices {
		var what struct {
			Type  string            `json:"type"`
			Batch mixtest.BatchView `json:"batch"`
		}
		if !signed(n) || n.delivery != log.Delivery || json.Unmarshal(n.body, &what) != nil {
			t.Errorf("notice %s with %q: %s", n.delivery, n.signature, n.body)
		}
		if v := what.Batch; what.Type != "batch.ended" || v.ID != id || v.State != protocol.BatchCompletedWithErrors || v.Total != len(batch) || v.Counts["failed"] != 10 {
			t.Errorf("the notice tells %s", n.body)
		}
	}
	after := f.Small("after", 300) // while others still hang
	f.Check(t, f.Submit(t, after, ""), after, limit)
}

package happy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// asked notes the requests that a server got.
type asked struct {
	mu   sync.Mutex
	list []string
	body []byte // of the last POST
	head http.Header
}

func (a *asked) serve(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		a.mu.Lock()
		a.list = append(a.list, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Range")))
		if r.Method == http.MethodPost {
			a.body, a.head = body, r.Header
		}
		a.mu.Unlock()
		switch r.URL.Path {
		case "/none":
			w.WriteHeader(http.StatusNotFound)
		case "/file":
			w.Header().Set("ETag", `"strong"`)
			http.ServeContent(w, r, "file", time.Unix(1_700_000_000, 0), bytes.NewReader([]byte("123456789")))
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func (a *asked) requests() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.list
}

type planned struct {
	Items []struct {
		Action   string                 `json:"action"`
		Src      protocol.PlannedSource `json:"src"`
		Problems []protocol.PlanProblem `json:"problems"`
	} `json:"items"`
	Summary map[string]int64 `json:"summary"`
}

// TestPlanThenSubmit plans a batch, sees that nothing has happened, and then has it carried out.
func TestPlanThenSubmit(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *mixtest.Fleet) {
		var peer asked
		url := peer.serve(t)
		if err := os.WriteFile(filepath.Join(f.Dir, "there"), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		inBox := func(path string) map[string]any {
			return map[string]any{"type": "sandboxFileLocation", "sandbox": f.Sandbox, "path": path}
		}
		items := []map[string]any{
			{"src": mixtest.FromURL(url + "/file"), "dest": inBox("/new/dir/file"), "size": 9},
			{"src": mixtest.FromURL(url + "/file"), "dest": inBox("/there")},
			{"src": mixtest.FromURL(url + "/none"), "dest": f.ToObject("plan/none")},
			{"src": mixtest.FromURL(url + "/file"), "dest": f.ToObject("plan/file"), "sha256": strings.Repeat("0", 64)},
			{"src": map[string]any{"type": "objectLocation", "bucket": f.Bucket, "key": "plan/missing"}, "dest": inBox("/x")},
			{"src": inBox("/there"), "dest": map[string]any{"type": "httpPutLocation", "url": url + "/up"}},
		}
		answer, err := f.API.Call(t.Context(), http.MethodPost, "/v1/batches?plan=true", nil, map[string]any{"items": items})
		if err != nil || answer.Status != http.StatusOK {
			t.Fatalf("status %d, %v: %s", answer.Status, err, answer.Body)
		}
		var plan planned
		if err := json.Unmarshal(answer.Body, &plan); err != nil {
			t.Fatal(err)
		}
		want := []string{
			"copy", "overwrite", "fail source_http_404", "copy", "fail source_object_not_found", "copy not_checked",
		}
		if f.NATS == "" { // up makes the bucket when it is first written; until then there is none
			want[4] = "fail bucket_not_found"
		}
		var got []string
		for _, it := range plan.Items {
			text := it.Action
			for _, p := range it.Problems {
				text += " " + p.Code
			}
			got = append(got, text)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("actions (-want +got):\n%s\n%s", diff, answer.Body)
		}
		if want := map[string]int64{"total": 6, "copy": 3, "overwrite": 1, "fail": 2, "unknown": 0, "bytes": 30, "unknown_sizes": 0}; !maps.Equal(plan.Summary, want) {
			t.Errorf("summary %v, want %v", plan.Summary, want)
		}
		if src := plan.Items[0].Src; src.Size == nil || *src.Size != 9 || !src.Ranges || !src.StrongETag {
			t.Errorf("source %+v", src)
		}
		for _, request := range peer.requests() {
			if strings.HasPrefix(request, "PUT") || request == "GET /file" || request == "GET /none" {
				t.Errorf("a plan made the request %q", request)
			}
		}
		if entries, err := os.ReadDir(f.Dir); err != nil || len(entries) != 1 {
			t.Errorf("a plan left %v in the sandbox, %v", entries, err)
		}
		if _, err := f.API.Object(t.Context(), f.Bucket, "plan/file"); err == nil {
			t.Error("a plan wrote an object")
		}

		body := map[string]any{"items": items, "webhook": map[string]any{"url": url + "/hook", "secret": "0123456789abcdef"}, "label": "planned"}
		answer, err = f.API.Call(t.Context(), http.MethodPost, "/v1/batches", nil, body)
		if err != nil || answer.Status != http.StatusAccepted {
			t.Fatalf("status %d, %v: %s", answer.Status, err, answer.Body)
		}
		f.API.WaitFinal(t, answer.Batch(), limit)
		carriedOut(t, f, answer.Batch())
		toldOf(t, f, &peer, answer.Batch())
	})
}

// carriedOut compares the receipts with what was planned; that the digest is wrong only a copy could find out.
func carriedOut(t *testing.T, f *mixtest.Fleet, batch string) {
	t.Helper()
	receipts, err := f.API.Receipts(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range receipts {
		text := fmt.Sprint(r.State, " ", r.Status)
		if r.Failure != nil {
			text += " " + r.Failure.Code
		}
		got = append(got, text)
	}
	want := []string{
		"succeeded 200", "succeeded 200", "failed 404 source_http_404", "failed 200 source_sha256_mismatch",
		"failed 404 source_object_not_found", "succeeded 200",
	}
	if len(got) > 4 && f.NATS == "" && strings.HasSuffix(got[4], "bucket_not_found") {
		got[4] = want[4] // no item made the bucket
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("receipts (-want +got):\n%s", diff)
	}
	if host := receipts[2].Failure.Host; !strings.HasPrefix(host, "127.0.0.1:") {
		t.Errorf("host %q", host)
	}
	if _, err := f.API.Object(t.Context(), f.Bucket, "plan/file"); err == nil {
		t.Error("an object with the wrong digest became visible")
	}
}

// toldOf waits for the notice of the end and its receipt.
func toldOf(t *testing.T, f *mixtest.Fleet, peer *asked, batch string) {
	t.Helper()
	var log struct {
		State    string
		Delivery string
		Attempts []struct {
			Status int `json:"http_status"`
		}
	}
	if !mixtest.Until(limit, func() bool {
		return f.API.Get(t.Context(), "/v1/batches/"+batch+"/webhook", &log) == nil && log.State == "delivered"
	}) {
		t.Fatalf("the end was not told: %+v", log)
	}
	peer.mu.Lock()
	defer peer.mu.Unlock()
	var notice struct {
		Type  string `json:"type"`
		Batch struct {
			ID     string              `json:"id"`
			Label  string              `json:"label"`
			State  protocol.BatchState `json:"state"`
			Counts map[string]int      `json:"counts"`
		} `json:"batch"`
	}
	if err := json.Unmarshal(peer.body, &notice); err != nil || notice.Type != "batch.ended" || notice.Batch.ID != batch || notice.Batch.Label != "planned" ||
		notice.Batch.State != protocol.BatchCompletedWithErrors || notice.Batch.Counts["succeeded"] != 3 || notice.Batch.Counts["failed"] != 3 {
		t.Errorf("told %s (%v)", peer.body, err)
	}
	if peer.head.Get("Copyfleet-Delivery") != log.Delivery || !strings.HasPrefix(peer.head.Get("Copyfleet-Signature"), "t=") || len(log.Attempts) != 1 || log.Attempts[0].Status != 200 {
		t.Errorf("headers %v, log %+v", peer.head, log)
	}
}

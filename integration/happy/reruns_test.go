package happy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// TestFailedItemsRunAgain submits a batch of which some sources are missing, then has it repaired in each of the three ways: by a
// retry, as dead letters, and by its failed report.
func TestFailedItemsRunAgain(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *mixtest.Fleet) {
		const n = 600
		var manifest strings.Builder
		for i := range n {
			path := fmt.Sprint("/file/", i)
			if i%100 != 7 {
				f.Give(path, []byte("content of "+path))
			}
			fmt.Fprintf(&manifest, `{"id":"id-%d","src":{"type":"httpGetLocation","url":"%s%s?sig=s3cret"},"dest":{"type":"sandboxFileLocation","sandbox":%q,"path":"/out/%d"}}`+"\n", i, f.URL, path, f.Sandbox, i)
		}
		first := submit(t, f, "application/x-ndjson", []byte(manifest.String()))
		if v := f.API.WaitFinal(t, first, limit); v.State != protocol.BatchCompletedWithErrors || v.Counts["failed"] != 6 {
			t.Fatalf("%+v", v)
		}

		report := call(t, f, http.MethodGet, "/v1/batches/"+first+"/report.ndjson?state=failed", nil, http.StatusOK)
		if bytes.Count(report, []byte("\n")) != 6 || bytes.Contains(report, []byte("s3cret")) {
			t.Errorf("the failed report: %s", report)
		}
		if n := deadLetters(t, f); n != 6 {
			t.Errorf("%d dead letters", n)
		}
		for i := 7; i < n; i += 100 {
			path := fmt.Sprint("/file/", i)
			f.Give(path, []byte("content of "+path))
		}

		retried := again(t, f, "/v1/batches/"+first+"/retry", map[string]any{"filter": map[string]any{"items": []any{"id-7", 107}}})
		succeeds(t, f, retried, 2)
		driven := again(t, f, "/v1/dead-letters/redrive", map[string]any{
			"filter": map[string]any{"ids": []string{first + ".207", first + ".307"}},
			"patch":  map[string]any{"dest": map[string]any{"path_prefix": "/patched"}},
		})
		succeeds(t, f, driven, 2)
		if n := deadLetters(t, f); n != 2 {
			t.Errorf("%d dead letters are left", n)
		}
		for i, path := range map[int]string{7: "/out/7", 107: "/out/107", 207: "/patched/out/207", 307: "/patched/out/307"} {
			got, err := f.Arrived(t.Context(), &mixtest.Copy{Dest: mixtest.ToSandbox(path)})
			if err != nil || string(got) != fmt.Sprint("content of /file/", i) {
				t.Errorf("%s: %q %v", path, got, err)
			}
		}

		whole := call(t, f, http.MethodGet, "/v1/batches/"+first+"/report.csv?state=failed&secrets=true", nil, http.StatusOK)
		succeeds(t, f, submit(t, f, "text/csv", whole), 6)
		if v := f.API.WaitFinal(t, first, limit); v.Counts["failed"] != 6 || v.Counts["succeeded"] != n-6 {
			t.Errorf("the receipts of the first batch changed: %+v", v)
		}
	})
}

// submit posts a manifest and returns the new batch.
func submit(t *testing.T, f *mixtest.Fleet, media string, manifest []byte) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.API.URL+"/v1/batches", bytes.NewReader(manifest))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Authorization", "Bearer "+f.API.Key)
	req.Header.Set("Content-Type", media)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatalf("%d %v %s", resp.StatusCode, err, body)
	}
	return idOf(t, body)
}

func call(t *testing.T, f *mixtest.Fleet, method, path string, body any, status int) []byte {
	t.Helper()
	answer, err := f.API.Call(t.Context(), method, path, nil, body)
	if err != nil || answer.Status != status {
		t.Fatalf("%s %s: %d %v %s", method, path, answer.Status, err, answer.Body)
	}
	return answer.Body
}

// again runs items again and returns the new batch.
func again(t *testing.T, f *mixtest.Fleet, path string, body any) string {
	t.Helper()
	var v struct {
		Batch json.RawMessage `json:"batch"`
	}
	if err := json.Unmarshal(call(t, f, http.MethodPost, path, body, http.StatusAccepted), &v); err != nil {
		t.Fatal(err)
	}
	return idOf(t, v.Batch)
}

func succeeds(t *testing.T, f *mixtest.Fleet, id string, n int) {
	t.Helper()
	if v := f.API.WaitFinal(t, id, limit); v.State != protocol.BatchSucceeded || v.Total != n {
		t.Errorf("%+v", v)
	}
}

func deadLetters(t *testing.T, f *mixtest.Fleet) int {
	t.Helper()
	var page struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := f.API.Get(t.Context(), "/v1/dead-letters", &page); err != nil {
		t.Fatal(err)
	}
	return len(page.Items)
}

func idOf(t *testing.T, batch []byte) string {
	t.Helper()
	var v struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(batch, &v); err != nil || v.ID == "" {
		t.Fatalf("%v %s", err, batch)
	}
	return v.ID
}

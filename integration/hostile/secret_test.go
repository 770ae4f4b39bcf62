package hostile

import (
	"bytes"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// TestNoSecretShows sends credentials in every place that may hold one, lets some items fail, and looks for them in
// the log, the receipts and everything that was stored.
func TestNoSecretShows(t *testing.T) {
	t.Parallel()
	f, p := up(t, "LOG_LEVEL=DEBUG")
	_, rest, _ := strings.Cut(p.Log(), `"data":"`)
	data, _, _ := strings.Cut(rest, `"`)
	const secret = "s3cr3t-f9c1"
	query := "?X-Amz-Signature=" + secret
	headers := map[string]any{"Authorization": "Bearer " + secret, "X-Token": secret}
	f.FromSandbox(t, "/src", []byte("x"))
	get := func(url string) map[string]any {
		return map[string]any{"type": "httpGetLocation", "url": url + query, "headers": headers}
	}
	form := map[string]any{"type": "httpPostFormLocation", "url": f.URL + "/form" + query, "form": map[string]any{"policy": secret}, "headers": headers}
	batch := mixtest.Batch{
		{ID: "ok", Src: get(f.Give("/ok", []byte("x"))), Dest: mixtest.ToSandbox("/ok")},
		{ID: "missing", Src: get(f.URL + "/missing"), Dest: mixtest.ToSandbox("/a")},
		{ID: "refused", Src: get("http://127.0.0.1:1/x"), Dest: mixtest.ToSandbox("/b")},
		{ID: "nohost", Src: get("http://no-such-host.invalid/x"), Dest: mixtest.ToSandbox("/c")},
		{ID: "forbidden", Src: get("http://10.0.0.1/x"), Dest: mixtest.ToSandbox("/d")},
		{ID: "put", Src: mixtest.ToSandbox("/src"), Dest: map[string]any{"type": "httpPutLocation", "url": "http://127.0.0.1:1/p" + query, "headers": headers}},
		{ID: "form", Src: mixtest.ToSandbox("/src"), Dest: form},
	}
	answer, err := f.API.Copy(t.Context(), f.Sandbox, map[string]string{"Idempotency-Key": "k"}, batch.Files())
	if err != nil || answer.Status != http.StatusOK {
		t.Fatalf("status %d, %v", answer.Status, err)
	}
	items, err := f.API.Call(t.Context(), http.MethodGet, "/v1/batches/"+answer.Batch()+"/items", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	refused, err := f.API.Copy(t.Context(), f.Sandbox, nil, mixtest.Batch{{ID: "bad", Src: get("ftp://host/"), Dest: form}}.Files())
	if err != nil || refused.Status != http.StatusBadRequest {
		t.Fatalf("status %d, %v", refused.Status, err)
	}
	p.Signal(t, syscall.SIGTERM)
	p.Wait(t)
	for place, text := range map[string]string{"the answer": string(answer.Body), "the receipts": string(items.Body), "a refusal": string(refused.Body), "the log": p.Log()} {
		if strings.Contains(text, secret) {
			at := strings.Index(text, secret)
			t.Errorf("%s shows a credential: …%s…", place, text[max(0, at-200):min(len(text), at+50)])
		}
	}
	looked := 0
	err = filepath.WalkDir(filepath.Join(data, "nats"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		looked += len(content)
		for _, word := range []string{secret, f.API.Key} {
			if bytes.Contains(content, []byte(word)) {
				t.Errorf("%s holds %s", path, word)
			}
		}
		return err
	})
	if err != nil || looked == 0 {
		t.Fatalf("looked at %d bytes, %v", looked, err)
	}
}

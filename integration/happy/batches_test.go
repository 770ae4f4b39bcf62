package happy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

func TestBatchAndItemsAreShown(t *testing.T) {
	t.Parallel()
	f := up(t)
	var batch mixtest.Batch
	for i := range 10 {
		c := mixtest.Copy{ID: fmt.Sprint("id-", i), Src: mixtest.FromURL(f.Give(fmt.Sprint("/", i), []byte("12345"))), Dest: mixtest.ToSandbox(fmt.Sprint("/", i))}
		if i%5 == 0 {
			c.Src = mixtest.FromURL(f.URL + "/missing")
		}
		batch = append(batch, c)
	}
	answer, err := f.API.Copy(t.Context(), f.Sandbox, nil, batch.Files())
	if err != nil {
		t.Fatal(err)
	}
	view, err := f.API.Batch(t.Context(), answer.Batch())
	if err != nil || view.State != protocol.BatchCompletedWithErrors || view.Total != 10 || view.Bytes != 40 || view.Counts["succeeded"] != 8 || view.Counts["failed"] != 2 {
		t.Errorf("%+v, %v", view, err)
	}
	var seen []string
	for cursor, pages := "", 0; pages < 5; pages++ {
		page := items(t, f, answer.Batch(), "limit=3&cursor="+cursor)
		for _, r := range page.Items {
			seen = append(seen, r.ID)
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if got, want := strings.Join(seen, " "), "id-0 id-1 id-2 id-3 id-4 id-5 id-6 id-7 id-8 id-9"; got != want {
		t.Errorf("the pages show %s", got)
	}
	failed := items(t, f, answer.Batch(), "state=failed")
	if len(failed.Items) != 2 || failed.Items[1].Index != 5 || failed.Items[1].Failure.Status != 404 || failed.Items[1].Failure.Class != protocol.NotFound {
		t.Errorf("the failed ones: %+v", failed.Items)
	}
	for query, status := range map[string]int{"limit=0": 400, "limit=x": 400, "limit=1001": 400, "cursor=x": 400, "state=x": 400, "limit=1000": 200} {
		if answer, err := f.API.Call(t.Context(), http.MethodGet, "/v1/batches/"+answer.Batch()+"/items?"+query, nil, nil); err != nil || answer.Status != status {
			t.Errorf("?%s: status %d, %v, want %d", query, answer.Status, err, status)
		}
	}
	for _, id := range []string{"bat_00000000000000000000000000", "x"} {
		if answer, err := f.API.Call(t.Context(), http.MethodGet, "/v1/batches/"+id, nil, nil); err != nil || answer.Status != http.StatusNotFound {
			t.Errorf("batch %s: status %d, %v", id, answer.Status, err)
		}
	}
}

type itemsPage struct {
	Items []protocol.Receipt `json:"items"`
	Next  string             `json:"next_cursor"`
}

func items(t *testing.T, f *mixtest.Fleet, batch, query string) itemsPage {
	t.Helper()
	var page itemsPage
	if err := f.API.Get(t.Context(), "/v1/batches/"+batch+"/items?"+query, &page); err != nil {
		t.Fatal(err)
	}
	return page
}

// TestWaitingItemsAreShown looks at a batch while one item runs and others wait for its slot.
func TestWaitingItemsAreShown(t *testing.T) {
	t.Parallel()
	f := up(t, "SLOTS=1")
	gate := make(chan struct{})
	var batch mixtest.Batch
	for i := range 3 {
		name := fmt.Sprint("/", i)
		batch = append(batch, mixtest.Copy{ID: "id" + name, Src: mixtest.FromURL(f.GiveHalf(name, random(100), gate)), Dest: mixtest.ToSandbox(name)})
	}
	answer, err := f.API.Copy(t.Context(), f.Sandbox, map[string]string{"Prefer": "respond-async"}, batch.Files())
	if err != nil {
		t.Fatal(err)
	}
	var view mixtest.BatchView
	if !mixtest.Until(limit, func() bool { view, err = f.API.Batch(t.Context(), answer.Batch()); return view.Counts["running"] == 1 }) {
		t.Fatalf("%+v, %v", view, err)
	}
	if view.State != protocol.BatchRunning || view.Counts["queued"] != 2 {
		t.Errorf("%+v", view)
	}
	page := items(t, f, answer.Batch(), "")
	for i, r := range page.Items {
		want := protocol.ItemQueued
		if i == 0 {
			want = protocol.ItemRunning
		}
		if r.ID != batch[i].ID || r.State != want {
			t.Errorf("item %d: %+v", i, r)
		}
	}
	close(gate)
	f.API.WaitFinal(t, answer.Batch(), limit)
}

func TestPresignedFormKeepsItsPolicy(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *mixtest.Fleet) {
		form := presign(t, f, map[string]any{"method": "POST", "key": "form", "min_size": 2, "max_size": 4, "content_type": "text/plain"})
		for content, ok := range map[string]bool{"1": false, "12": true, "1234": true, "12345": false} {
			if status := postForm(t, form, content); (status/100 == 2) != ok {
				t.Errorf("%d bytes: status %d", len(content), status)
			}
		}
	})
}

func postForm(t *testing.T, p presigned, content string) int {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for name, value := range p.Form {
		if err := w.WriteField(name, value); err != nil {
			t.Fatal(err)
		}
	}
	file, err := w.CreateFormFile("file", "f")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = file.Write([]byte(content))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL, &body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	req.Close = true
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// TestGrants shows that an org uses only the buckets it was granted, by the command that grants them.
func TestGrants(t *testing.T) {
	t.Parallel()
	f := roles(t)
	use := func(key string) (int, string) {
		dest := map[string]any{"type": "objectLocation", "bucket": f.Bucket, "key": key}
		batch := mixtest.Batch{{ID: "x", Src: mixtest.FromURL(f.Give("/x", []byte("x"))), Dest: dest}}
		answer, err := f.API.Copy(t.Context(), f.Sandbox, nil, batch.Files())
		if err != nil {
			t.Fatal(err)
		}
		var problem struct {
			Code string `json:"code"`
		}
		_ = json.Unmarshal(answer.Body, &problem)
		return answer.Status, problem.Code
	}
	run := func(args ...string) {
		t.Helper()
		if out := f.Command(t, nil, append([]string{"orgs"}, args...)...); out.Exit != 0 {
			t.Fatalf("orgs %v: exit %d: %s%s", args, out.Exit, out.Stdout, out.Stderr)
		}
	}
	if status, code := use("a/b"); status != http.StatusOK {
		t.Fatalf("with a grant: %d %s", status, code)
	}
	run("revoke", f.API.Org, f.Bucket)
	if status, code := use("a/b"); status != http.StatusForbidden || code != "bucket_not_granted" {
		t.Errorf("without a grant: %d %s", status, code)
	}
	run("grant", f.API.Org, f.Bucket+"/a/")
	if status, code := use("a/b"); status != http.StatusOK {
		t.Errorf("below the prefix: %d %s", status, code)
	}
	if status, code := use("b/b"); status != http.StatusForbidden || code != "bucket_not_granted" {
		t.Errorf("beside the prefix: %d %s", status, code)
	}
	run("list", f.API.Org)
	if out := f.Command(t, []string{"API_KEY=wrong"}, "orgs", "list"); out.Exit != 4 {
		t.Errorf("with a wrong key: exit %d: %s", out.Exit, out.Stderr)
	}
}

package happy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// TestPublishedExamples sends the requests of the published page as they are, but for the host, and compares the answers.
func TestPublishedExamples(t *testing.T) {
	t.Parallel()
	f := up(t)
	for _, path := range []string{"/file1.txt", "/file2.json", "/file3.csv", "/input-data.csv", "/datasets/training-data.csv", "/protected/file.dat"} {
		f.Give(path, []byte("content of "+path))
	}
	f.FromSandbox(t, "/home/agent/output.json", []byte("{}"))
	f.FromSandbox(t, "/home/agent/logs/process.log", []byte("log"))
	f.FromSandbox(t, "/home/agent/config/template.yaml", []byte("a: 1"))
	f.FromSandbox(t, "/home/agent/output/result.json", []byte("[]"))
	for _, example := range []struct{ name, request, answer string }{
		{"single download", `{"files":[{"id":"download-dataset","src":{"type":"httpGetLocation","url":"HOST/datasets/training-data.csv"},
			"dest":{"type":"sandboxFileLocation","path":"/home/agent/datasets/training-data.csv"}}]}`,
			`{"results":[{"id":"download-dataset","success":true}]}`},
		{"inside the sandbox", `{"files":[{"id":"copy-config","src":{"type":"sandboxFileLocation","path":"/home/agent/config/template.yaml"},
			"dest":{"type":"sandboxFileLocation","path":"/home/agent/config/production.yaml"}}]}`,
			`{"results":[{"id":"copy-config","success":true}]}`},
		{"mixed directions", `{"files":[
			{"id":"download-input","src":{"type":"httpGetLocation","url":"HOST/input-data.csv"},"dest":{"type":"sandboxFileLocation","path":"/home/agent/input.csv"}},
			{"id":"upload-result","src":{"type":"sandboxFileLocation","path":"/home/agent/output.json"},"dest":{"type":"httpPutLocation","url":"HOST/presigned-put-url-1"}},
			{"id":"upload-logs","src":{"type":"sandboxFileLocation","path":"/home/agent/logs/process.log"},"dest":{"type":"httpPutLocation","url":"HOST/presigned-put-url-2"}}]}`,
			`{"results":[{"id":"download-input","success":true},{"id":"upload-result","success":true},{"id":"upload-logs","success":true}]}`},
		{"partial failure", `{"files":[
			{"id":"file-1","src":{"type":"httpGetLocation","url":"HOST/file1.txt"},"dest":{"type":"sandboxFileLocation","path":"/home/agent/file1.txt"}},
			{"id":"file-2","src":{"type":"httpGetLocation","url":"HOST/missing.json"},"dest":{"type":"sandboxFileLocation","path":"/home/agent/file2.json"}},
			{"id":"file-3","src":{"type":"httpGetLocation","url":"HOST/file3.csv"},"dest":{"type":"sandboxFileLocation","path":"/home/agent/data/file3.csv"}}]}`,
			`{"results":[{"id":"file-1","success":true},{"id":"file-2","success":false,"error":"Failed to download file: 404 Not Found"},{"id":"file-3","success":true}]}`},
		{"custom headers", `{"files":[
			{"id":"authenticated-download","src":{"type":"httpGetLocation","url":"HOST/protected/file.dat","headers":{"Authorization":"Bearer secure-token-12345","X-Client-ID":"client-id","X-Request-ID":"req-abc-123"}},
			 "dest":{"type":"sandboxFileLocation","path":"/home/agent/secure/file.dat"}},
			{"id":"authenticated-upload","src":{"type":"sandboxFileLocation","path":"/home/agent/output/result.json"},
			 "dest":{"type":"httpPutLocation","url":"HOST/upload-endpoint","headers":{"Content-Type":"application/json","X-Upload-Token":"upload-token-xyz","X-Checksum":"md5-hash-value"}}}]}`,
			`{"results":[{"id":"authenticated-download","success":true},{"id":"authenticated-upload","success":true}]}`},
		{"no id, a null member", `{"files":[{"id":null,"src":{"type":"sandboxFileLocation","path":"/nothing/here"},"dest":{"type":"sandboxFileLocation","path":"/x"}}]}`,
			`{"results":[{"success":false,"error":"File not found in sandbox: /nothing/here"}]}`},
	} {
		body := json.RawMessage(strings.ReplaceAll(example.request, "HOST", f.URL))
		answer, err := f.API.Call(t.Context(), http.MethodPost, "/api/orgs/"+f.API.Org+"/sandboxes/"+f.Sandbox+"/file/copy", nil, body)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(decoded(t, []byte(example.answer)), decoded(t, answer.Body)); answer.Status != http.StatusOK || diff != "" {
			t.Errorf("%s: status %d (-want +got):\n%s", example.name, answer.Status, diff)
		}
	}
}

func decoded(t *testing.T, body []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return v
}

// download is a batch of one HTTP file into the sandbox.
func download(f *mixtest.Fleet, name string) []map[string]any {
	batch := mixtest.Batch{{ID: name, Src: mixtest.FromURL(f.Give("/"+name, []byte("content of "+name))), Dest: mixtest.ToSandbox("/" + name)}}
	return batch.Files()
}

func TestBothKindsOfAuthentication(t *testing.T) {
	t.Parallel()
	f := up(t)
	for _, row := range []struct {
		header map[string]string
		status int
	}{
		{map[string]string{"Authorization": "Bearer " + f.API.Key}, http.StatusOK},
		{map[string]string{"Authorization": "bearer " + f.API.Key}, http.StatusOK},
		{map[string]string{"Authorization": "", "X-Api-Key": f.API.Key}, http.StatusOK},
		{map[string]string{"Authorization": "Bearer wrong"}, http.StatusUnauthorized},
		{map[string]string{"Authorization": "", "X-Api-Key": "wrong"}, http.StatusUnauthorized},
		{map[string]string{"Authorization": "Bearer " + f.API.Key, "X-Api-Key": "other"}, http.StatusUnauthorized},
	} {
		answer, err := f.API.Copy(t.Context(), f.Sandbox, row.header, download(f, "a"))
		if err != nil || answer.Status != row.status {
			t.Errorf("%v: status %d, %v, want %d", row.header, answer.Status, err, row.status)
		}
	}
	f.API.Org = "ORG-other"
	if answer, err := f.API.Copy(t.Context(), f.Sandbox, nil, download(f, "a")); err != nil || answer.Status != http.StatusForbidden {
		t.Errorf("an org that is not the key's: status %d, %v", answer.Status, err)
	}
}

func TestPrefer(t *testing.T) {
	t.Parallel()
	f, patient := up(t, "MAX_WAIT=1s"), up(t)
	gate := make(chan struct{})
	slow := mixtest.Batch{{ID: "slow", Src: mixtest.FromURL(f.GiveHalf("/slow", random(4096), gate)), Dest: mixtest.ToSandbox("/slow")}}.Files()
	quick := download(patient, "quick")
	for _, row := range []struct {
		of      *mixtest.Fleet
		prefer  string
		files   any
		status  int
		applied []string
	}{
		{f, "respond-async", slow, http.StatusAccepted, []string{"respond-async"}},
		{f, "wait=0", slow, http.StatusAccepted, []string{"wait=0"}},
		{f, "respond-async, wait=1", slow, http.StatusAccepted, []string{"respond-async", "wait=1"}},
		{f, "", slow, http.StatusGatewayTimeout, nil}, // --max-wait
		{patient, "wait=240", quick, http.StatusOK, nil},
		{patient, "handling=lenient", quick, http.StatusOK, nil},
	} {
		answer, err := row.of.API.Copy(t.Context(), row.of.Sandbox, map[string]string{"Prefer": row.prefer}, row.files)
		if err != nil || answer.Status != row.status || !slices.Equal(answer.Header.Values("Preference-Applied"), row.applied) {
			t.Errorf("Prefer %q: status %d, applied %q, %v: %s", row.prefer, answer.Status, answer.Header.Values("Preference-Applied"), err, answer.Body)
			continue
		}
		if want := "/v1/batches/" + answer.Batch(); answer.Status != http.StatusOK && answer.Header.Get("Location") != want {
			t.Errorf("Prefer %q: Location %q, want %q", row.prefer, answer.Header.Get("Location"), want)
		}
		if answer.Status == http.StatusGatewayTimeout && !strings.Contains(string(answer.Body), `"code":"still_running"`) {
			t.Errorf("a call that waits no longer answers %s", answer.Body)
		}
	}
	answer, err := f.API.Copy(t.Context(), f.Sandbox, map[string]string{"Prefer": "respond-async"}, slow)
	if err != nil {
		t.Fatal(err)
	}
	close(gate)
	if view := f.API.WaitFinal(t, answer.Batch(), limit); view.State != protocol.BatchSucceeded {
		t.Errorf("the batch that nobody waited for: %+v", view)
	}
}

func TestCallerWhoHangsUpDoesNotStopTheBatch(t *testing.T) {
	t.Parallel()
	f := up(t)
	gate := make(chan struct{})
	batch := mixtest.Batch{{ID: "slow", Src: mixtest.FromURL(f.GiveHalf("/slow", random(4096), gate)), Dest: mixtest.ToSandbox("/slow"), Content: random(4096)}}
	ctx, hangUp := context.WithCancel(t.Context())
	key := map[string]string{"Idempotency-Key": "k"}
	ended := make(chan error, 1)
	go func() { _, err := f.API.Copy(ctx, f.Sandbox, key, batch.Files()); ended <- err }()
	if !mixtest.Until(limit, func() bool { return f.Asked("/slow") > 0 }) {
		t.Fatal("the copy did not begin")
	}
	hangUp()
	if err := <-ended; err == nil {
		t.Fatal("the call was answered")
	}
	close(gate)
	answer, err := f.API.Copy(t.Context(), f.Sandbox, key, batch.Files())
	if err != nil || answer.Status != http.StatusOK || !results(t, answer)[0].Success {
		t.Errorf("asking again: status %d, %v: %s", answer.Status, err, answer.Body)
	}
	if f.Asked("/slow") != 1 {
		t.Errorf("the source was asked %d times, want once", f.Asked("/slow"))
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	f := mixtest.NewUp(t, mixtest.Steady)
	process := f.Start(t, "up")
	key := map[string]string{"Idempotency-Key": "once"}
	files := download(f, "one")
	var batches []string
	var mu sync.Mutex
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			answer, err := f.API.Copy(t.Context(), f.Sandbox, key, files)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || answer.Status != http.StatusOK {
				t.Errorf("status %d, %v: %s", answer.Status, err, answer.Body)
			}
			batches = append(batches, answer.Batch())
		})
	}
	calls.Wait()
	process.Kill9(t)
	f.Start(t, "up")
	answer, err := f.API.Copy(t.Context(), f.Sandbox, key, files)
	if err != nil || answer.Status != http.StatusOK {
		t.Fatalf("after a restart: status %d, %v", answer.Status, err)
	}
	for _, b := range batches {
		if b != answer.Batch() {
			t.Errorf("batches %s and %s for one key", b, answer.Batch())
		}
	}
	if f.Asked("/one") != 1 {
		t.Errorf("the source was asked %d times, want once", f.Asked("/one"))
	}
	if other, err := f.API.Copy(t.Context(), f.Sandbox, key, download(f, "two")); err != nil || other.Status != http.StatusConflict {
		t.Errorf("the same key with another body: status %d, %v", other.Status, err)
	}
	if other, err := f.API.Copy(t.Context(), "SBX-other", key, files); err != nil || other.Status != http.StatusConflict {
		t.Errorf("the same key for another sandbox: status %d, %v", other.Status, err)
	}
}

func TestManyItemsInOrder(t *testing.T) {
	t.Parallel()
	f := up(t, "FILE_SYNC=off")
	var batch mixtest.Batch
	for i := range 3000 { // several chunks, many pages
		name := fmt.Sprintf("/many/%d", i)
		c := mixtest.Copy{ID: fmt.Sprint("id-", i), Src: mixtest.FromURL(f.URL + name), Dest: mixtest.ToSandbox(name)}
		if i%100 == 7 {
			c.Fails = protocol.NotFound
		} else {
			c.Content = []byte(name)
			f.Give(name, c.Content)
		}
		batch = append(batch, c)
	}
	got := copies(t, f, batch.Files())
	if len(got) != len(batch) {
		t.Fatalf("%d results, want %d", len(got), len(batch))
	}
	for i, r := range got {
		want := result{ID: batch[i].ID, Success: true}
		if batch[i].Fails != "" {
			want = result{ID: batch[i].ID, Error: "Failed to download file: 404 Not Found"}
		}
		if r != want {
			t.Fatalf("result %d: %+v, want %+v", i, r, want)
		}
	}
}

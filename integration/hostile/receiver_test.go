package hostile

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// receive answers an upload by its path: /<status> after all of it, /busy/… at the second time only, the rest as named.
func receive(busy func(path string) bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		what := strings.Split(r.URL.Path, "/")[1]
		switch what {
		case "closes":
			_, _ = io.CopyN(io.Discard, r.Body, 1000)
			panic(http.ErrAbortHandler)
		case "early":
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusOK)
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil || n != r.ContentLength { // what the receiver needs to tell an upload that was broken off
			http.Error(w, "not whole", http.StatusTeapot)
			return
		}
		if what == "busy" && busy(r.URL.Path) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		status, err := strconv.Atoi(what)
		if err != nil {
			status = http.StatusCreated
		}
		w.WriteHeader(status)
	}
}

// TestReceiversThatRefuse uploads by PUT and by a form to receivers that do not take it, and checks text, class and how
// often it was tried: again only where that can help.
func TestReceiversThatRefuse(t *testing.T) {
	t.Parallel()
	f, _ := up(t)
	var receiver *visitors
	receiver = listenAt(t, "127.0.0.1", receive(func(path string) bool { return countPath(receiver, path) == 1 }))
	sizes := map[string]int{"/small": 4 << 10, "/large": 8 << 20} // large is more than the buffers of a connection hold
	for name, size := range sizes {
		f.FromSandbox(t, name, make([]byte, size))
	}
	rows := []struct {
		path, text string
		class      protocol.Class // "": it succeeds
		attempts   int
	}{
		{"/200", "", "", 1}, {"/204", "", "", 1}, {"/busy", "", "", 2},
		{"/400", "Failed to upload file: 400 Bad Request", protocol.Invalid, 1},
		{"/401", "Failed to upload file: 401 Unauthorized", protocol.Denied, 1},
		{"/403", "Failed to upload file: 403 Forbidden", protocol.Denied, 1},
		{"/404", "Failed to upload file: 404 Not Found", protocol.NotFound, 1},
		{"/409", "Failed to upload file: 409 Conflict", protocol.Conflict, 1},
		{"/413", "Failed to upload file: 413 Request Entity Too Large", protocol.TooLarge, 1},
		{"/500", "Failed to upload file: 500 Internal Server Error", protocol.Unavailable, protocol.DefaultMaxAttempts},
		{"/503", "Failed to upload file: 503 Service Unavailable", protocol.Unavailable, protocol.DefaultMaxAttempts},
		{"/507", "Failed to upload file: 507 Insufficient Storage", protocol.NoSpace, 1},
		{"/closes", "Failed to upload file: ", protocol.Unavailable, protocol.DefaultMaxAttempts},
		{"/early", "Failed to upload file: ", protocol.Interrupted, protocol.DefaultMaxAttempts},
	}
	var batch mixtest.Batch
	for _, row := range rows {
		src := "/small"
		if row.path == "/closes" || row.path == "/early" {
			src = "/large"
		}
		for _, kind := range []string{"put", "form"} {
			url := receiver.URL + row.path + "/" + kind
			dest := map[string]any{"type": "httpPutLocation", "url": url}
			if kind == "form" {
				dest = map[string]any{"type": "httpPostFormLocation", "url": url, "form": map[string]any{"key": "k"}, "fileField": "upload"}
			}
			batch = append(batch, mixtest.Copy{ID: kind + row.path, Src: mixtest.ToSandbox(src), Dest: dest})
		}
	}
	called, err := f.API.Copy(t.Context(), f.Sandbox, nil, batch.Files())
	if err != nil || called.Status != http.StatusOK {
		t.Fatalf("status %d, %v: %s", called.Status, err, called.Body)
	}
	receipts, err := f.API.Receipts(t.Context(), called.Batch())
	if err != nil || len(receipts) != len(batch) {
		t.Fatalf("%d receipts, %v", len(receipts), err)
	}
	for i, r := range receipts {
		row, failure := rows[i/2], protocol.Failure{}
		if r.Failure != nil {
			failure = *r.Failure
		}
		if failure.Class != row.class || !strings.HasPrefix(failure.Message, row.text) || len(r.Attempts) != row.attempts {
			t.Errorf("%s: %s after %d attempts, %+v; want %q %q after %d", batch[i].ID, r.State, len(r.Attempts), failure, row.class, row.text, row.attempts)
		}
		if succeeded := r.State == protocol.ItemSucceeded; succeeded != (row.class == "") || succeeded && r.Bytes != int64(sizes["/small"]) {
			t.Errorf("%s: %s, %d bytes", batch[i].ID, r.State, r.Bytes)
		}
		if asked := countPath(receiver, row.path+"/"+strings.Split(batch[i].ID, "/")[0]); asked != row.attempts {
			t.Errorf("%s: the receiver saw %d requests, the receipt tells %d attempts", batch[i].ID, asked, row.attempts)
		}
	}
}

func countPath(v *visitors, path string) int {
	n := 0
	for _, r := range v.visits() {
		if r.URL.Path == path {
			n++
		}
	}
	return n
}

// TestFormIsWhatReceiversExpect takes a form apart: fields first, the file last, under names that are hard to write.
func TestFormIsWhatReceiversExpect(t *testing.T) {
	t.Parallel()
	f, _ := up(t)
	got := make(chan []string, 1)
	receiver := listenAt(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		parts := []string{}
		reader, err := r.MultipartReader()
		for err == nil {
			part, next := reader.NextPart()
			if next != nil {
				break
			}
			content, _ := io.ReadAll(part)
			parts = append(parts, fmt.Sprintf("%s|%s|%s", part.FormName(), part.FileName(), content))
		}
		got <- parts
		w.WriteHeader(http.StatusNoContent)
	})
	f.FromSandbox(t, "/päper \"q\".txt", []byte("content"))
	dest := map[string]any{"type": "httpPostFormLocation", "url": receiver.URL + "/", "fileField": "das \"File\"", "form": map[string]any{"key": "a\r\n--b", "ключ": "значение"}}
	batch := mixtest.Batch{{ID: "form", Src: mixtest.ToSandbox("/päper \"q\".txt"), Dest: dest}}
	called, err := f.API.Copy(t.Context(), f.Sandbox, nil, batch.Files())
	if err != nil || !strings.Contains(string(called.Body), `"success":true`) {
		t.Fatalf("status %d, %v: %s", called.Status, err, called.Body)
	}
	parts := <-got
	want := []string{"key||a\r\n--b", "ключ||значение"}
	if len(parts) != 3 || !(parts[0] == want[0] && parts[1] == want[1] || parts[0] == want[1] && parts[1] == want[0]) || parts[2] != "das %22File%22|päper %22q%22.txt|content" { // as browsers write quotes
		t.Errorf("the receiver got %q", parts)
	}
}

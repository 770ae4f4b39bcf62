package happy

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

var sizes = []int{0, 1, 4 << 10, 1<<20 + 3, 20 << 20}

func random(size int) []byte {
	content := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), 1}).Read(content)
	return content
}

// TestEveryPair copies from each kind of source to each kind of destination, of every size. What is uploaded by PUT or
// by a form goes into the object store through presigned URLs.
func TestEveryPair(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *mixtest.Fleet) {
		var batch mixtest.Batch
		var arrived []func() ([]byte, error)
		for _, size := range sizes {
			content := random(size)
			sources := map[string]map[string]any{
				"http":    mixtest.FromURL(f.Give(fmt.Sprintf("/%d", size), content)),
				"sandbox": f.FromSandbox(t, fmt.Sprintf("/in/%d", size), content),
				"object":  f.ToObject(fmt.Sprintf("in/%d", size)),
			}
			putObject(t, f, fmt.Sprintf("in/%d", size), content)
			for from, src := range sources {
				name := fmt.Sprintf("%s-%d", from, size)
				for to, dest := range destinations(t, f, name) {
					c := mixtest.Copy{ID: name + "-" + to, Src: src, Dest: dest.location, Content: content}
					batch, arrived = append(batch, c), append(arrived, dest.read)
				}
			}
		}
		if want := 12 * len(sizes); len(batch) != want {
			t.Fatalf("%d copies, want %d", len(batch), want)
		}
		answer, err := f.API.Copy(t.Context(), f.Sandbox, nil, batch.Files())
		if err != nil || answer.Status != http.StatusOK {
			t.Fatalf("status %d, %v: %s", answer.Status, err, answer.Body)
		}
		for i, r := range results(t, answer) {
			if r.ID != batch[i].ID || !r.Success {
				t.Errorf("item %d, %s: %+v", i, batch[i].ID, r)
				continue
			}
			if got, err := arrived[i](); err != nil || !bytes.Equal(got, batch[i].Content) {
				t.Errorf("%s: %d bytes arrived, %v, want %d", r.ID, len(got), err, len(batch[i].Content))
			}
		}
		checkReceipts(t, f, answer.Batch(), batch)
	})
}

func checkReceipts(t *testing.T, f *mixtest.Fleet, id string, batch mixtest.Batch) {
	t.Helper()
	receipts, err := f.API.Receipts(t.Context(), id)
	if err != nil || len(receipts) != len(batch) {
		t.Fatalf("%d receipts, %v, want %d", len(receipts), err, len(batch))
	}
	for i, r := range receipts {
		sha256 := mixtest.SHA256(batch[i].Content)
		if r.Method == protocol.MethodServerCopy {
			sha256 = "" // nobody read it
		}
		if r.State != protocol.ItemSucceeded || r.SHA256 != sha256 || r.Bytes != int64(len(batch[i].Content)) || !r.Verified || len(r.TraceID) != 32 {
			t.Errorf("the receipt of %s: %+v", batch[i].ID, r)
		}
	}
}

type destination struct {
	location map[string]any
	read     func() ([]byte, error)
}

func destinations(t *testing.T, f *mixtest.Fleet, name string) map[string]destination {
	t.Helper()
	object := func(key string) func() ([]byte, error) {
		return func() ([]byte, error) { return f.API.Object(t.Context(), f.Bucket, key) }
	}
	path := "/out/" + name
	put := presign(t, f, map[string]any{"method": "PUT", "key": "put/" + name})
	form := presign(t, f, map[string]any{"method": "POST", "key": "form/" + name})
	return map[string]destination{
		"sandbox": {mixtest.ToSandbox(path), func() ([]byte, error) {
			return f.Arrived(t.Context(), &mixtest.Copy{Dest: mixtest.ToSandbox(path)})
		}},
		"put":    {map[string]any{"type": "httpPutLocation", "url": put.URL, "headers": put.Headers}, object("put/" + name)},
		"form":   {map[string]any{"type": "httpPostFormLocation", "url": form.URL, "form": form.Form, "fileField": "file"}, object("form/" + name)},
		"object": {f.ToObject("out/" + name), object("out/" + name)},
	}
}

// putObject uploads by a presigned PUT, as a caller of ours would.
func putObject(t *testing.T, f *mixtest.Fleet, key string, content []byte) {
	t.Helper()
	p := presign(t, f, map[string]any{"method": "PUT", "key": key, "content_type": "application/x-test"})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, p.URL, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range maps.All(p.Headers) {
		req.Header.Set(name, value)
	}
	req.Close = true
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("PUT %s: %s", key, resp.Status)
	}
}

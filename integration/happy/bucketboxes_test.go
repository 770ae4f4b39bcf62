package happy

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// inBucket runs a test on both kinds of fleet, with the sandboxes below "boxes" in a bucket of their own.
func inBucket(t *testing.T, test func(t *testing.T, f *mixtest.Fleet, bucket string)) {
	t.Helper()
	bucket := "boxes-" + strings.ToLower(rand.Text()[:8])
	place := []string{"SANDBOXES=s3://" + bucket + "/boxes", "AUTO_BUCKETS=true"}
	t.Run("up", func(t *testing.T) { t.Parallel(); test(t, up(t, place...), bucket) })
	t.Run("roles", func(t *testing.T) { t.Parallel(); test(t, roles(t, place...), bucket) })
}

// TestEveryPairInBucket copies from each kind of source to each kind of destination where sandboxes are in a bucket. What is in
// them is laid out and read by copies.
func TestEveryPairInBucket(t *testing.T) {
	t.Parallel()
	inBucket(t, func(t *testing.T, f *mixtest.Fleet, bucket string) {
		var in, batch, back mixtest.Batch
		var arrived []func() ([]byte, error)
		for _, size := range sizes {
			content, path := random(size), fmt.Sprintf("/in/%d", size)
			url := mixtest.FromURL(f.Give(path, content))
			in = append(in, mixtest.Copy{ID: path, Src: url, Dest: mixtest.ToSandbox(path), Content: content})
			putObject(t, f, path[1:], content)
			for from, src := range map[string]map[string]any{"http": url, "sandbox": mixtest.ToSandbox(path), "object": f.ToObject(path[1:])} {
				name := fmt.Sprintf("%s-%d", from, size)
				for to, dest := range destinations(t, f, name) {
					batch = append(batch, mixtest.Copy{ID: name + "-" + to, Src: src, Dest: dest.location, Content: content})
					if to == "sandbox" {
						back = append(back, mixtest.Copy{ID: name, Src: dest.location, Dest: f.ToObject("back/" + name), Content: content})
						dest.read = func() ([]byte, error) { return f.API.Object(t.Context(), f.Bucket, "back/"+name) }
					}
					arrived = append(arrived, dest.read)
				}
			}
		}
		for _, stage := range []mixtest.Batch{in, batch, back} {
			answer, err := f.API.Copy(t.Context(), f.Sandbox, nil, stage.Files())
			if err != nil || answer.Status != http.StatusOK {
				t.Fatalf("status %d, %v: %s", answer.Status, err, answer.Body)
			}
			for i, r := range results(t, answer) {
				if !r.Success {
					t.Errorf("%s: %+v", stage[i].ID, r)
				}
			}
			checkReceipts(t, f, answer.Batch(), stage)
		}
		for i, read := range arrived {
			if got, err := read(); err != nil || !bytes.Equal(got, batch[i].Content) {
				t.Errorf("%s: %d bytes arrived, %v, want %d", batch[i].ID, len(got), err, len(batch[i].Content))
			}
		}
		guarded(t, f, bucket)
	})
}

// guarded goes for files of sandboxes as objects.
func guarded(t *testing.T, f *mixtest.Fleet, bucket string) {
	t.Helper()
	grant, err := f.API.Call(t.Context(), http.MethodPut, "/v1/orgs/"+f.API.Org+"/grants", nil, map[string]any{"bucket": bucket})
	if err != nil || grant.Status/100 != 2 {
		t.Fatalf("grant: %d, %v: %s", grant.Status, err, grant.Body)
	}
	key := fmt.Sprintf("boxes/%s/%s/in/1", f.API.Org, f.Sandbox)
	for _, method := range []string{"GET", "PUT", "POST"} {
		answer, err := f.API.Call(t.Context(), http.MethodPost, "/v1/presign", nil, map[string]any{"method": method, "bucket": bucket, "key": key})
		if err != nil || answer.Status != http.StatusForbidden {
			t.Errorf("%s of a sandbox's file is presigned: %d, %v: %s", method, answer.Status, err, answer.Body)
		}
	}
	object := map[string]any{"type": "objectLocation", "bucket": bucket, "key": key}
	for i, r := range copies(t, f, []map[string]any{
		{"src": object, "dest": mixtest.ToSandbox("/stolen")}, {"src": mixtest.FromURL(f.Give("/spoil", []byte("spoil"))), "dest": object},
	}) {
		if r.Success {
			t.Errorf("copy %d of a sandbox's file as an object succeeds", i)
		}
	}
}

// TestTextsInBucket asks for what is not there and may not be: the texts are those of directories.
func TestTextsInBucket(t *testing.T) {
	t.Parallel()
	inBucket(t, func(t *testing.T, f *mixtest.Fleet, _ string) {
		for i, r := range copies(t, f, []map[string]any{
			{"src": mixtest.ToSandbox("/not/there"), "dest": mixtest.ToSandbox("/x")},
			{"src": mixtest.ToSandbox("/not//../not/there"), "dest": mixtest.ToSandbox("/x")},
		}) {
			if r.Success || r.Error != "File not found in sandbox: /not/there" {
				t.Errorf("copy %d: %+v", i, r)
			}
		}
	})
}

// TestConflictsInBucket asks for every policy where something is in the way.
func TestConflictsInBucket(t *testing.T) {
	t.Parallel()
	inBucket(t, func(t *testing.T, f *mixtest.Fleet, _ string) {
		old, other := []byte("what is there"), mixtest.FromURL(f.Give("/other", []byte("something else")))
		same := mixtest.FromURL(f.Give("/same", old))
		box := func(path string) map[string]any {
			return map[string]any{"type": "sandboxFileLocation", "sandbox": f.Sandbox, "path": path}
		}
		run := func(items ...map[string]any) []protocol.ItemState {
			t.Helper()
			answer, err := f.API.Call(t.Context(), http.MethodPost, "/v1/batches", nil, map[string]any{"items": items})
			if err != nil || answer.Status != http.StatusAccepted {
				t.Fatalf("%d, %v: %s", answer.Status, err, answer.Body)
			}
			id := answer.Batch()
			f.API.WaitFinal(t, id, limit)
			receipts, err := f.API.Receipts(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			states := make([]protocol.ItemState, len(receipts))
			for i, r := range receipts {
				states[i] = r.State
			}
			return states
		}
		var lay, items []map[string]any
		for _, policy := range []string{"skip", "fail", "if_different", "overwrite"} {
			lay = append(lay, map[string]any{"src": same, "dest": box("/" + policy)})
			items = append(items, map[string]any{"src": other, "dest": box("/" + policy), "conflict": policy})
		}
		items = append(items, map[string]any{"src": same, "dest": box("/new"), "conflict": "fail"}, map[string]any{"src": box("/new"), "dest": box("/newer"), "conflict": "skip"})
		run(lay...)
		run(items[4])
		got := fmt.Sprint(run(append(items[:4:4], items[5])...))
		if want := fmt.Sprint([]protocol.ItemState{
			protocol.ItemSkipped, protocol.ItemFailed, protocol.ItemSucceeded, protocol.ItemSucceeded, protocol.ItemSucceeded,
		}); got != want {
			t.Errorf("the items ended as %s, want %s", got, want)
		}
	})
}

package transfer

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/protocol"
)

func inBox(sandbox, path string) map[string]any {
	return map[string]any{"type": string(protocol.SandboxFile), "sandbox": sandbox, "path": path}
}

// actions are what a plan says of items.
func (f *fleet) actions(t *testing.T, items ...item) []string {
	t.Helper()
	list := make([]map[string]any, len(items))
	for n, i := range items {
		list[n] = map[string]any{"id": i.id, "src": f.placed(i.src), "dest": f.placed(i.dest), "conflict": i.more["conflict"]}
	}
	answer, err := f.API.Call(t.Context(), http.MethodPost, "/v1/batches?plan=true", nil, map[string]any{"items": list})
	if err != nil || answer.Status != http.StatusOK {
		t.Fatalf("plan: %d %v %s", answer.Status, err, answer.Body)
	}
	var plan struct {
		Items []struct {
			Action string `json:"action"`
		} `json:"items"`
	}
	if err := json.Unmarshal(answer.Body, &plan); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range plan.Items {
		got = append(got, i.Action)
	}
	return got
}

// TestBucketSandboxesHoldToPolicies copies a large file into a sandbox that is kept in a bucket, from there into another one, and then asks for
// both again under each policy. Plans say beforehand what becomes of it.
func TestBucketSandboxesHoldToPolicies(t *testing.T) {
	t.Parallel()
	f := newBoxFleet(t, miniotest.Shared(t), 2, small...)
	file, other := content{21, 24*mib + 5}, content{22, 24*mib + 5}
	f.give("/file", served{content: file})
	f.give("/other", served{content: other})
	in := item{id: "in", src: f.from("/file"), dest: inBox("SBX-a", "/deep/in/file"), content: file, more: map[string]any{"conflict": "fail"}}
	over := item{id: "over", src: in.dest, dest: inBox("SBX-b", "/file"), content: file, more: map[string]any{"conflict": "overwrite"}}

	if diff := cmp.Diff([]string{"copy"}, f.actions(t, in)); diff != "" {
		t.Errorf("the plan of a copy into a sandbox (-want +got):\n%s", diff)
	}
	if r := f.check(t, f.submit(t, "", in), in)[0]; r.Method != protocol.MethodParts || !r.Verified {
		t.Errorf("into a sandbox: method %q, verified %v", r.Method, r.Verified)
	}
	if diff := cmp.Diff([]string{"copy"}, f.actions(t, over)); diff != "" {
		t.Errorf("the plan of a copy between sandboxes (-want +got):\n%s", diff)
	}
	if r := f.check(t, f.submit(t, "", over), over)[0]; r.Method != protocol.MethodServerCopy || !r.Verified || r.Attempts[0].Bytes != 0 {
		t.Errorf("from sandbox to sandbox: method %q, verified %v, %d bytes read", r.Method, r.Verified, r.Attempts[0].Bytes)
	}

	again := func(id string, src map[string]any, i item, policy string) item {
		return item{id: id, src: src, dest: i.dest, content: i.content, more: map[string]any{"conflict": policy}}
	}
	items := []item{
		again("skip", f.from("/other"), in, "skip"),
		again("fail", f.from("/other"), in, "fail"),
		again("skip-copy", in.dest, over, "skip"),
		again("fail-copy", in.dest, over, "fail"),
		again("same-copy", in.dest, over, "if_different"),
	}
	if diff := cmp.Diff([]string{"skip", "fail", "skip", "fail", "skip"}, f.actions(t, items...)); diff != "" {
		t.Errorf("the plan of what is there already (-want +got):\n%s", diff)
	}
	id := f.submit(t, "", items...)
	f.API.WaitFinal(t, id, settles)
	receipts, err := f.API.Receipts(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var ends []string
	for n := range receipts {
		r := &receipts[n]
		end := string(r.State) + " " + r.SkipReason
		if r.Failure != nil {
			end += string(r.Failure.Class) + " " + r.Failure.Code
		}
		ends = append(ends, end)
		if size, sum := f.arrived(t, items[n]); size != file.size || sum != file.sha256() {
			t.Errorf("%s: the destination became %d bytes, %s", r.ID, size, sum)
		}
	}
	want := []string{"skipped exists", "failed conflict destination_exists", "skipped exists", "failed conflict destination_exists", "skipped same"}
	if diff := cmp.Diff(want, ends); diff != "" {
		t.Errorf("ends (-want +got):\n%s", diff)
	}
	if n := f.file(item{id: "other"}).given.Load(); n != 0 {
		t.Errorf("%d bytes were read of a source that is not to be opened", n)
	}

	changed := item{id: "changed", src: f.from("/other"), dest: in.dest, content: other, more: map[string]any{"conflict": "if_different"}}
	f.check(t, f.submit(t, "", changed), changed)
	anew := item{id: "anew", src: changed.dest, dest: over.dest, content: other, more: map[string]any{"conflict": "if_different"}}
	if r := f.check(t, f.submit(t, "", anew), anew)[0]; r.Method != protocol.MethodServerCopy {
		t.Errorf("what is different was copied by %q", r.Method)
	}
}

package happy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// TestConflictPolicies asks for every policy where there is nothing, something, and the same, in a sandbox and in a bucket; sees it planned,
// carried out, counted and reported; and runs the report of what failed once more.
func TestConflictPolicies(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *mixtest.Fleet) {
		const ours, theirs = "what the source has", "something else here"
		var gets atomic.Int32
		peer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				gets.Add(1)
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(ours)))
			_, _ = w.Write([]byte(ours))
		}))
		t.Cleanup(peer.Close)
		box := func(path string) map[string]any {
			return map[string]any{"type": "sandboxFileLocation", "sandbox": f.Sandbox, "path": path}
		}
		type row struct{ policy, there, action, end string }
		rows := []row{
			{"overwrite", theirs, "overwrite", "succeeded"},
			{"skip", "", "copy", "succeeded"},
			{"skip", theirs, "skip", "skipped exists"},
			{"fail", "", "copy", "succeeded"},
			{"fail", theirs, "fail", "failed conflict/destination_exists"},
			{"if_different", "", "copy", "succeeded"},
			{"if_different", theirs, "if_different", "succeeded"},
			{"if_different", theirs + "!", "overwrite", "succeeded"},
			{"if_different", ours, "if_different", "skipped same"},
		}
		var batch mixtest.Batch // what lays out the destinations
		var list []map[string]any
		var want []string
		var actions []string
		for _, into := range []string{"box", "bucket"} {
			for i, row := range rows {
				name := fmt.Sprint("conflict/", i)
				dest := box("/" + name)
				if into == "bucket" {
					dest = f.ToObject(name)
				}
				if row.there != "" {
					src := f.FromSandbox(t, fmt.Sprint("/lay/", into, i), []byte(row.there))
					batch = append(batch, mixtest.Copy{ID: into + name, Src: src, Dest: dest})
				}
				list = append(list, map[string]any{"src": mixtest.FromURL(peer.URL), "dest": dest, "conflict": row.policy, "sha256": mixtest.SHA256([]byte(ours))})
				want, actions = append(want, row.end), append(actions, row.action)
			}
		}
		for i := range batch {
			delete(batch[i].Dest, "sandbox")
		}
		for _, r := range copies(t, f, batch.Files()) {
			if !r.Success {
				t.Fatalf("%+v", r)
			}
		}
		for i := range batch {
			if batch[i].Dest["type"] == "sandboxFileLocation" {
				batch[i].Dest["sandbox"] = f.Sandbox
			}
		}
		// In a bucket an ETag tells what is of the same size: no SHA-256 is known of objects here, and the HTTP source has no MD5.
		want[len(rows)+8], actions[len(rows)+8] = "succeeded", "if_different"

		answer, err := f.API.Call(t.Context(), http.MethodPost, "/v1/batches?plan=true", nil, map[string]any{"items": list})
		if err != nil || answer.Status != http.StatusOK {
			t.Fatalf("status %d, %v: %s", answer.Status, err, answer.Body)
		}
		var plan planned
		if err := json.Unmarshal(answer.Body, &plan); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, it := range plan.Items {
			got = append(got, it.Action)
		}
		if diff := cmp.Diff(actions, got); diff != "" {
			t.Errorf("actions (-want +got):\n%s", diff)
		}
		if plan.Summary["skip"] != 2 || plan.Summary["if_different"] != 4 || plan.Summary["fail"] != 2 {
			t.Errorf("summary %v", plan.Summary)
		}
		gets.Store(0)

		answer, err = f.API.Call(t.Context(), http.MethodPost, "/v1/batches", nil, map[string]any{"items": list})
		if err != nil || answer.Status != http.StatusAccepted {
			t.Fatalf("status %d, %v: %s", answer.Status, err, answer.Body)
		}
		view := f.API.WaitFinal(t, answer.Batch(), limit)
		receipts, err := f.API.Receipts(t.Context(), answer.Batch())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, endsOf(receipts)); diff != "" {
			t.Errorf("ends (-want +got):\n%s", diff)
		}
		var copied int32
		for i := range receipts {
			r := &receipts[i]
			checkPolicy(t, r)
			if r.State == protocol.ItemSucceeded {
				copied++
			}
			c := mixtest.Copy{Dest: list[i]["dest"].(map[string]any)}
			there, err := f.Arrived(t.Context(), &c)
			expect := rows[i%len(rows)].there
			if r.State == protocol.ItemSucceeded {
				expect = ours
			}
			if err != nil || string(there) != expect {
				t.Errorf("item %d: there is %q, want %q: %v", i, there, expect, err)
			}
		}
		if gets.Load() != copied {
			t.Errorf("the source was read %d times for %d copies", gets.Load(), copied)
		}
		if view.State != protocol.BatchCompletedWithErrors || view.Counts["skipped"] != 3 || view.Counts["failed"] != 2 || view.Ended() != len(list) {
			t.Errorf("%+v", view)
		}
		rerun(t, f, answer.Batch(), list)
	})
}

func endsOf(receipts []protocol.Receipt) []string {
	var list []string
	for i := range receipts {
		r := &receipts[i]
		text := string(r.State)
		if r.SkipReason != "" {
			text += " " + r.SkipReason
		}
		if r.Failure != nil {
			text += " " + string(r.Failure.Class) + "/" + r.Failure.Code
		}
		list = append(list, text)
	}
	return list
}

// checkPolicy looks at what a receipt says beside its state.
func checkPolicy(t *testing.T, r *protocol.Receipt) {
	t.Helper()
	if len(r.Attempts) != 1 {
		t.Fatalf("%+v", r)
	}
	switch r.State {
	case protocol.ItemSucceeded:
		if r.Method != protocol.MethodStream || r.SkipReason != "" || r.Attempts[0].Bytes == 0 {
			t.Errorf("%+v", r)
		}
	default:
		if r.Attempts[0].Bytes != 0 || r.Bytes != 0 || r.Method != "" {
			t.Errorf("%+v", r)
		}
	}
	if r.SkipReason == protocol.SkipSame && (!r.Verified || r.SHA256 == "") {
		t.Errorf("%+v", r)
	}
}

// rerun submits the report of the failed items, and has them retried: they fail in the same way, until what is there is gone.
func rerun(t *testing.T, f *mixtest.Fleet, batch string, list []map[string]any) {
	t.Helper()
	answer, err := f.API.Call(t.Context(), http.MethodGet, "/v1/batches/"+batch+"/report.csv?state=failed", nil, nil)
	if err != nil || !bytes.Contains(answer.Body, []byte(",fail,")) {
		t.Fatalf("%v: %s", err, answer.Body)
	}
	again := manifest(t, f, "text/csv", "", string(answer.Body))
	if view := f.API.WaitFinal(t, again, limit); view.Counts["failed"] != 2 {
		t.Errorf("the report of failed items ran otherwise: %+v", view)
	}
	if err := os.Remove(f.OnDisk("/conflict/4")); err != nil {
		t.Fatal(err)
	}
	answer, err = f.API.Call(t.Context(), http.MethodPost, "/v1/batches/"+batch+"/retry", nil, map[string]any{})
	if err != nil || answer.Status != http.StatusAccepted {
		t.Fatalf("status %d, %v: %s", answer.Status, err, answer.Body)
	}
	if view := f.API.WaitFinal(t, answer.Batch(), limit); view.Counts["succeeded"] != 1 || view.Counts["failed"] != 1 {
		t.Errorf("%+v", view)
	}
	// All that is there now is skipped, and a batch of which nothing failed has succeeded.
	var lines strings.Builder
	for _, it := range list {
		delete(it, "conflict")
		line, err := json.Marshal(it)
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(append(line, '\n'))
	}
	view := f.API.WaitFinal(t, manifest(t, f, "application/x-ndjson", "?conflict=skip&digest=sha256", lines.String()), limit)
	if view.State != protocol.BatchSucceeded || view.Counts["skipped"] != len(list) {
		t.Errorf("%+v", view)
	}
}

package protocol_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/protocol"
)

var update = flag.Bool("update", false, "write the golden messages of the current version")

// messages are one of each kind, with every field set. A golden file of an older version is never changed: it must decode
// for ever.
func messages() map[string]any {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	failure := &protocol.Failure{Class: protocol.NotFound, Code: "source_http_404", Message: "Failed to download file: 404 Not Found", Cause: "open https://h/f: the server refused", Hint: "Check the URL.", Status: 404}
	attempt := protocol.Attempt{Number: 1, Worker: "w1", Start: at, End: at.Add(time.Second), Bytes: 5, Failure: failure}
	receipt := protocol.Receipt{
		Index: 3, ID: "file-3", State: protocol.ItemFailed, Bytes: 5, SHA256: "ab", ETag: "cd", Verified: true, Failure: failure,
		Attempts: []protocol.Attempt{attempt}, ResumedFrom: 2, TraceID: "4bf92f3577b34da6a3ce929d0e0e4736",
	}
	ref := protocol.Ref{Org: "ORG", Batch: "bat_1", Index: 3}
	return map[string]any{
		"work": &protocol.Work{
			Version: protocol.WorkVersion, Org: "ORG", Batch: "bat_1", Index: 3, Total: 9, Chunks: 2, ID: "file-3", Lane: protocol.Bulk, Pool: "default",
			Shard: 5, Trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Sealed: []byte{1, 2, 3}, MaxAttempts: 7, Attempts: []protocol.Attempt{attempt},
		},
		"reports": &protocol.ReportBundle{Version: protocol.ReportVersion, Worker: "w1", Reports: []protocol.Report{{Ref: ref, Total: 9, Lane: protocol.Bulk, Receipt: receipt}}},
		"acceptance": &protocol.Acceptance{
			Version: protocol.AcceptanceVersion, Batch: "bat_1", Org: "ORG", Lane: protocol.Bulk, Pool: "default", Total: 9, Chunks: 2, Request: "ef", Keyed: true,
			State: protocol.AcceptPending, Generation: 1, Created: at, IDs: []string{"a", ""},
		},
		"summary": &protocol.Summary{
			Version: protocol.SummaryVersion, Batch: "bat_1", Org: "ORG", Lane: protocol.Bulk, Total: 9, State: protocol.BatchRunning,
			Tally:   protocol.Tally{Succeeded: 1, Failed: 2, Canceled: 3, Skipped: 4, Retrying: 5, Bytes: 6},
			Started: at, Ended: at, Receipts: []protocol.Receipt{receipt},
		},
		"page":  &protocol.Page{Version: protocol.SummaryVersion, First: 256, Receipts: []protocol.Receipt{receipt}},
		"claim": &protocol.Claim{Version: protocol.ClaimVersion, Worker: "w1", Written: at, Held: []protocol.HeldClaim{{Ref: ref, Fence: 11, Crashes: 2}}},
	}
}

func TestWireForms(t *testing.T) {
	t.Parallel()
	for name, want := range messages() {
		path := filepath.Join("testdata", name+".v1.json")
		if *update {
			data, err := json.MarshalIndent(want, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, append(data, '\n'), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got := newLike(want)
		if err := json.Unmarshal(golden, got); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s decodes to something else (-want +got):\n%s", path, diff)
		}
	}
}

func newLike(v any) any {
	switch v.(type) {
	case *protocol.Work:
		return &protocol.Work{}
	case *protocol.ReportBundle:
		return &protocol.ReportBundle{}
	case *protocol.Acceptance:
		return &protocol.Acceptance{}
	case *protocol.Summary:
		return &protocol.Summary{}
	case *protocol.Page:
		return &protocol.Page{}
	}
	return &protocol.Claim{}
}

func TestTallyTellsTheState(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		tally protocol.Tally
		total int
		want  protocol.BatchState
	}{
		{protocol.Tally{}, 3, protocol.BatchQueued},
		{protocol.Tally{Retrying: 1}, 3, protocol.BatchRunning},
		{protocol.Tally{Succeeded: 2}, 3, protocol.BatchRunning},
		{protocol.Tally{Succeeded: 3}, 3, protocol.BatchSucceeded},
		{protocol.Tally{Succeeded: 2, Skipped: 1}, 3, protocol.BatchSucceeded},
		{protocol.Tally{Succeeded: 2, Failed: 1}, 3, protocol.BatchCompletedWithErrors},
		{protocol.Tally{Failed: 3}, 3, protocol.BatchFailed},
		{protocol.Tally{Succeeded: 1, Canceled: 2}, 3, protocol.BatchCanceled},
		{protocol.Tally{Failed: 1, Canceled: 2}, 3, protocol.BatchCanceled},
		{protocol.Tally{}, 0, protocol.BatchFailed},
	} {
		if got := row.tally.State(row.total); got != row.want {
			t.Errorf("%+v of %d is %s, want %s", row.tally, row.total, got, row.want)
		}
	}
}

func TestTempTokensAreUniqueToAClaim(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, worker := range []string{"w1", "w2"} {
		for index := range 3 {
			for fence := range uint64(3) {
				token := protocol.TempToken(worker, protocol.HeldClaim{Ref: protocol.Ref{Org: "O", Batch: "b", Index: index}, Fence: fence})
				if seen[token] {
					t.Errorf("two claims share %s", token)
				}
				seen[token] = true
			}
		}
	}
	if a, b := protocol.TempToken("w", protocol.HeldClaim{Fence: 1, Crashes: 1}), protocol.TempToken("w", protocol.HeldClaim{Fence: 1}); a != b {
		t.Error("who reads a claim finds another token than its owner")
	}
}

package protocol_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
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
	failure := &protocol.Failure{Class: protocol.NotFound, Code: "source_http_404", Message: "Failed to download file: 404 Not Found", Cause: "open https://h/f: the server refused", Hint: "Check the URL.", Status: 404, Host: "h"}
	attempt := protocol.Attempt{Number: 1, Worker: "w1", Start: at, End: at.Add(time.Second), Bytes: 5, Resumes: 1, Failure: failure}
	receipt := protocol.Receipt{
		Index: 3, ID: "file-3", State: protocol.ItemFailed, Bytes: 5, SHA256: "ab", ETag: "cd", Verified: true, Failure: failure,
		Attempts: []protocol.Attempt{attempt}, ResumedFrom: 2, RestartReason: protocol.RestartSourceChanged, Method: protocol.MethodParts, SkipReason: protocol.SkipSame, Status: 404, RetryAt: at, TraceID: "4bf92f3577b34da6a3ce929d0e0e4736",
		Unpacked: &protocol.Unpacked{Files: 2, Bytes: 3},
	}
	part := protocol.PartState{Number: 2, Size: 4, ETag: "cd", Checksum: "crc64nvme:AAAA", Chain: []byte{1, 2}, Worker: "w1", Twice: true, Upload: "u", Failure: failure, Epoch: 4}
	ref := protocol.Ref{Org: "ORG", Batch: "bat_1", Index: 3, Part: 2}
	piece := protocol.UploadPart{Number: 2, Size: 4, SHA256: "ab", ETag: "cd", Checksum: "crc64nvme:AAAA", Stored: at, Lost: true}
	return map[string]any{
		"work": &protocol.Work{
			Version: protocol.WorkVersion, Org: "ORG", Batch: "bat_1", Index: 3, Total: 9, Chunks: 2, ID: "file-3", Lane: protocol.Bulk, Pool: "default", Kind: protocol.KindWebhook, Generation: 4, Recheck: true, Fence: 12,
			Shard: 5, Trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Sealed: []byte{1, 2, 3}, MaxAttempts: 7, Attempts: []protocol.Attempt{attempt}, Part: 2, Epoch: 4, Sweep: true,
		},
		"reports": &protocol.ReportBundle{Version: protocol.ReportVersion, Worker: "w1", Reports: []protocol.Report{{Ref: ref, Total: 9, Lane: protocol.Bulk, Receipt: receipt}}, Parts: []protocol.PartReport{{Ref: ref, Epoch: 4, State: part}}, Uploads: []protocol.UploadReport{{Org: "ORG", Sandbox: "sbx", Upload: "upl_1", Multipart: "plain.m", Part: piece}}},
		"upload": &protocol.Upload{
			Version: protocol.UploadVersion, ID: "upl_1", Org: "ORG", Sandbox: "sbx", Pool: "default", Request: "ef", Kind: protocol.UploadTree, Source: protocol.UploadArchive,
			TargetPath: "/workspace/d", Length: 9, PartSize: 5, PartCount: 2, Conflict: protocol.UploadMerge, User: "root", Archive: "tar", Whole: "ab", Metadata: []byte(`{ "m": 1 }`),
			Direct: true, Bucket: "copyfleet-staging", Key: "k", Multipart: "plain.m", State: protocol.UploadFailed, Generation: 2, Batch: "bat_1", Failure: failure,
			PublishedBytes: 7, PublishedFiles: 8, Created: at, Updated: at, Expires: at, Ended: at, Have: []byte{5, 1}, Cleaned: true,
		},
		"upload-page":     &protocol.UploadPage{Version: protocol.UploadVersion, Multipart: "plain.m", Parts: []protocol.UploadPart{piece}},
		"upload-progress": &protocol.UploadProgress{Version: protocol.UploadVersion, Have: []byte{5, 1}, Updated: at},
		"upload-quota":    &protocol.UploadQuota{Version: protocol.UploadVersion, Reserved: []protocol.ReservedUpload{{ID: "upl_1", Bytes: 9, Expires: at}}},
		"part-plan": &protocol.PartPlan{
			Version: protocol.PartVersion, Epoch: 4, Fence: 11, ETag: "e", Modified: at, Size: 9, ContentType: "text/csv", PartSize: 5, Count: 2, Upload: "u", Completing: true, Created: at, Spread: true, Settled: true, Stale: true,
			RestartReason: protocol.RestartSourceChanged,
		},
		"part-page": &protocol.PartPage{Version: protocol.PartVersion, Upload: "u", Parts: []protocol.PartState{part}},
		"acceptance": &protocol.Acceptance{
			Version: protocol.AcceptanceVersion, Batch: "bat_1", Org: "ORG", Lane: protocol.Bulk, Pool: "default", Total: 9, Chunks: 2, Request: "ef", Keyed: true,
			State: protocol.AcceptPending, Generation: 1, Created: at, IDs: []string{"a", ""},
			Manifest: []byte{1}, Label: "nightly", Trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", RerunOf: "bat_0", Upload: "upl_1",
			Options: protocol.Options{
				Attempts: 2, Canary: 3, Rate: 4.5, MaxFailed: protocol.Threshold{Given: true, Count: 1, Share: 0.5},
				Webhook: &protocol.Webhook{Sealed: []byte{2}, Shown: "https://h/hook"},
			},
		},
		"summary": &protocol.Summary{
			Version: protocol.SummaryVersion, Batch: "bat_1", Org: "ORG", Lane: protocol.Bulk, Total: 9, State: protocol.BatchRunning,
			Tally:   protocol.Tally{Succeeded: 1, Failed: 2, Canceled: 3, Skipped: 4, Retrying: 5, Bytes: 6},
			Started: at, Ended: at, Receipts: []protocol.Receipt{receipt}, Rest: protocol.ItemCanceled, Reason: protocol.ReasonMaxFailed, Unsure: []int{4, 7},
			Groups:     []protocol.ErrorGroup{{Class: protocol.NotFound, Code: "source_http_404", Host: "h", Count: 2, Example: 3, Message: "m"}},
			GroupsLeft: 1, Pace: protocol.Pace{At: at, Items: 1.5, Bytes: 2.5}, Webhook: &receipt,
		},
		"page":  &protocol.Page{Version: protocol.SummaryVersion, First: 256, Receipts: []protocol.Receipt{receipt}},
		"claim": &protocol.Claim{Version: protocol.ClaimVersion, Worker: "w1", Written: at, Pool: "default", Slots: 8, Held: []protocol.HeldClaim{{Ref: ref, Fence: 11, Crashes: 2}}},
		"control": &protocol.Control{
			Version: protocol.ControlVersion, Org: "ORG", Batch: "bat_1", Wanted: protocol.WantPause, Reason: protocol.ReasonCanary, At: at, Resumes: 2, CanaryDone: true,
		},
		"feed": &protocol.Feed{
			Version: protocol.FeedVersion, Org: "ORG", Batch: "bat_1", Next: 9, Redo: 1, RedoEnd: 8, Pass: 2, Owner: "a1", At: at, Created: at,
		},
		"waiting": &protocol.Work{
			Version: protocol.WorkVersion, Org: "ORG", Batch: "bat_1", Total: 9, Lane: protocol.Bulk, Pool: "default", Kind: protocol.KindWaiting, Generation: 4, Recheck: true,
			Shard: 5, Trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", MaxAttempts: 7,
			Host: &protocol.WaitingHost{Name: "https://h:443", Dest: true, Resting: true},
			Waiting: []protocol.WaitingWork{
				{Index: 3, ID: "file-3", Sealed: []byte{1, 2, 3}, Fence: 12, Attempts: []protocol.Attempt{attempt}, Since: at}, {Index: 4, ID: "file-4"},
			},
		},
		"plan-question": &protocol.PlanQuestion{Version: protocol.PlanVersion, Org: "ORG", Batch: "bat_1", Sealed: []byte{1, 2}, Within: time.Second},
		"plan-answer":   planAnswer(at, failure),
	}
}

func planAnswer(at time.Time, failure *protocol.Failure) *protocol.PlanAnswer {
	return &protocol.PlanAnswer{Version: protocol.PlanVersion, Failure: failure, Items: []protocol.PlannedItem{{
		Src: protocol.PlannedSource{Size: new(int64(5)), Status: 206, ContentType: "text/csv", ETag: "e", StrongETag: true, Modified: at, Ranges: true, ExpiresAt: at},
		Dest: protocol.PlannedDest{
			Checked: true, Exists: new(true), Size: new(int64(6)), Makes: "directory", FreeBytes: new(int64(7)), ExpiresAt: at, MaxBytes: new(int64(8)),
		},
		Action: protocol.PlanOverwrite, Problems: []protocol.PlanProblem{{Severity: protocol.PlanWarning, Side: "src", Failure: *failure}},
	}}}
}

// versions tells the current version of each kind. Golden files of earlier ones must still decode.
var versions = map[string]int{
	"work": protocol.WorkVersion, "waiting": protocol.WorkVersion, "reports": protocol.ReportVersion, "acceptance": protocol.AcceptanceVersion, "summary": protocol.SummaryVersion,
	"page": protocol.SummaryVersion, "claim": protocol.ClaimVersion, "control": protocol.ControlVersion, "feed": protocol.FeedVersion,
	"upload": protocol.UploadVersion, "upload-page": protocol.UploadVersion, "upload-progress": protocol.UploadVersion, "upload-quota": protocol.UploadVersion,
	"plan-question": protocol.PlanVersion, "part-plan": protocol.PartVersion, "part-page": protocol.PartVersion, "plan-answer": protocol.PlanVersion,
}

// since tells with which version a kind came that is newer than the first one.
var since = map[string]int{"waiting": 2}

func TestWireForms(t *testing.T) {
	t.Parallel()
	for name, want := range messages() {
		path := filepath.Join("testdata", fmt.Sprintf("%s.v%d.json", name, versions[name]))
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

func newLike(v any) any { return reflect.New(reflect.TypeOf(v).Elem()).Interface() }

// TestOlderVersionsDecode reads what earlier builds wrote: each field that is in a golden message arrives.
func TestOlderVersionsDecode(t *testing.T) {
	t.Parallel()
	for name, now := range messages() {
		for version := max(1, since[name]); version < versions[name]; version++ {
			path := filepath.Join("testdata", fmt.Sprintf("%s.v%d.json", name, version))
			golden, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := newLike(now)
			if err := json.Unmarshal(golden, got); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			again, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			var was, is map[string]any
			if err := errors.Join(json.Unmarshal(golden, &was), json.Unmarshal(again, &is)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(was, is); diff != "" {
				t.Errorf("%s is not what it was after decoding (-was +is):\n%s", path, diff)
			}
		}
	}
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

package worker

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/copyfleet/copyfleet/protocol"
)

func anyReport(t *rapid.T) *protocol.Report {
	at := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "seconds"), rapid.Int64Range(0, 1e9-1).Draw(t, "nanoseconds")).UTC()
	attempt := protocol.Attempt{Number: rapid.IntRange(1, 9).Draw(t, "number"), Worker: rapid.String().Draw(t, "worker"), Start: at, End: at.Add(time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "took"))), Bytes: rapid.Int64().Draw(t, "read")}
	states := []protocol.ItemState{protocol.ItemSucceeded, protocol.ItemFailed, protocol.ItemRetrying, protocol.ItemCanceled, ""}
	r := &protocol.Report{
		Ref:   protocol.Ref{Org: protocol.OrgID(rapid.String().Draw(t, "org")), Batch: "bat_1", Index: rapid.IntRange(-1, 1e6).Draw(t, "index")},
		Total: rapid.Int().Draw(t, "total"), Lane: protocol.Bulk,
		Receipt: protocol.Receipt{
			Index: rapid.Int().Draw(t, "index"), ID: rapid.String().Draw(t, "id"), State: rapid.SampledFrom(states).Draw(t, "state"), Bytes: rapid.Int64().Draw(t, "bytes"),
			SHA256: rapid.StringMatching(`([0-9a-f]{4})?`).Draw(t, "sha256"), ETag: rapid.SampledFrom([]string{"", `"quoted"`, "plain", "<&>\u2028"}).Draw(t, "etag"),
			Verified: rapid.Bool().Draw(t, "verified"), Attempts: []protocol.Attempt{attempt}, Status: rapid.IntRange(0, 599).Draw(t, "status"),
			ResumedFrom: rapid.Int64().Draw(t, "resumed"), TraceID: rapid.StringMatching(`([0-9a-f]{4})?`).Draw(t, "trace"),
		},
	}
	if rapid.Bool().Draw(t, "failed") {
		r.Receipt.Failure = &protocol.Failure{Class: protocol.NotFound, Code: "c", Message: rapid.String().Draw(t, "message")}
		r.Receipt.Attempts[0].Failure = r.Receipt.Failure
	}
	if rapid.Bool().Draw(t, "archive") {
		r.Receipt.Unpacked = &protocol.Unpacked{Files: rapid.Int().Draw(t, "files"), Bytes: rapid.Int64().Draw(t, "unpacked")}
	}
	if rapid.Bool().Draw(t, "due") {
		r.Receipt.RetryAt = at
	}
	return r
}

func TestReportsAreEncodedAsJSONDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := anyReport(t)
		got, err := appendReport(nil, r)
		if err != nil {
			t.Fatal(err)
		}
		want, err := protocol.Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Fatalf("(-encoding/json +ours):\n%s", diff)
		}
	})
}

func TestClaimsAndBundlesAreEncodedAsJSONDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := &claims{worker: rapid.String().Draw(t, "worker"), pool: rapid.String().Draw(t, "pool"), slots: rapid.IntRange(0, 9).Draw(t, "slots")}
		claim := protocol.Claim{Version: protocol.ClaimVersion, Worker: c.worker, Pool: c.pool, Slots: c.slots, Written: time.Unix(1, 5000).UTC(), Held: []protocol.HeldClaim{}}
		got := appendClaimHead(nil, c, claim.Written)
		for i := range rapid.IntRange(0, 3).Draw(t, "held") {
			h := protocol.HeldClaim{Fence: rapid.Uint64().Draw(t, "fence"), Crashes: rapid.IntRange(0, 3).Draw(t, "crashes"), Waiting: rapid.Bool().Draw(t, "waiting")}
			h.Ref = protocol.Ref{Org: protocol.OrgID(rapid.String().Draw(t, "org")), Batch: "b", Index: i - 1}
			if claim.Held = append(claim.Held, h); i > 0 {
				got = append(got, ',')
			}
			got = appendHeld(got, &h)
		}
		want, err := protocol.Encode(claim)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)+"]}"); diff != "" {
			t.Fatalf("(-encoding/json +ours):\n%s", diff)
		}
		bundle, err := protocol.Encode(protocol.ReportBundle{Version: protocol.ReportVersion, Worker: c.worker, Reports: []protocol.Report{}})
		if err != nil {
			t.Fatal(err)
		}
		if got := string(appendBundleHead(nil, c.worker)) + "]}"; got != string(bundle) {
			t.Fatalf("%s, want %s", got, bundle)
		}
	})
}

package producer

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/protocol"
)

func TestReportShowsItemsAndReceipts(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.accept(3000)
	receipts := append(receiptsOf(protocol.ItemSucceeded, upTo(2000)...), receiptsOf(protocol.ItemFailed, 2000, 2999)...)
	s.tell(&a, receipts)
	d := newDescription(t, apiDescription)

	got := s.call("one/read", "GET", "/v1/batches/"+string(a.Batch)+"/report.ndjson", "").want(200, "")
	lines := bytes.Split(bytes.TrimSpace(got.body), []byte("\n"))
	if len(lines) != 3000 {
		t.Fatalf("%d lines", len(lines))
	}
	states := map[protocol.ItemState]int{}
	for i, line := range lines {
		var v rowView
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("line %d: %v", i, err)
		}
		if v.Receipt.Index != i || v.ID != fmt.Sprintf("item-%d", i) || !v.Receipt.Redacted {
			t.Fatalf("line %d: %s", i, line)
		}
		states[v.Receipt.State]++
	}
	want := map[protocol.ItemState]int{protocol.ItemSucceeded: 2000, protocol.ItemFailed: 2, protocol.ItemQueued: 998}
	if diff := cmp.Diff(want, states); diff != "" {
		t.Error(diff)
	}
	d.validate(t, lines[2000], "components", "schemas", "ReportRow")
	if h := got.header; h.Get("Content-Disposition") != `attachment; filename="`+string(a.Batch)+`.ndjson"` ||
		h.Get("ETag") != "" || h.Get(headerBatchState) != "running" || h.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("headers %v", h)
	}

	failed := s.call("one/read", "GET", "/v1/batches/"+string(a.Batch)+"/report.csv?state=failed", "").want(200, "")
	rows, err := csv.NewReader(bytes.NewReader(failed.body)).ReadAll()
	if err != nil || len(rows) != 3 || !cmp.Equal(rows[0], csvColumns) || rows[2][0] != "item-2999" || rows[2][1] != "https://src.test/2999" {
		t.Fatalf("%v %q", err, rows)
	}
	if !bytes.HasSuffix(failed.body, []byte("\r\n")) || rows[1][len(rows[1])-1] != "src_query src_headers" {
		t.Errorf("%q", failed.body)
	}
	s.call("one/read", "GET", "/v1/batches/"+string(a.Batch)+"/report.csv?state=lost", "").want(400, CodeInvalidRequest)
}

// TestReportTellsNoSecret looks for the signature in every form of a report.
func TestReportTellsNoSecret(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.accept(300)
	s.tell(&a, receiptsOf(protocol.ItemFailed, upTo(300)...))
	path := "/v1/batches/" + string(a.Batch) + "/report."
	for _, form := range []string{"ndjson", "csv"} {
		for _, who := range []string{"one/read", "one/copy", "one/admin"} {
			for _, query := range []string{"", "?state=failed", "?secrets=false"} {
				if got := s.call(who, "GET", path+form+query, "").want(200, ""); bytes.Contains(got.body, []byte("s3cret")) {
					t.Errorf("%s%s as %s tells a secret", form, query, who)
				}
			}
		}
		s.call("one/read", "GET", path+form+"?secrets=true", "").want(403, CodeForbidden)
		s.call("one/copy", "GET", path+form+"?secrets=true", "").want(403, CodeForbidden)
		s.call("one/admin", "GET", path+form+"?secrets=yes", "").want(400, CodeInvalidRequest)
		if got := s.call("one/admin", "GET", path+form+"?secrets=true", "").want(200, ""); bytes.Count(got.body, []byte("?sig=s3cret")) != 300 {
			t.Errorf("%s: an admin does not get the secrets: %.300s", form, got.body)
		}
	}
}

// TestReportRowsAreManifestLines renders every type of location and reads it back as it was.
func TestReportRowsAreManifestLines(t *testing.T) {
	t.Parallel()
	size := int64(7)
	item := func(src, dest protocol.Location) protocol.ManifestItem {
		return protocol.ManifestItem{ID: "x", Src: src, Dest: dest, Expect: protocol.Expect{Size: &size, SHA256: strings.Repeat("a", 64), MD5: strings.Repeat("b", 32)}}
	}
	box := protocol.Location{Type: protocol.SandboxFile, Sandbox: "box", Path: "/a b/<&>"}
	get := protocol.Location{Type: protocol.HTTPGet, URL: "https://h.test/a|b%2Fc?X=1&y=<", Headers: map[string]string{"A": "b"}}
	items := []protocol.ManifestItem{
		item(get, box), item(box, protocol.Location{Type: protocol.HTTPPut, URL: "https://h.test/p", Headers: map[string]string{"A": "b"}}),
		item(protocol.Location{Type: protocol.Object, Bucket: "bbb", Key: "=k"}, protocol.Location{Type: protocol.HTTPPostForm, URL: "https://h.test/", Form: map[string]string{"k": "v"}, FileField: "file"}),
		item(box, protocol.Location{Type: protocol.HTTPPostForm, URL: "https://h.test/", Form: map[string]string{}, FileField: "f"}),
		{Src: get, Dest: box, Conflict: protocol.IfDifferent, Digest: protocol.DigestNone},
	}
	for i, want := range items {
		text, err := ndjson([]row{{want, protocol.Receipt{Index: i, State: protocol.ItemFailed}}}, true)
		if err != nil {
			t.Fatal(err)
		}
		for _, secrets := range []bool{false, true} {
			one := row{want, receiptsOf(protocol.ItemFailed, i)[0]}
			long, err := protocol.Encode(viewOf(&one, secrets))
			if err != nil {
				t.Fatal(err)
			}
			if short, err := ndjson([]row{one}, secrets); err != nil || string(short) != string(long)+"\n" {
				t.Errorf("%v %s", err, cmp.Diff(string(long)+"\n", string(short)))
			}
		}
		var got protocol.ManifestItem
		if err := json.Unmarshal(text, &got); err != nil || !cmp.Equal(want, got) {
			t.Errorf("%v %s", err, cmp.Diff(want, got))
		}
		if want.Dest.Type == protocol.HTTPPostForm && !bytes.Contains(text, []byte(`"form":{`)) {
			t.Errorf("no form in %s", text)
		}
	}
	shown, taken := shownLocation(get, false)
	if shown.URL != "https://h.test/a|b%2Fc" || shown.Headers != nil || !taken.any() {
		t.Errorf("%+v", shown)
	}
	if shown, taken := shownLocation(box, false); shown.Path != box.Path || taken.any() {
		t.Errorf("%+v %v", shown, taken)
	}
}

// TestReportCSVCells shows formulas as text where the cell is a receipt's, and leaves what the intake reads.
func TestReportCSVCells(t *testing.T) {
	t.Parallel()
	r := protocol.Receipt{
		Index: 4, State: protocol.ItemFailed, ETag: "=1+1", TraceID: "@x", Method: protocol.MethodServerCopy, ResumedFrom: 8, RestartReason: protocol.RestartUploadGone,
		Failure: &protocol.Failure{Class: protocol.Denied, Code: "-x", Message: "+\"a\",\r\nb"},
	}
	of := row{protocol.ManifestItem{
		ID: "=cmd|' /C calc'!A0", Src: protocol.Location{Type: protocol.Object, Bucket: "bbb", Key: "-k,\""},
		Dest:     protocol.Location{Type: protocol.HTTPPostForm, URL: "https://h.test/p", Form: map[string]string{}},
		Conflict: protocol.FailIfThere, Digest: protocol.DigestSHA256,
	}, r}
	text, err := csvRows([]row{of}, false)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(append(csvHeader(), text...))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for i, name := range rows[0] {
		got[name] = rows[1][i]
	}
	for name, want := range map[string]string{
		"id": of.item.ID, "src_bucket": "bbb", "src_key": "-k,\"", "dest_url": "", "receipt_index": "4", "receipt_state": "failed", "receipt_etag": "'=1+1",
		"receipt_trace_id": "'@x", "receipt_error_code": "'-x", "receipt_error_class": "denied", "receipt_http_status": "", "receipt_attempts": "0",
		"receipt_error_message": "'+\"a\",  b", // a row is a line: the intake takes no others
		"receipt_incomplete":    "dest_form", "receipt_verified": "false", "receipt_started_at": "", "size": "",
		"conflict": "fail", "digest": "sha256", "receipt_skip_reason": "", "receipt_method": "server_copy", "receipt_resumed_from_bytes": "8", "receipt_restart_reason": "upload_gone",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	if !bytes.Contains(text, []byte("\"'+\"\"a\"\",  b\"")) {
		t.Errorf("%q", text)
	}
}

// TestReportOfAnEndedBatch is the same whenever it is asked for: it has an entity tag.
func TestReportOfAnEndedBatch(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.accept(600)
	s.tell(&a, receiptsOf(protocol.ItemFailed, 1, 599), rest)
	path := "/v1/batches/" + string(a.Batch) + "/report.ndjson"
	first := s.call("one/read", "GET", path, "").want(200, "")
	if n := bytes.Count(first.body, []byte(`"state":"canceled"`)); n != 598 || first.header.Get(headerBatchState) != "canceled" {
		t.Errorf("%d canceled items, state %s", n, first.header.Get(headerBatchState))
	}
	tag := first.header.Get("ETag")
	if again := s.call("one/read", "GET", path, "", "If-None-Match", tag); again.status != http.StatusNotModified || len(again.body) != 0 {
		t.Errorf("%d %s", again.status, again.body)
	}
	if other := s.call("one/read", "GET", path+"?state=failed", "", "If-None-Match", tag).want(200, ""); bytes.Count(other.body, []byte("\n")) != 2 {
		t.Errorf("%s", other.body)
	}
	head := s.call("one/read", "HEAD", path+"?state=failed", "").want(200, "")
	if len(head.body) != 0 || head.header.Get("Content-Disposition") == "" || head.header.Get("ETag") == tag {
		t.Errorf("%v %q", head.header, head.body)
	}
	none := s.call("one/read", "GET", "/v1/batches/"+string(a.Batch)+"/report.csv?state=succeeded", "").want(200, "")
	if !bytes.Equal(none.body, csvHeader()) {
		t.Errorf("%q", none.body)
	}
}

// TestReportThatCannotBeEnded is broken off, and one that cannot begin says why.
func TestReportThatCannotBeEnded(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.accept(2560)
	s.tell(&a, receiptsOf(protocol.ItemFailed, upTo(2560)...))
	damage := func(page int) {
		if _, err := s.manifests.Put(t.Context(), protocol.ManifestKey(a.Org, a.Batch, a.Generation, page), []byte("damaged")); err != nil {
			t.Fatal(err)
		}
	}
	damage(9)
	for _, form := range []string{"ndjson", "csv"} {
		if n, err := s.download(&a, form); err == nil || n == 0 {
			t.Errorf("a part of the report as %s ended like the whole, after %d bytes: %v", form, n, err)
		}
	}
	damage(0)
	s.call("one/read", "GET", "/v1/batches/"+string(a.Batch)+"/report.ndjson", "").want(500, CodeInternal)
}

// TestReportOfARemovedBatch is withheld in its last part: receipts that retention took away must not look like items without news.
func TestReportOfARemovedBatch(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.accept(700)
	s.tell(&a, receiptsOf(protocol.ItemFailed, upTo(700)...))
	now, found, err := s.pipeline.look(t.Context(), a.Org, a.Batch, nil)
	if err != nil || !found {
		t.Fatal(err)
	}
	if err := s.batches.DropAll(t.Context(), protocol.BatchFilter(a.Org, a.Batch)); err != nil {
		t.Fatal(err)
	}
	out := &reportWriter{w: discard{http.Header{}}, form: ndjsonReport, now: now, query: &itemsQuery{}}
	if err := s.pipeline.writeReport(t.Context(), now, out.query, false, out); !errors.Is(err, errBatchRemoved) {
		t.Errorf("%v", err)
	}
}

func TestReportsAreCounted(t *testing.T) {
	t.Parallel()
	var r reports
	leaves := []func(){}
	for range maxOrgReports {
		leave, ok := r.join("one")
		if !ok {
			t.Fatal("refused")
		}
		leaves = append(leaves, leave)
	}
	if _, ok := r.join("one"); ok {
		t.Error("one too many of an org")
	}
	if leave, ok := r.join("two"); !ok {
		t.Error("another org is refused")
	} else {
		leave()
	}
	for _, leave := range leaves {
		leave()
	}
	if r.all != 0 || len(r.byOrg) != 0 {
		t.Errorf("%d %v", r.all, r.byOrg)
	}
}

// download reads a report to its end.
func (s *stage) download(a *protocol.Acceptance, form string) (int64, error) {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), http.MethodGet, s.url+"/v1/batches/"+string(a.Batch)+"/report."+form, nil)
	if err != nil {
		s.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.keys["one/admin"])
	resp, err := s.client.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		s.Fatalf("status %d", resp.StatusCode)
	}
	return io.Copy(io.Discard, bufio.NewReader(resp.Body)) //nolint:wrapcheck // the test looks at it
}

// discard is an answer that nobody reads.
type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

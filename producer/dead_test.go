package producer

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/protocol"
)

// indexed waits until the index knows so many batches of org one.
func (s *stage) indexed(n int) {
	s.Helper()
	s.until("the index", func() bool { return len(s.pipeline.views.index.ids("one")) == n })
}

// dead lists all dead letters that a query asks for, page by page, and returns their ids.
func (s *stage) dead(query string) []string {
	s.Helper()
	d := newDescription(s.T, apiDescription)
	var ids []string
	cursor := ""
	for range 200 {
		got := s.call("one/read", "GET", "/v1/dead-letters?"+query+"&cursor="+cursor, "").want(200, "")
		d.check(s.T, "GET", "/v1/dead-letters", got)
		page := decode[deadListView](got)
		for _, item := range page.Items {
			ids = append(ids, item.ID)
		}
		if cursor = page.NextCursor; cursor == "" {
			return ids
		}
	}
	s.Fatal("the list does not end")
	return nil
}

func letters(a *protocol.Acceptance, indexes ...int) []string {
	list := make([]string, len(indexes))
	for i, index := range indexes {
		list[i] = letterID(a.Batch, index)
	}
	return list
}

func TestDeadLettersAreListed(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.grant()
	old := failing(s, 10)
	fine := s.accept(5)
	s.tell(&fine, receiptsOf(protocol.ItemSucceeded, upTo(5)...))
	young := failing(s, 900, func(a *protocol.Acceptance) { a.Label = "nightly" })
	s.accept(3) // none has ended
	theirs := failing(s, 10, func(a *protocol.Acceptance) { a.Org = "two" })
	s.indexed(4)
	all := append(letters(&young, 1, 2, 899), letters(&old, 1, 2, 9)...)
	for query, want := range map[string][]string{
		"":                        all,
		"limit=1":                 all,
		"limit=4":                 all,
		"host=other.test":         append(letters(&young, 899), letters(&old, 9)...),
		"class=not_found&limit=2": append(letters(&young, 1, 2), letters(&old, 1, 2)...),
		"code=source_http_503&batch=" + string(old.Batch): letters(&old, 9),
		"limit=1&batch=" + string(young.Batch):            letters(&young, 1, 2, 899),
		"host=none":                                       nil,
		"state=rerun":                                     nil,
		"batch=" + string(theirs.Batch):                   nil,
		"batch=" + string(fine.Batch):                     nil,
		"batch=nonsense":                                  nil,
	} {
		if got := s.dead(query); !cmp.Equal(want, got) {
			t.Errorf("%q: %s", query, cmp.Diff(want, got))
		}
	}
	rerun := s.retry(young.Batch, `{"filter":{"class":"not_found"}}`)
	s.crashed(&old, protocol.NewBatchID(), 0) // does not count: it was not accepted
	if got, want := s.dead(""), append(letters(&young, 899), letters(&old, 1, 2, 9)...); !cmp.Equal(want, got) {
		t.Errorf("after a rerun: %s", cmp.Diff(want, got))
	}
	if got, want := s.dead("state=rerun"), letters(&young, 1, 2); !cmp.Equal(want, got) {
		t.Errorf("rerun: %s", cmp.Diff(want, got))
	}
	page := decode[deadListView](s.call("one/read", "GET", "/v1/dead-letters?state=rerun", "").want(200, ""))
	want := deadView{
		ID: letterID(young.Batch, 1), State: stateRerun, Batch: young.Batch, Label: "nightly", Index: 1, ItemID: "item-1", Src: "https://src.test/1",
		Dest: "s3://results/1", Class: protocol.NotFound, Code: "source_http_404", Host: "src.test", Message: "Failed to download file: 404 Not Found",
		Attempts: 1, FailedAt: known(time.Date(2030, 1, 1, 1, 0, 1, 0, time.UTC)), RerunBatch: rerun.Batch,
	}
	if diff := cmp.Diff(want, page.Items[0]); diff != "" {
		t.Error(diff)
	}
	for _, query := range []string{"limit=0", "limit=1001", "state=failed", "cursor=x", "cursor=ZDE6MTpi"} {
		s.call("one/read", "GET", "/v1/dead-letters?"+query, "").want(400, CodeInvalidRequest)
	}
}

func TestDeadLetterIsShown(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := failing(s, 600)
	d := newDescription(t, apiDescription)
	path := "/v1/dead-letters/" + letterID(a.Batch, 599)
	got := s.call("one/read", "GET", path, "").want(200, "")
	d.check(t, "GET", "/v1/dead-letters/{id}", got)
	v := decode[deadDetailView](got)
	if v.ItemID != "item-599" || len(v.Item.Receipt.Attempts) != 1 || !v.Item.Receipt.Redacted || v.BatchView.ID != a.Batch || strings.Contains(string(got.body), "s3cret") {
		t.Errorf("%s", got.body)
	}
	s.call("one/copy", "GET", path+"?secrets=true", "").want(403, CodeForbidden)
	whole := s.call("one/admin", "GET", path+"?secrets=true", "").want(200, "")
	var item struct {
		Item protocol.ManifestItem `json:"item"`
	}
	if err := json.Unmarshal(whole.body, &item); err != nil || !cmp.Equal(item.Item, asksFor(599)) {
		t.Errorf("%v %s", err, whole.body)
	}
	for _, name := range []string{letterID(a.Batch, 0), letterID(a.Batch, 600), letterID(a.Batch, -1), string(a.Batch), string(a.Batch) + ".01", "x.1", letterID(protocol.NewBatchID(), 1)} {
		s.call("one/read", "GET", "/v1/dead-letters/"+name, "").want(404, CodeDeadLetterNotFound)
	}
	s.call("two/admin", "GET", path, "").want(404, CodeDeadLetterNotFound)
}

// redrive asks for a redrive and returns the new batch, and whether there is more.
func (s *stage) redrive(body string, header ...string) (protocol.Acceptance, bool) {
	s.Helper()
	got := s.call("one/copy", "POST", "/v1/dead-letters/redrive", body, header...).want(202, "")
	newDescription(s.T, apiDescription).check(s.T, "POST", "/v1/dead-letters/redrive", got)
	v := decode[redriveView](got)
	record, found, err := s.pipeline.acceptance(s.Context(), "one", v.Batch.ID)
	if err != nil || !found || record.Total != v.Items {
		s.Fatalf("%v %+v", err, v)
	}
	return record, v.More
}

func TestRedriveOfManyBatches(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.grant()
	a, b := failing(s, 10), failing(s, 600)
	s.indexed(2)
	before := s.call("one/copy", "POST", "/v1/dead-letters/redrive", `{"filter":{"class":"not_found"},"preview":true}`).want(200, "")
	newDescription(t, apiDescription).check(t, "POST", "/v1/dead-letters/redrive", before)
	want := previewView{Count: 4, Batches: 2, Groups: []deadGroup{{
		Class: protocol.NotFound, Code: "source_http_404", Host: "src.test", Count: 4, Example: letterID(b.Batch, 1), Message: "Failed to download file: 404 Not Found",
	}}}
	if diff := cmp.Diff(want, decode[previewView](before)); diff != "" {
		t.Error(diff)
	}
	got, more := s.redrive(`{"filter":{"class":"not_found"},"rate":2.5,"label":"again"}`)
	if items := s.asked(&got); more || !cmp.Equal(items, []protocol.ManifestItem{asksFor(1), asksFor(2), asksFor(1), asksFor(2)}) {
		t.Errorf("runs %v", items)
	}
	if got.Options.Rate != 2.5 || got.Label != "again" || got.RerunOf != "" || got.Lane != protocol.Bulk {
		t.Errorf("%+v", got)
	}
	s.call("one/copy", "POST", "/v1/dead-letters/redrive", `{"filter":{"class":"not_found"}}`).want(409, CodeNothingToRetry)
	if got, want := s.dead(""), append(letters(&b, 599), letters(&a, 9)...); !cmp.Equal(want, got) {
		t.Errorf("%s", cmp.Diff(want, got))
	}
	one, _ := s.redrive(fmt.Sprintf(`{"filter":{"ids":[%q,%q]}}`, letterID(a.Batch, 9), letterID(a.Batch, 1)))
	if items := s.asked(&one); len(items) != 1 || one.RerunOf != a.Batch {
		t.Errorf("%+v runs %v", one, items)
	}
	for _, body := range []string{
		``, `{}`, `{"filter":{"ids":["x"]}}`, `{"filter":{"batch":"x"}}`, `{"filter":{"state":"failed"}}`, `{"filter":{},"rate":-1}`, `{"filter":{},"patch":{"header":{}}}`,
		`{"filter":{},"patch":{"headers":{"a b":"c"}}}`, `{"filter":{},"patch":{"headers":{"A":"c\n"}}}`, `{"filter":{},"patch":{"dest":{"path_prefix":"x"}}}`,
		`{"filter":{},"patch":{"dest":{"bucket":"B"}}}`, `{"filter":{},"patch":{"dest":{"sandbox":"-"}}}`, `{"filter":{},"patch":{"dest":{"path_prefix":"/../x"}}}`,
	} {
		s.call("one/copy", "POST", "/v1/dead-letters/redrive", body).want(400, CodeInvalidRequest)
	}
}

func TestRedriveOfOtherPools(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.grant()
	a := s.accept(3, func(a *protocol.Acceptance) { a.Pool = "gpu" })
	s.tell(&a, receiptsOf(protocol.ItemFailed, 0, 1, 2))
	failing(s, 10)
	s.indexed(2)
	if got := s.call("one/copy", "POST", "/v1/dead-letters/redrive", `{"filter":{}}`); got.problem().Code != CodeMixedPools {
		t.Errorf("%s", got.body)
	}
	got, _ := s.redrive(fmt.Sprintf(`{"filter":{"batch":%q}}`, a.Batch))
	if got.Pool != "gpu" || got.Total != 3 {
		t.Errorf("%+v", got)
	}
}

func TestRedriveWithAKey(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.grant()
	a, b := failing(s, 10), failing(s, 10)
	s.indexed(2)
	// A front died after it had entered its choice: of one batch less than matches now.
	id := protocol.KeyedBatchID("one", "k")
	for _, batch := range []*protocol.Acceptance{&a, &b} {
		s.put(s.batches, protocol.RerunKey("one", batch.Batch), rerunRecord{Version: 1, Entries: []rerunEntry{{Batch: id, Ranges: ranges{{1, 1}}, At: time.Now(), Sources: 2}}})
	}
	young := failing(s, 10)
	s.indexed(3)
	got, _ := s.redrive(`{"filter":{}}`, "Idempotency-Key", "k")
	if items := s.asked(&got); got.Batch != id || !cmp.Equal(items, []protocol.ManifestItem{asksFor(1), asksFor(1)}) {
		t.Errorf("runs %v", items)
	}
	again, _ := s.redrive(`{"filter":{}}`, "Idempotency-Key", "k")
	if again.Batch != id {
		t.Errorf("%s", again.Batch)
	}
	if got, want := s.dead(""), slices.Concat(letters(&young, 1, 2, 9), letters(&b, 2, 9), letters(&a, 2, 9)); !cmp.Equal(want, got) {
		t.Errorf("%s", cmp.Diff(want, got))
	}
}

func TestRedriveWithAPatch(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for _, grant := range []string{"results", "elsewhere"} {
		if _, _, err := s.registry.PutGrant(t.Context(), "one", grant, ""); err != nil {
			t.Fatal(err)
		}
	}
	a := failing(s, 10)
	s.indexed(1)
	redrive := func(patch string) answer {
		return s.call("one/copy", "POST", "/v1/dead-letters/redrive", fmt.Sprintf(`{"filter":{"class":"not_found"},"patch":%s}`, patch))
	}
	for patch, code := range map[string]string{
		`{"dest":{"bucket":"not-granted"}}`:                       faultNotGranted,
		`{"dest":{"path_prefix":"/x"}}`:                           faultPatch,
		`{"dest_headers":{"A":"b"}}`:                              faultPatch,
		`{"headers":{"Range":"bytes=0-1"}}`:                       faultForbidden,
		`{"headers":{"A":"` + strings.Repeat("x", 17<<10) + `"}}`: faultTooLong,
	} {
		got := redrive(patch).want(400, CodeInvalidRequest).problem()
		if got.Total != 2 || got.Errors[0].Code != code || !strings.Contains(got.Errors[0].Message, letterID(a.Batch, 1)) {
			t.Errorf("%.80s: %+v", patch, got.Errors)
		}
	}
	if got := s.call("one/copy", "POST", "/v1/dead-letters/redrive", `{"filter":{},"patch":{"dest":{"sandbox":"none"}}}`); got.problem().Code != CodeSandboxNotFound {
		t.Errorf("%s", got.body)
	}
	if got := s.dead(""); len(got) != 3 {
		t.Errorf("refused redrives took %v", got)
	}
	record, _ := s.redrive(`{"filter":{"class":"not_found"},"patch":{"headers":{"authorization":null,"X-A":"1"},"src_headers":{"X-B":"2"},"dest":{"bucket":"elsewhere","prefix":"again/"}}}`)
	want := asksFor(1)
	want.Src.Headers = map[string]string{"X-A": "1", "X-B": "2"}
	want.Dest = protocol.Location{Type: protocol.Object, Bucket: "elsewhere", Key: "again/1"}
	if got := s.asked(&record); !cmp.Equal(want, got[0]) {
		t.Error(cmp.Diff(want, got[0]))
	}
}

func TestPatchOfSandboxes(t *testing.T) {
	t.Parallel()
	text := func(s string) *string { return &s }
	item := protocol.ManifestItem{
		Src:  protocol.Location{Type: protocol.SandboxFile, Sandbox: "box", Path: "/a"},
		Dest: protocol.Location{Type: protocol.SandboxFile, Sandbox: "box", Path: "/b/c"},
	}
	for _, tc := range []struct {
		dest destPatch
		want protocol.Location
		bad  string
	}{
		{destPatch{Sandbox: text("other")}, protocol.Location{Type: protocol.SandboxFile, Sandbox: "other", Path: "/b/c"}, ""},
		{destPatch{PathPrefix: text("/x/")}, protocol.Location{Type: protocol.SandboxFile, Sandbox: "box", Path: "/x/b/c"}, ""},
		{destPatch{Sandbox: text("other"), PathPrefix: text("/x"), Bucket: text("bbb")}, protocol.Location{Type: protocol.SandboxFile, Sandbox: "other", Path: "/x/b/c"}, ""},
		{destPatch{Bucket: text("bbb")}, item.Dest, faultPatch},
		{destPatch{PathPrefix: text("/" + strings.Repeat("x", 4095))}, protocol.Location{Type: protocol.SandboxFile, Sandbox: "box"}, faultTooLong},
	} {
		var bad problems
		got := item
		(&patch{Dest: &tc.dest}).apply(&got, "x", &bad)
		codes := map[string]bool{}
		for _, e := range bad.list {
			codes[e.Code] = true
		}
		want := map[string]bool{}
		if tc.bad != "" {
			want[tc.bad] = true
		}
		if !cmp.Equal(tc.want, got.Dest) || !maps.Equal(codes, want) {
			t.Errorf("%+v: %s %v", tc.dest, got.Dest, codes)
		}
	}
	same := protocol.ManifestItem{Src: protocol.Location{Type: protocol.SandboxFile, Sandbox: "b", Path: "/x/a"}, Dest: protocol.Location{Type: protocol.SandboxFile, Sandbox: "b", Path: "/a"}}
	var bad problems
	(&patch{Dest: &destPatch{PathPrefix: text("/x")}}).apply(&same, "x", &bad)
	if bad.total != 1 || bad.list[0].Code != faultSame {
		t.Errorf("%+v", bad.list)
	}
}

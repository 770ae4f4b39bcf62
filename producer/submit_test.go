package producer

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/protocol"
)

// submitted is a batch as it was stored.
type submitted struct {
	record protocol.Acceptance
	items  []protocol.ManifestItem
}

// submit sends a manifest and returns what was stored of it.
func (s *stage) submit(media, query, body string, header ...string) submitted {
	s.Helper()
	a := s.call("one/copy", "POST", "/v1/batches"+query, body, append([]string{"Content-Type", media}, header...)...).want(202, "")
	view := decode[batchView](a)
	if a.header.Get("Location") != "/v1/batches/"+string(view.ID) || a.header.Get("Copyfleet-Batch") != string(view.ID) {
		s.Errorf("headers %v", a.header)
	}
	newDescription(s.T, apiDescription).check(s.T, "POST", "/v1/batches", a)
	return s.load(view.ID)
}

func (s *stage) load(id protocol.BatchID) submitted {
	s.Helper()
	var out submitted
	if !s.get(s.batches, protocol.AcceptKey("one", id), &out.record) {
		s.Fatalf("%s has no record", id)
	}
	for item, err := range s.pipeline.manifestItems(s.Context(), &out.record, 0) {
		if err != nil {
			s.Fatal(err)
		}
		out.items = append(out.items, item)
	}
	if len(out.items) != out.record.Total {
		s.Errorf("%d items of %d", len(out.items), out.record.Total)
	}
	return out
}

func newIntakeStage(t *testing.T) *stage {
	t.Helper()
	s := newStage(t)
	for _, id := range []protocol.SandboxID{"box", "other"} {
		if _, _, err := s.registry.PutSandbox(t.Context(), "one", id, ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.registry.PutSandbox(t.Context(), "one", "gpubox", "gpu"); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"", "ok"} {
		bucket := map[string]string{"": "results", "ok": "shared"}[prefix]
		if _, _, err := s.registry.PutGrant(t.Context(), "one", bucket, prefix); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func get(url string) protocol.Location { return protocol.Location{Type: protocol.HTTPGet, URL: url} }
func inBox(path string) protocol.Location {
	return protocol.Location{Type: protocol.SandboxFile, Sandbox: "box", Path: path}
}
func inBucket(key string) protocol.Location {
	return protocol.Location{Type: protocol.Object, Bucket: "results", Key: key}
}

const (
	ndjsonMedia = "application/x-ndjson"
	aItem       = `{"src":{"type":"httpGetLocation","url":"https://a.test/1"},"dest":{"type":"sandboxFileLocation","sandbox":"box","path":"/1"}}`
	bItem       = `{"src":{"type":"httpGetLocation","url":"https://a.test/2"},"dest":{"type":"sandboxFileLocation","sandbox":"box","path":"/2"}}`
	shaHex      = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	md5Hex      = "5d41402abc4b2a76b9719d911017c592"
	md5Text     = "XUFAKrxLKna5cZ2REBfFkg=="
)

// in is an item with another sandbox.
func in(sandbox, item string) string { return strings.Replace(item, `"box"`, `"`+sandbox+`"`, 1) }

// TestFormats sends the same kind of items in every format and holds what was stored against what was meant.
func TestFormats(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	five := int64(5)
	a, b := protocol.ManifestItem{Src: get("https://a.test/1"), Dest: inBox("/1")}, protocol.ManifestItem{Src: get("https://a.test/2"), Dest: inBox("/2")}
	for _, tc := range []struct {
		name, media, query, body string
		want                     []protocol.ManifestItem
	}{
		{"json", "application/json", "", `{"items":[` + aItem + `,` + bItem + `]}`, []protocol.ManifestItem{a, b}},
		{"json, options behind", "application/json", "", `{"items":[{"src":{"type":"httpGetLocation","url":"https://a.test/1"},"dest":{"type":"sandboxFileLocation","path":"/1"}}],"sandbox":"box"}`, []protocol.ManifestItem{a}},
		{"json, derived", "application/json", "", `{"bucket":"results","prefix":"in","items":[{"src":{"type":"httpGetLocation","url":"https://A.test:8443/x/y%20z?sig=1"}}]}`,
			[]protocol.ManifestItem{{Src: get("https://A.test:8443/x/y%20z?sig=1"), Dest: inBucket("in/a.test:8443/x/y z")}}},
		{"ndjson", ndjsonMedia, "", aItem + "\n" + bItem + "\n", []protocol.ManifestItem{a, b}},
		{"ndjson, no last line end", ndjsonMedia, "", aItem + "\n" + bItem, []protocol.ManifestItem{a, b}},
		{"ndjson, BOM, blank lines and mixed ends", ndjsonMedia, "", "\ufeff" + aItem + "\r\n\n \t\r\n" + bItem + "\n", []protocol.ManifestItem{a, b}},
		{"ndjson of a report", "application/jsonl", "", strings.TrimSuffix(aItem, "}") + `,"receipt":{"state":"failed","attempts":[{"number":1}]}}`, []protocol.ManifestItem{a}},
		{"ndjson of a report, whole", ndjsonMedia, "", strings.TrimSuffix(aItem, "}") + `,"receipt":{"redacted":false}}`, []protocol.ManifestItem{a}},
		{"csv of a report, whole", "text/csv", "", "url,sandbox,path,receipt_incomplete,receipt_state\nhttps://a.test/1,box,/1,,failed\n", []protocol.ManifestItem{a}},
		{"ndjson, promises", ndjsonMedia, "", strings.TrimSuffix(aItem, "}") + `,"id":"x","size":5,"sha256":"` + strings.ToUpper(shaHex) + `","md5":"` + md5Hex + `"}`,
			[]protocol.ManifestItem{{ID: "x", Src: a.Src, Dest: a.Dest, Expect: protocol.Expect{Size: &five, SHA256: shaHex, MD5: md5Hex}}}},
		{"csv", "text/csv", "?sandbox=box", "https://a.test/1,/1\r\nhttps://a.test/2,/2\n", []protocol.ManifestItem{a, b}},
		{"csv, URLs only", "text/csv", "?sandbox=box&path=/in", "url\nhttps://a.test/1\n", []protocol.ManifestItem{{Src: a.Src, Dest: inBox("/in/a.test/1")}}},
		{"csv, relative", "text/csv", "?sandbox=box&path=/in", "https://a.test/1,1\n", []protocol.ManifestItem{{Src: a.Src, Dest: inBox("/in/1")}}},
		{"csv, quoted", "text/csv", "?sandbox=box", `"https://a.test/1","/a,""b"""`, []protocol.ManifestItem{{Src: a.Src, Dest: inBox(`/a,"b"`)}}},
		{"csv, header", "text/csv; charset=utf-8", "", "\ufeffid,URL,sandbox,path,size,sha256,md5,receipt_state\nx,https://a.test/1,box,/1,5," + shaHex + "," + md5Hex + ",failed\n,https://a.test/2,box,/2,,,,\n",
			[]protocol.ManifestItem{{ID: "x", Src: a.Src, Dest: a.Dest, Expect: protocol.Expect{Size: &five, SHA256: shaHex, MD5: md5Hex}}, b}},
		{"csv, all kinds", "text/csv", "", "src_url,src_bucket,src_key,src_sandbox,src_path,dest_bucket,dest_key,dest_url\n,,,box,/1,,,https://a.test/put\n,results,k,,,results,l,\n",
			[]protocol.ManifestItem{{Src: inBox("/1"), Dest: protocol.Location{Type: protocol.HTTPPut, URL: "https://a.test/put"}}, {Src: inBucket("k"), Dest: inBucket("l")}}},
		{"csv, into a bucket", "text/csv", "?bucket=results&prefix=p", "https://a.test/1,/x/1\n", []protocol.ManifestItem{{Src: a.Src, Dest: inBucket("p/x/1")}}},
		{"tsv", "text/tab-separated-values", "?sandbox=box&path=in", "TsvHttpData-1.0\nhttps://a.test/d/1\t5\t" + md5Text + "\nhttps://a.test/2\n",
			[]protocol.ManifestItem{{Src: get("https://a.test/d/1"), Dest: inBox("/in/a.test/d/1"), Expect: protocol.Expect{Size: &five, MD5: md5Hex}}, {Src: b.Src, Dest: inBox("/in/a.test/2")}}},
		{"ndjson, policies", ndjsonMedia, "", withMembers(aItem, `"conflict":"skip","digest":"none"`) + "\n" + withMembers(bItem, `"conflict":null,"digest":""`), []protocol.ManifestItem{
			{Src: a.Src, Dest: a.Dest, Conflict: protocol.SkipIfThere, Digest: protocol.DigestNone}, b}},
		{"ndjson, policies of all", ndjsonMedia, "?conflict=fail&digest=none", aItem + "\n" + withMembers(bItem, `"conflict":"overwrite","digest":"sha256"`), []protocol.ManifestItem{
			{Src: a.Src, Dest: a.Dest, Conflict: protocol.FailIfThere, Digest: protocol.DigestNone},
			{Src: b.Src, Dest: b.Dest, Conflict: protocol.Overwrite, Digest: protocol.DigestSHA256}}},
		{"json, policies of all", "application/json", "", `{"conflict":"if_different","digest":"none","items":[` + aItem + `,` + withMembers(bItem, `"conflict":"skip","md5":"`+md5Hex+`"`) + `]}`,
			[]protocol.ManifestItem{{Src: a.Src, Dest: a.Dest, Conflict: protocol.IfDifferent, Digest: protocol.DigestNone},
				{Src: b.Src, Dest: b.Dest, Expect: protocol.Expect{MD5: md5Hex}, Conflict: protocol.SkipIfThere}}},
		{"json, policies behind", "application/json", "", `{"items":[` + aItem + `],"conflict":"skip"}`, []protocol.ManifestItem{{Src: a.Src, Dest: a.Dest, Conflict: protocol.SkipIfThere}}},
		{"csv, policies", "text/csv", "?conflict=skip", "url,sandbox,path,conflict,Digest\nhttps://a.test/1,box,/1,if_different,none\nhttps://a.test/2,box,/2,,\n", []protocol.ManifestItem{
			{Src: a.Src, Dest: a.Dest, Conflict: protocol.IfDifferent, Digest: protocol.DigestNone}, {Src: b.Src, Dest: b.Dest, Conflict: protocol.SkipIfThere}}},
		{"a PUT that says so in a batch that skips", ndjsonMedia, "?conflict=skip", `{"src":{"type":"httpGetLocation","url":"https://a.test/1"},"dest":{"type":"httpPutLocation","url":"https://a.test/put"},"conflict":"overwrite"}`,
			[]protocol.ManifestItem{{Src: a.Src, Dest: protocol.Location{Type: protocol.HTTPPut, URL: "https://a.test/put"}, Conflict: protocol.Overwrite}}},
		{"tsv as text", "text/plain", "?bucket=results", "TsvHttpData-1.0\r\nhttps://a.test/2\t\t\r\n", []protocol.ManifestItem{{Src: b.Src, Dest: inBucket("a.test/2")}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := s.within(t)
			got := s.submit(tc.media, tc.query, tc.body)
			if diff := cmp.Diff(tc.want, got.items); diff != "" {
				t.Errorf("items (-want +got):\n%s", diff)
			}
			if got.record.Fed() || got.record.Lane != protocol.Bulk || got.record.Pool != protocol.DefaultPool {
				t.Errorf("record %+v", got.record)
			}
		})
	}
}

// TestOptions sends every option in a body and in a query.
func TestOptions(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	want := protocol.Options{Attempts: 7, Canary: 2, Rate: 1.5, MaxFailed: protocol.Threshold{Given: true, Share: 0.05}}
	for _, got := range []submitted{
		s.submit("application/json", "", `{"label":"l","lane":"interactive","attempts":7,"canary":2,"rate":1.5,"max_failed":"5%","items":[`+aItem+`],"webhook":{"url":"https://h.test/x?key=s3cret","secret":"k"}}`),
		s.submit(ndjsonMedia, "?label=l&lane=interactive&attempts=7&canary=2&rate=1.5&max_failed=0.05&webhook_url=https%3A%2F%2Fh.test%2Fx%3Fkey%3Ds3cret", aItem, "Copyfleet-Webhook-Secret", "k"),
	} {
		hook := got.record.Options.Webhook
		got.record.Options.Webhook = nil
		if diff := cmp.Diff(want, got.record.Options); diff != "" || got.record.Label != "l" || got.record.Lane != protocol.Interactive {
			t.Errorf("record %+v: %s", got.record, diff)
		}
		if !got.record.Fed() || got.record.State != protocol.AcceptComplete || got.record.Generation != 0 {
			t.Errorf("a batch with a canary is fed from its record: %+v", got.record)
		}
		text, err := s.sealer.OpenText("one", got.record.Batch, hook.Sealed)
		if err != nil || text != `{"url":"https://h.test/x?key=s3cret","secret":"k"}` || hook.Shown != "https://h.test/x" {
			t.Errorf("webhook %q shown as %q: %v", text, hook.Shown, err)
		}
		var feed protocol.Feed
		if !s.get(s.feeds, protocol.ControlKey("one", got.record.Batch), &feed) || feed.Next != 0 {
			t.Errorf("feed %+v", feed)
		}
	}
	hooked := s.submit(ndjsonMedia, "?webhook_url=https%3A%2F%2Fh.test%2Fx&max_failed=3", aItem+"\n"+bItem)
	var feed protocol.Feed
	if !s.get(s.feeds, protocol.ControlKey("one", hooked.record.Batch), &feed) || feed.Next != 2 || hooked.record.Fed() {
		t.Errorf("a published batch with a webhook: %+v, feed %+v", hooked.record, feed)
	}
	if want := (protocol.Threshold{Given: true, Count: 3}); hooked.record.Options.MaxFailed != want {
		t.Errorf("threshold %+v", hooked.record.Options.MaxFailed)
	}
}

// TestBadOptions names each option that is wrong.
func TestBadOptions(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	for _, tc := range []struct{ media, query, body, want string }{
		{ndjsonMedia, "?attempts=0", aItem, "/attempts out_of_range"},
		{ndjsonMedia, "?attempts=21", aItem, "/attempts out_of_range"},
		{ndjsonMedia, "?attempts=x", aItem, "/attempts wrong_type"},
		{ndjsonMedia, "?rate=0", aItem, "/rate out_of_range"},
		{ndjsonMedia, "?rate=NaN", aItem, "/rate out_of_range"},
		{ndjsonMedia, "?canary=-1", aItem, "/canary out_of_range"},
		{ndjsonMedia, "?max_failed=-1", aItem, "/max_failed out_of_range"},
		{ndjsonMedia, "?max_failed=101%25", aItem, "/max_failed out_of_range"},
		{ndjsonMedia, "?max_failed=1.5", aItem, "/max_failed out_of_range"},
		{ndjsonMedia, "?lane=fast", aItem, "/lane not_allowed"},
		{ndjsonMedia, "?label=a%00b", aItem, "/label control_character"},
		{ndjsonMedia, "?lable=x", aItem, "/lable unknown_member"},
		{ndjsonMedia, "?label=x&label=y", aItem, "/label too_many"},
		{ndjsonMedia, "?webhook_secret=x", aItem, "/webhook_secret secret_in_query"},
		{ndjsonMedia, "?webhook_url=ftp://x", aItem, "/webhook/url invalid_url"},
		{ndjsonMedia, "?sandbox=-", aItem, "/sandbox sandbox_not_found"},
		{ndjsonMedia, "?path=../x", aItem, "/path invalid_path"},
		{ndjsonMedia, "?bucket=X", aItem, "/bucket invalid_bucket"},
		{ndjsonMedia, "?prefix=x", aItem, "/prefix unexpected_member"},
		{ndjsonMedia, "?plan=maybe", aItem, "/plan not_allowed"},
		{ndjsonMedia, "?conflict=merge", aItem, "/conflict not_allowed"},
		{ndjsonMedia, "?digest=md5", aItem, "/digest not_allowed"},
		{ndjsonMedia, "?conflict=skip", toPut, "/line/1/conflict conflict_unsupported"},
		{ndjsonMedia, "", aItem + "\n" + withMembers(toPut, `"conflict":"if_different"`), "/line/2/conflict conflict_unsupported"},
		{ndjsonMedia, "", withMembers(toPost, `"conflict":"fail"`), "/line/1/conflict conflict_unsupported"},
		{ndjsonMedia, "", withMembers(aItem, `"conflict":"Skip"`), "/line/1/conflict not_allowed"},
		{ndjsonMedia, "", withMembers(aItem, `"conflict":1`), "/line/1/conflict wrong_type"},
		{ndjsonMedia, "", withMembers(aItem, `"trail":["ORG/rule"]`), "/line/1/trail unknown_member"},
		{ndjsonMedia, "?trail=ORG/rule", aItem, "/trail unknown_member"},
		{"text/csv", "", "url,sandbox,path,trail\nhttps://a.test/1,box,/1,ORG/rule\n", "/line/1 invalid_columns"},
		{"application/json", "", `{"items":[` + withMembers(aItem, `"trail":["ORG/rule"]`) + `]}`, "/items/0/trail unknown_member"},
		{"application/json", "", `{"items":[` + aItem + `],"trail":["ORG/rule"]}`, "/trail unknown_member"},
		{ndjsonMedia, "", withMembers(aItem, `"digest":"sha1"`), "/line/1/digest not_allowed"},
		{ndjsonMedia, "", withMembers(aItem, `"digest":"none","sha256":"`+shaHex+`"`), "/line/1/digest digest_required"},
		{ndjsonMedia, "", withMembers(aItem, `"digest":"none","md5":"`+md5Hex+`"`), "/line/1/digest digest_required"},
		{"text/csv", "", "url,sandbox,path,conflict\nhttps://a.test/1,box,/1,replace\n", "/line/2/conflict not_allowed"},
		{"application/json", "", `{"conflict":"never","items":[` + aItem + `]}`, "/conflict not_allowed"},
		{"application/json", "", `{"conflict":true,"items":[` + aItem + `]}`, "/conflict wrong_type"},
		{"application/json", "", `{"items":[` + aItem + `,` + withMembers(bItem, `"conflict":"x"`) + `]}`, "/items/1/conflict not_allowed"},
		{"application/json", "?conflict=skip", `{"items":[` + aItem + `],"conflict":"fail"}`, "/conflict unexpected_member"},
		{"application/json", "", `{"items":[` + aItem + `],"rate":"5"}`, "/rate wrong_type"},
		{"application/json", "", `{"items":[` + aItem + `],"webhook":{"secret":"x"}}`, "/webhook/url missing"},
		{"application/json", "", `{"items":[` + aItem + `],"priority":1}`, "/priority unknown_member"},
		{"application/json", "?rate=3", `{"items":[` + aItem + `],"rate":5}`, "/rate unexpected_member"},
		{"application/json", "", `{}`, "/items missing"},
		{"application/json", "", `{"items":[]}`, " empty"},
		{"application/json", "", `{"items":{}}`, "/items wrong_type"},
		{"application/json", "", `{"items":[` + aItem + `],"items":[]}`, "/items syntax"},
		{"application/json", "", `{"items":[` + aItem + `],"format":"csv"}`, "/format unexpected_member"},
		{"application/json", "", `{"items":[` + aItem + `],"manifest":{"type":"objectLocation","bucket":"results","key":"k"}}`, "/manifest unexpected_member"},
		{"application/json", "", `{"manifest":{"type":"objectLocation","bucket":"secret","key":"k.csv"}}`, "/manifest bucket_not_granted"},
		{"application/json", "", `{"manifest":{"type":"httpGetLocation","url":"https://a.test/"}}`, "/manifest/type not_a_source"},
		{"application/json", "", `{"manifest":{"type":"objectLocation","bucket":"results","key":"k"},"format":"xml"}`, "/format not_allowed"},
		{"application/json", "", `{"manifest":{"type":"objectLocation","bucket":"results","key":"k"}}`, "/format missing"},
		{"application/json", "", `[` + aItem + `]`, " wrong_type"},
	} {
		a := s.call("one/copy", "POST", "/v1/batches"+tc.query, tc.body, "Content-Type", tc.media)
		if a.status < 400 || a.status > 404 {
			t.Errorf("%s %s: %d %s", tc.query, tc.body, a.status, a.body)
			continue
		}
		newDescription(t, apiDescription).check(t, "POST", "/v1/batches", a)
		var got []string
		for _, e := range a.problem().Errors {
			got = append(got, e.Pointer+" "+e.Code)
		}
		if !slices.Contains(got, tc.want) {
			t.Errorf("%s %s: problems %q, want %q", tc.query, tc.body, got, tc.want)
		}
	}
	s.nothingIsLeft()
	for _, media := range []string{"text/plain", "application/octet-stream", "application/json; charset=latin1", "image/png", ";"} {
		s.call("one/copy", "POST", "/v1/batches", aItem, "Content-Type", media).want(415, CodeUnsupportedMedia)
	}
	s.call("one/copy", "POST", "/v1/batches", aItem, "Content-Type", ndjsonMedia, "Content-Encoding", "gzip").want(415, CodeUnsupportedMedia)
	s.nothingIsLeft()
}

// nothingIsLeft fails unless all that could be seen of a batch is gone, or says that it was abandoned.
func (s *stage) nothingIsLeft() {
	s.Helper()
	entries, err := s.batches.List(s.Context(), "*.*.accept")
	if err != nil {
		s.Fatal(err)
	}
	for _, e := range entries {
		var record protocol.Acceptance
		if s.get(s.batches, e.Key, &record); record.State != protocol.AcceptAbandoned {
			s.Errorf("there is a record: %+v", record)
		}
	}
	if n, err := s.manifests.Count(s.Context(), ">"); err != nil || n > 0 {
		s.Errorf("%d pages of manifests are left: %v", n, err)
	}
	if queued, err := s.conn.Queued(s.Context()); err != nil || queued > 0 {
		s.Errorf("%d items are in the queue: %v", queued, err)
	}
}

// lines makes a manifest of n lines; those in bad stand in for the lines of their numbers.
func lines(n int, bad map[int]string) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		if line, is := bad[i]; is {
			b.WriteString(line + "\n")
			continue
		}
		no := itoa(i)
		b.WriteString(`{"id":"item-` + no + `","src":{"type":"httpGetLocation","url":"https://a.test/` + no + `"},"dest":{"type":"sandboxFileLocation","sandbox":"box","path":"/` + no + `"}}` + "\n")
	}
	return b.String()
}

// TestBadLines puts each kind of bad line into a large manifest: it is named, and nothing of the batch is left.
func TestBadLines(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	long := `{"id":"` + strings.Repeat("x", 10<<20) + `"}`
	for _, tc := range []struct {
		name, media, query, body string
		status                   int
		code                     Code
		want                     []FieldError
	}{
		{"in the middle", ndjsonMedia, "", lines(3000, map[int]string{1500: `{"src":1}`}), 400, CodeInvalidRequest,
			[]FieldError{{Pointer: "/line/1500/src", Code: faultWrongType, Line: 1500}, {Pointer: "/line/1500/dest", Code: faultMissing, Line: 1500}}},
		{"not JSON", ndjsonMedia, "", lines(600, map[int]string{2: `{"src":}`, 599: "]"}), 400, CodeInvalidRequest,
			[]FieldError{{Pointer: "/line/2/src", Code: "syntax", Line: 2}, {Pointer: "/line/599", Code: "syntax", Line: 599}}},
		{"two values in a line", ndjsonMedia, "", lines(2, map[int]string{2: aItem + aItem}), 400, CodeInvalidRequest, []FieldError{{Pointer: "/line/2", Code: "syntax", Line: 2}}},
		{"cut off", ndjsonMedia, "", lines(600, nil) + `{"src":{"type":"httpGet`, 400, CodeInvalidRequest, []FieldError{{Pointer: "/line/601", Code: faultTruncated, Line: 601}}},
		{"10 MB line", ndjsonMedia, "", lines(600, map[int]string{300: long}), 400, CodeInvalidRequest, []FieldError{{Pointer: "/line/300", Code: faultTooLong, Line: 300}}},
		{"10 MB line at the end", ndjsonMedia, "", lines(2, nil) + long, 400, CodeInvalidRequest, []FieldError{{Pointer: "/line/3", Code: faultTooLong, Line: 3}}},
		{"NUL", ndjsonMedia, "", lines(2, map[int]string{1: "{\x00}"}), 400, CodeInvalidRequest, []FieldError{{Pointer: "/line/1", Code: faultControl, Line: 1}}},
		{"not UTF-8", ndjsonMedia, "", lines(2, map[int]string{2: `{"id":"` + "\xff" + `"}`}), 400, CodeInvalidRequest, []FieldError{{Pointer: "/line/2/id", Code: "syntax", Line: 2}}},
		{"duplicate id", ndjsonMedia, "", lines(1000, map[int]string{900: strings.Replace(aItem, "{", `{"id":"item-3",`, 1)}), 400, CodeInvalidRequest,
			[]FieldError{{Pointer: "/line/900/id", Code: faultDuplicateID, Line: 900}}},
		{"same place", ndjsonMedia, "", `{"src":{"type":"sandboxFileLocation","sandbox":"box","path":"/a"},"dest":{"type":"sandboxFileLocation","sandbox":"box","path":"/b/../a"}}`, 400, CodeInvalidRequest,
			[]FieldError{{Pointer: "/line/1/dest", Code: faultSame, Line: 1}}},
		{"unknown sandbox", ndjsonMedia, "", in("nobox", aItem), 404, CodeSandboxNotFound, []FieldError{{Pointer: "/line/1/dest", Code: faultNoSandbox, Line: 1}}},
		{"two pools", ndjsonMedia, "", aItem + "\n" + in("gpubox", aItem), 400, CodeMixedPools, []FieldError{{Pointer: "/line/2/dest", Code: faultMixedPools, Line: 2}}},
		{"not granted", "text/csv", "", "url,dest_bucket,dest_key\nhttps://a.test/1,shared,ok/1\nhttps://a.test/1,shared,no/1\n", 403, CodeBucketNotGranted,
			[]FieldError{{Pointer: "/line/3/dest", Code: faultNotGranted, Line: 3}}},
		{"csv, fields", "text/csv", "?sandbox=box", "https://a.test/1,/1\nhttps://a.test/2\nhttps://a.test/3,/3,x\n", 400, CodeInvalidRequest,
			[]FieldError{{Pointer: "/line/2", Code: faultColumns, Line: 2}, {Pointer: "/line/3", Code: faultColumns, Line: 3}}},
		{"csv, cut off", "text/csv", "?sandbox=box", "https://a.test/1,/1\nhttps://a.te", 400, CodeInvalidRequest, []FieldError{{Pointer: "/line/2", Code: faultTruncated, Line: 2}}},
		{"csv, cut off in quotes", "text/csv", "?sandbox=box", "https://a.test/1,\"/1", 400, CodeInvalidRequest, []FieldError{{Pointer: "/line/1", Code: faultTruncated, Line: 1}}},
		{"csv, line end in quotes", "text/csv", "?sandbox=box", "https://a.test/1,\"/1\n\"\n", 400, CodeInvalidRequest,
			[]FieldError{{Pointer: "/line/1", Code: "syntax", Line: 1}, {Pointer: "/line/2", Code: "syntax", Line: 2}}},
		{"redacted", ndjsonMedia, "", lines(300, map[int]string{270: strings.TrimSuffix(aItem, "}") + `,"receipt":{"index":0,"attempts":[{"number":1}],"redacted":true}}`}), 400, CodeInvalidRequest,
			[]FieldError{{Pointer: "/line/270", Code: faultRedacted, Line: 270}}},
		{"json, redacted", "application/json", "", `{"items":[` + bItem + `,` + strings.TrimSuffix(aItem, "}") + `,"receipt":{"redacted":true}}]}`, 400, CodeInvalidRequest,
			[]FieldError{{Pointer: "/items/1", Code: faultRedacted}}},
		{"csv, incomplete", "text/csv", "", "url,sandbox,path,Receipt_Incomplete,receipt_state\nhttps://a.test/1,box,/1,,failed\nhttps://a.test/2,box,/2,src_query,failed\n", 400, CodeInvalidRequest,
			[]FieldError{{Pointer: "/line/3", Code: faultRedacted, Line: 3}}},
		{"csv, URLs only", "text/csv", "?sandbox=box", "https://a.test/1\nhttps://a.test/2\n", 400, CodeInvalidRequest, []FieldError{{Pointer: "/line/1", Code: faultColumns, Line: 1}}},
		{"csv, one URL", "text/csv", "?sandbox=box", "https://a.test/1", 400, CodeInvalidRequest, []FieldError{{Pointer: "/line/1", Code: faultColumns, Line: 1}}},
		{"gzip", ndjsonMedia, "", "\x1f\x8b\x08\x00" + strings.Repeat("\xff\n", 200), 400, CodeInvalidRequest, []FieldError{{Pointer: "", Code: faultCompressed}}},
		{"csv, gzip", "text/csv", "?sandbox=box", "\x1f\x8b\x08\x00\x00", 400, CodeInvalidRequest, []FieldError{{Pointer: "", Code: faultCompressed}}},
		{"text, gzip", "text/plain", "?sandbox=box", "\x1f\x8b\x08\x00\x00", 400, CodeInvalidRequest, []FieldError{{Pointer: "", Code: faultCompressed}}},
		{"json, gzip", "application/json", "", "\x1f\x8b\x08\x00\x00", 400, CodeInvalidRequest, []FieldError{{Pointer: "", Code: faultCompressed}}},
		{"csv, columns", "text/csv", "", "url,color\nhttps://a.test/1,red\n", 400, CodeInvalidRequest, []FieldError{{Pointer: "/line/1", Code: faultColumns, Line: 1}}},
		{"csv, no UTF-8", "text/csv", "?sandbox=box", "https://a.test/1,/\xff\n", 400, CodeInvalidRequest, []FieldError{{Pointer: "/line/1", Code: "syntax", Line: 1}}},
		{"csv, two sources", "text/csv", "", "url,src_path,path,sandbox\nhttps://a.test/1,/a,/b,box\n", 400, CodeInvalidRequest, []FieldError{{Pointer: "/line/2/src", Code: faultColumns, Line: 2}}},
		{"tsv, no first line", "text/tab-separated-values", "?sandbox=box", "https://a.test/1\n", 400, CodeInvalidRequest, []FieldError{{Pointer: "/line/1", Code: "syntax", Line: 1}}},
		{"tsv, nowhere to go", "text/tab-separated-values", "", "TsvHttpData-1.0\nhttps://a.test/1\n", 400, CodeInvalidRequest, []FieldError{{Pointer: "/line/2/dest", Code: faultMissing, Line: 2}}},
		{"tsv, size", "text/tab-separated-values", "?sandbox=box", "TsvHttpData-1.0\nhttps://a.test/1\tx\n", 400, CodeInvalidRequest, []FieldError{{Pointer: "/line/2/size", Code: faultWrongType, Line: 2}}},
		{"tsv, md5", "text/tab-separated-values", "?sandbox=box", "TsvHttpData-1.0\nhttps://a.test/1\t1\tx\n", 400, CodeInvalidRequest, []FieldError{{Pointer: "/line/2/md5", Code: faultDigest, Line: 2}}},
		{"tsv, md5 in hex", "text/tab-separated-values", "?sandbox=box", "TsvHttpData-1.0\nhttps://a.test/1\t1\t" + md5Hex + "\n", 400, CodeInvalidRequest, []FieldError{{Pointer: "/line/2/md5", Code: faultDigest, Line: 2}}},
		{"tsv, a directory", "text/tab-separated-values", "?sandbox=box", "TsvHttpData-1.0\nhttps://a.test/d/\n", 400, CodeInvalidRequest, []FieldError{{Pointer: "/line/2/dest", Code: faultMissing, Line: 2}}},
		{"tsv, climbing", "text/tab-separated-values", "?sandbox=box", "TsvHttpData-1.0\nhttps://a.test/%2e%2e/%2e%2e/%2e%2e/etc/passwd\n", 400, CodeInvalidRequest, []FieldError{{Pointer: "/line/2/dest", Code: faultPathEscapes, Line: 2}}},
		{"empty", ndjsonMedia, "", "\n\n", 400, CodeInvalidRequest, []FieldError{{Pointer: "", Code: faultEmpty}}},
		{"json, in the middle", "application/json", "", `{"items":[` + strings.Repeat(aItem+",", 700) + `{}]}`, 400, CodeInvalidRequest,
			[]FieldError{{Pointer: "/items/700/src", Code: faultMissing}, {Pointer: "/items/700/dest", Code: faultMissing}}},
		{"json, long item", "application/json", "", `{"items":[` + strings.Repeat(aItem+",", 700) + long + `]}`, 400, CodeInvalidRequest, []FieldError{{Pointer: "/items/700", Code: faultTooLong}}},
		{"json, cut off", "application/json", "", `{"items":[` + strings.Repeat(aItem+",", 700), 400, CodeInvalidJSON, []FieldError{{Pointer: "/items", Code: "syntax"}}},
		{"json, late default", "application/json", "", `{"items":[` + strings.Repeat(aItem+",", 20_000) + aItem + `],"path":"/x"}`, 400, CodeInvalidRequest, []FieldError{{Pointer: "/path", Code: faultOutOfOrder}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := s.within(t)
			a := s.call("one/copy", "POST", "/v1/batches"+tc.query, tc.body, "Content-Type", tc.media).want(tc.status, tc.code)
			newDescription(t, apiDescription).check(t, "POST", "/v1/batches", a)
			got := a.problem().Errors
			for i := range got {
				if got[i].Message == "" || len(got[i].Message) > 300 {
					t.Errorf("message %q", got[i].Message)
				}
				got[i].Message = ""
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			s.nothingIsLeft()
		})
	}
}

// TestManyBadLines stops at a hundred problems.
func TestManyBadLines(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	a := s.call("one/copy", "POST", "/v1/batches", strings.Repeat("{\n", 5000), "Content-Type", ndjsonMedia).want(400, CodeInvalidRequest)
	p := a.problem()
	if len(p.Errors) != MaxProblems || p.Total != MaxProblems || p.Errors[99].Line != 100 || !strings.Contains(p.Message, "at least 100") {
		t.Errorf("%d problems of %d, the last in line %d: %s", len(p.Errors), p.Total, p.Errors[99].Line, p.Message)
	}
	p = s.call("one/copy", "POST", "/v1/batches", "{\n"+strings.Repeat("{}\n", 90), "Content-Type", ndjsonMedia).want(400, CodeInvalidRequest).problem()
	if p.Total != MaxProblems || !strings.Contains(p.Message, "at least 100") { // the last line read has a second one
		t.Errorf("%d problems: %s", p.Total, p.Message)
	}
	p = s.call("one/copy", "POST", "/v1/batches", strings.Repeat("{\n", 99), "Content-Type", ndjsonMedia).want(400, CodeInvalidRequest).problem()
	if p.Total != 99 || !strings.Contains(p.Message, "and 98 more") {
		t.Errorf("%d problems: %s", p.Total, p.Message)
	}
	s.nothingIsLeft()
}

// TestLargeManifest is stored in pages, whole and in order, and has a feed record.
func TestLargeManifest(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	for _, n := range []int{256, 257, 512, 513, 20_000} {
		got := s.submit(ndjsonMedia, "?label=big", lines(n, nil))
		if got.record.Fed() != (n > 256) || got.record.Total != n {
			t.Errorf("%d items: %+v", n, got.record)
		}
		for i, item := range got.items {
			if item.ID != "item-"+itoa(i+1) || item.Dest.Path != "/"+itoa(i+1) {
				t.Fatalf("item %d of %d is %+v", i, n, item)
			}
		}
		if n == 256 {
			continue
		}
		var feed protocol.Feed
		if !s.get(s.feeds, protocol.ControlKey("one", got.record.Batch), &feed) || feed.Next != 0 || feed.Owner != "" {
			t.Errorf("feed %+v", feed)
		}
		from := 300
		for item, err := range s.pipeline.manifestItems(t.Context(), &got.record, from) {
			if err != nil || n > from && item.ID != "item-"+itoa(from+1) {
				t.Errorf("from item %d: %+v, %v", from, item, err)
			}
			break
		}
	}
}

// TestFreshSandboxes come into being with the batch that names them, and not with one that is refused.
func TestFreshSandboxes(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	s.server.cfg.AutoSandboxes = true
	fresh := in("fresh", aItem)
	s.call("one/copy", "POST", "/v1/batches", lines(300, nil)+fresh+"\n{}\n", "Content-Type", ndjsonMedia).want(400, CodeInvalidRequest)
	if _, known := s.registry.Sandbox("one", "fresh"); known {
		t.Error("a refused batch made a sandbox")
	}
	s.call("one/copy", "POST", "/v1/batches", fresh+"\n"+in("gpubox", aItem), "Content-Type", ndjsonMedia).want(400, CodeMixedPools)
	s.submit(ndjsonMedia, "", fresh)
	if sandbox, known := s.registry.Sandbox("one", "fresh"); !known || sandbox.Pool != protocol.DefaultPool {
		t.Errorf("sandbox %+v", sandbox)
	}
	if got := s.submit(ndjsonMedia, "", in("gpubox", aItem)); got.record.Pool != "gpu" {
		t.Errorf("pool %q", got.record.Pool)
	}
}

// TestSlowUpload outlives the server's limit on reading, as long as it makes progress.
func TestSlowUpload(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	const readTimeout = 5 * time.Second // in which the head has to come, too
	limited := &http.Server{Handler: s.server.Handler(), ReadTimeout: readTimeout}
	s.serveOn(limited)
	body := lines(2000, nil)
	got := s.stream(ndjsonMedia, func(send func(string)) {
		begun := time.Now()
		for part := range slices.Chunk([]byte(body), len(body)/5+1) {
			s.until("the server's limit to pass", func() bool { return time.Since(begun) > readTimeout+readTimeout/4 })
			send(string(part))
		}
	})
	if view := decode[batchView](got.want(202, "")); view.Total != 2000 {
		t.Errorf("batch %+v", view)
	}
}

// TestCrowd refuses large uploads, and takes small ones, while others have the memory; and gives back what it took.
func TestCrowd(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	s.server.budget = &budget{limit: largeUpload}
	s.call("one/copy", "POST", "/v1/batches", lines(300, nil), "Content-Type", ndjsonMedia).want(503, CodeBusy)
	s.submit(ndjsonMedia, "", lines(2, nil))
	s.server.budget.limit = largeUpload + smallUpload + 16<<10
	s.call("one/copy", "POST", "/v1/batches", lines(3000, nil), "Content-Type", ndjsonMedia).want(503, CodeBusy)
	s.submit(ndjsonMedia, "", lines(300, nil))
	if used := s.server.budget.used; used != 0 || len(s.server.budget.byOrg) != 0 {
		t.Errorf("%d bytes are still taken", used)
	}
}

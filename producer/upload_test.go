package producer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/producer/uploads"
	"github.com/copyfleet/copyfleet/protocol"
)

const eightMiB = 8 << 20

// TestUploadInParts goes the whole way of a session, out of order, and holds each answer against the description.
func TestUploadInParts(t *testing.T) {
	t.Parallel()
	d := newDock(t, Config{}, uploads.Config{})
	ok := described(t)
	body := `{"kind":"file","source_kind":"spooled_stream","target_path":"a/../model.bin","content_length":8388613,"checksum_algorithm":"sha256",
		"user":"ana","metadata":{"b": 1.0000000000000000001,	"a" : "<&>\u0041" },"conflict":"replace"}`
	a := ok("POST", routeUploads, d.call("one/copy", "POST", "/v1/sandboxes/box/uploads", body, "Idempotency-Key", "k").want(201, ""))
	made := decode[sessionAnswer](a).Session
	if made.TargetPath != "/workspace/model.bin" || made.PartCount != 2 || made.PartSize != eightMiB || made.Status != "created" || made.Reserved != 8388613 ||
		a.header.Get("Location") != made.path("") {
		t.Errorf("made %+v at %s", made, a.header.Get("Location"))
	}
	for _, a := range []answer{a, d.call("one/read", "GET", made.path(""), ""), d.call("one/read", "GET", "/v1/sandboxes/box/uploads", "")} {
		if !strings.Contains(string(a.body), `"metadata":{"b": 1.0000000000000000001,	"a" : "<&>\u0041" },"`) {
			t.Errorf("the metadata came back as something else: %s", a.body)
		}
	}
	again := d.call("one/copy", "POST", "/v1/sandboxes/box/uploads", body, "Idempotency-Key", `"k"`).want(201, "")
	if diff := cmp.Diff(string(a.body), string(again.body)); diff != "" {
		t.Errorf("repeated:\n%s", diff)
	}
	d.call("one/copy", "POST", "/v1/sandboxes/box/uploads", strings.Replace(body, "ana", "ben", 1), "Idempotency-Key", "k").want(409, CodeIdempotencyConflict)

	tail := sha256.Sum256([]byte("xxxxx"))
	a = ok("PUT", routePart, d.call("one/copy", "PUT", made.path("/parts/1"), "xxxxx", "X-Checksum-Sha256", hex.EncodeToString(tail[:])).want(200, ""))
	now := decode[sessionView](a)
	if diff := cmp.Diff([]uploads.Range{{First: 0, Last: 0}}, now.Missing); diff != "" || now.Accepted != 5 || now.NextPart != 0 || now.Status != "uploading" {
		t.Errorf("after the last part %+v", now)
	}
	no := ok("POST", routeComplete, d.call("one/copy", "POST", made.path("/complete"), "").want(409, CodePartsMissing)).problem()
	if diff := cmp.Diff([]uploads.Range{{First: 0, Last: 0}}, no.Missing); diff != "" {
		t.Errorf("missing:\n%s", diff)
	}
	now = decode[sessionView](d.call("one/copy", "PUT", made.path("/parts/0"), chunk(eightMiB), "Content-Type", "text/plain").want(200, ""))
	if now.Status != "staged" || now.NextPart != 2 || len(now.Missing) != 0 {
		t.Errorf("staged %+v", now)
	}
	a = ok("POST", routeComplete, d.call("one/copy", "POST", made.path("/complete"), `{}`, "Prefer", "respond-async", "Idempotency-Key", "c").want(202, ""))
	if a.header.Get("Location") != made.path("") || a.header.Get("Preference-Applied") != "respond-async" {
		t.Errorf("headers %v", a.header)
	}
	batch := decode[sessionAnswer](a).Session.Batch
	view := decode[batchView](d.call("one/read", "GET", "/v1/batches/"+string(batch), "").want(200, ""))
	if view.UploadID != made.ID || view.Lane != protocol.Interactive || view.Total != 1 {
		t.Errorf("batch %+v", view)
	}
	defer d.work(func(*protocol.Acceptance) protocol.Receipt { return published(chunk(8388613)) })()
	for range 2 { // a lost answer is told again
		a = ok("POST", routeComplete, d.call("one/copy", "POST", made.path("/complete"), "").want(200, ""))
		done := decode[completedAnswer](a)
		if done.Bytes != 8388613 || done.Files != 1 || done.Session.Status != "completed" || done.Session.Reserved != 0 {
			t.Errorf("done %+v", done)
		}
	}
	a = ok("GET", routeUpload, d.call("one/read", "GET", made.path(""), "").want(200, ""))
	want := []string{"accepted_bytes", "batch_id", "checksum_algorithm", "conflict", "content_length", "created_at", "ended_at", "expires_at", "kind", "limits",
		"max_concurrency", "metadata", "missing_parts", "next_part", "part_count", "part_size", "published_bytes", "published_file_count",
		"reserved_staging_bytes", "source_kind", "status", "target_path", "updated_at", "upload_id", "user"}
	if diff := cmp.Diff(want, membersOf(t, a.body)); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	list := decode[sessionList](ok("GET", routeUploads, d.call("one/read", "GET", "/v1/sandboxes/box/uploads?limit=1", "").want(200, "")))
	if len(list.Sessions) != 1 || list.Sessions[0].ID != made.ID {
		t.Errorf("list %+v", list)
	}
	ok("PUT", routePart, d.call("one/copy", "PUT", made.path("/parts/1"), "xxxxx").want(409, CodeUploadCompleted))
	ok("DELETE", routeUpload, d.call("one/copy", "DELETE", made.path(""), "").want(409, CodeUploadCompleted))
}

// TestUploadRequests tells every problem of a request at once.
func TestUploadRequests(t *testing.T) {
	t.Parallel()
	const rest = `"source_kind":"restartable_file","content_length":1,"checksum_algorithm":"sha256"`
	long := strings.Repeat("a", 256)
	for _, tc := range []struct {
		body string
		want []string
	}{
		{`{}`, []string{"/kind missing", "/source_kind missing", "/content_length missing", "/checksum_algorithm missing", "/target_path missing"}},
		{`[]`, []string{" wrong_type"}},
		{`{"kind":"file","kind":"file"}`, []string{"/kind syntax"}},
		{`{"kind":"dir","target_path":"/a",` + rest + `}`, []string{"/kind not_allowed"}},
		{`{"kind":"file","target_path":"/a","source_kind":"pipe","content_length":-1,"checksum_algorithm":"md5"}`,
			[]string{"/source_kind not_allowed", "/content_length out_of_range", "/checksum_algorithm not_allowed"}},
		{`{"kind":"file","target_path":"/a","source_kind":"spooled_stream","content_length":1e3,"checksum_algorithm":"sha256"}`, []string{"/content_length out_of_range"}},
		{`{"kind":"file","target_path":"/a","source_kind":"spooled_stream","content_length":1.0,"checksum_algorithm":"sha256"}`, []string{"/content_length out_of_range"}},
		{`{"kind":"file","target_path":"/a","source_kind":"spooled_stream","content_length":"1","checksum_algorithm":"sha256"}`, []string{"/content_length wrong_type"}},
		{`{"kind":"file","target_path":"/a","source_kind":"spooled_stream","content_length":99999999999999999999,"checksum_algorithm":"sha256"}`, []string{"/content_length out_of_range"}},
		{`{"kind":"file","target_path":"/a","source_kind":"directory_archive","content_length":1,"checksum_algorithm":"sha256"}`, []string{"/source_kind not_allowed"}},
		{`{"kind":"file","target_path":"/a","archive_format":"tar",` + rest + `}`, []string{"/archive_format unexpected_member"}},
		{`{"kind":"directory_tar","target_path":"/a",` + rest + `}`, []string{"/archive_format missing"}},
		{`{"kind":"directory_tar","target_path":"/a","archive_format":"zip",` + rest + `}`, []string{"/archive_format not_allowed"}},
		{`{"kind":"directory_tar","target_path":"/","archive_format":"tar",` + rest + `}`, []string{"/target_path invalid_path"}},
		{`{"kind":"file","target_path":"","conflict":"skip",` + rest + `}`, []string{"/target_path empty", "/conflict not_allowed"}},
		{`{"kind":"file","target_path":"/a/",` + rest + `}`, []string{"/target_path invalid_path"}},
		{`{"kind":"file","target_path":"../../a",` + rest + `}`, []string{"/target_path path_escapes"}},
		{`{"kind":"file","target_path":"/a/.copyfleet-1",` + rest + `}`, []string{"/target_path path_reserved"}},
		{`{"kind":"file","target_path":"/a/.Copyfleet-1/b",` + rest + `}`, []string{"/target_path path_reserved"}},
		{`{"kind":"file","target_path":"/.copyfleet/b",` + rest + `}`, []string{"/target_path path_reserved"}},
		{`{"kind":"directory_tar","target_path":"/x/../.copyfleet","archive_format":"tar",` + rest + `}`, []string{"/target_path path_reserved"}},
		{`{"kind":"file","target_path":"/a\u0000",` + rest + `}`, []string{"/target_path control_character"}},
		{`{"kind":"file","target_path":"/` + long + `",` + rest + `}`, []string{"/target_path too_long"}},
		{`{"kind":"file","target_path":"/a","user":"` + long + `b",` + rest + `}`, []string{"/user too_long"}},
		{`{"kind":"file","target_path":"/a","user":"a\nb",` + rest + `}`, []string{"/user control_character"}},
		{`{"kind":"file","target_path":"/a","user":"",` + rest + `}`, []string{"/user empty"}},
		{`{"kind":"file","target_path":"/a","whole_checksum_sha256":"` + strings.Repeat("A", 64) + `",` + rest + `}`, []string{"/whole_checksum_sha256 invalid_digest"}},
		{`{"kind":"file","target_path":"/a","metadata":"` + strings.Repeat("m", uploads.MaxMetadata) + `",` + rest + `}`, []string{"/metadata too_long"}},
		{`{"kind":"file","target_path":"/a","metadata":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `,` + rest + `}`,
			[]string{"/metadata" + strings.Repeat("/0", 31) + " syntax"}},
		{`{"kind":"file","target_path":"/a","parts":2,` + rest + `}`, []string{"/parts unknown_member"}},
		{`{"kind":"file","target_path":"/a",` + rest + `} x`, []string{" syntax"}},
	} {
		_, p := parseUpload([]byte(tc.body))
		if p == nil {
			t.Errorf("taken: %s", tc.body)
			continue
		}
		var got []string
		for _, e := range p.Errors {
			got = append(got, e.Pointer+" "+e.Code)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%.200s (-want +got):\n%s", tc.body, diff)
		}
	}
}

// TestUploadDefaults says what a request that leaves things out asks for.
func TestUploadDefaults(t *testing.T) {
	t.Parallel()
	const rest = `"source_kind":"spooled_stream","content_length":0,"checksum_algorithm":"sha256","user":null,"conflict":null,"metadata":null`
	for body, want := range map[string]uploads.Request{
		`{"kind":"file","target_path":"a",` + rest + `,"archive_format":null}`:                {Kind: "file", TargetPath: "/workspace/a", Conflict: "error"},
		`{"kind":"directory_tar","target_path":".",` + rest + `,"archive_format":"tar"}`:      {Kind: "directory_tar", TargetPath: "/workspace", Conflict: "merge", Archive: "tar"},
		`{"kind":"directory_tar","target_path":"/a//b/",` + rest + `,"archive_format":"tar"}`: {Kind: "directory_tar", TargetPath: "/a/b", Conflict: "merge", Archive: "tar"},
	} {
		want.Source = "spooled_stream"
		got, p := parseUpload([]byte(body))
		if p != nil {
			t.Errorf("%s: %s", body, p.Message)
			continue
		}
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", body, diff)
		}
	}
}

// TestUploadSchema holds the schema of the request against the validator: what the validator takes, the schema takes.
func TestUploadSchema(t *testing.T) {
	t.Parallel()
	d := newDescription(t, apiDescription)
	for _, body := range []string{
		`{"kind":"file","source_kind":"spooled_stream","target_path":"a","content_length":0,"checksum_algorithm":"sha256"}`,
		`{"kind":"file","source_kind":"spooled_stream","target_path":"a","content_length":0,"checksum_algorithm":"sha256","user":null,"metadata":[1],"conflict":null}`,
		`{"kind":"directory_tar","source_kind":"directory_archive","target_path":"a","content_length":9223372036854775807,"checksum_algorithm":"sha256",
			"archive_format":"tar","conflict":"merge","user":"é","whole_checksum_sha256":"` + strings.Repeat("0", 64) + `"}`,
	} {
		if _, p := parseUpload([]byte(body)); p != nil {
			t.Errorf("refused: %s", p.Message)
		}
		d.validate(t, []byte(body), "components", "schemas", "UploadRequest")
	}
}

// TestUploadRefusals sends what must not be taken, and changes nothing.
func TestUploadRefusals(t *testing.T) {
	t.Parallel()
	d := newDock(t, Config{}, uploads.Config{Quota: 3 * eightMiB, Largest: 2 * eightMiB})
	ok := described(t)
	s := d.create("k", eightMiB+5, "")
	create := func(who, sandbox, length string, header ...string) answer {
		return ok("POST", routeUploads, d.call(who, "POST", "/v1/sandboxes/"+sandbox+"/uploads",
			`{"kind":"file","source_kind":"restartable_file","target_path":"/f","content_length":`+length+`,"checksum_algorithm":"sha256"}`, header...))
	}
	create("one/copy", "box", "1").want(400, CodeInvalidHeader)
	create("one/copy", "box", "1", "Idempotency-Key", "a b").want(400, CodeInvalidHeader)
	create("one/copy", "none", "1", "Idempotency-Key", "x").want(404, CodeSandboxNotFound)
	create("one/read", "box", "1", "Idempotency-Key", "x").want(403, CodeForbidden)
	if p := create("one/copy", "box", "16777217", "Idempotency-Key", "x").want(413, CodeUploadTooLarge).problem(); !strings.Contains(p.Message, "16777216") {
		t.Errorf("the limit is not told: %s", p.Message)
	}
	if p := create("one/copy", "box", "16777216", "Idempotency-Key", "x").want(409, CodeStagingQuota).problem(); !strings.Contains(p.Message, "25165824") {
		t.Errorf("the quota is not told: %s", p.Message)
	}
	part := func(who, path, body string, header ...string) answer {
		return ok("PUT", routePart, d.call(who, "PUT", path, body, header...))
	}
	for _, n := range []string{"2", "-1", "01", "+1", "a", "99999999999999999999", "1.0"} {
		part("one/copy", s.path("/parts/"+n), "xxxxx").want(400, CodePartOutOfRange)
	}
	part("one/copy", s.path("/parts/1"), "xxxx").want(400, CodePartLength)
	part("one/copy", s.path("/parts/1"), "xxxxxx").want(400, CodePartLength)
	part("one/copy", s.path("/parts/1"), "").want(400, CodePartLength)
	part("one/copy", s.path("/parts/1"), "xxxxx", "X-Checksum-Sha256", strings.Repeat("0", 64)).want(422, CodePartChecksum)
	part("one/copy", s.path("/parts/1"), "xxxxx", "X-Checksum-Sha256", "abc").want(400, CodeInvalidHeader)
	part("one/copy", s.path("/parts/1"), "xxxxx", "X-Checksum-Sha256", strings.Repeat("A", 64)).want(400, CodeInvalidHeader)
	part("one/copy", s.path("/parts/1"), "xxxxx", "Content-Encoding", "gzip").want(415, CodeUnsupportedMedia)
	part("one/read", s.path("/parts/1"), "xxxxx").want(403, CodeForbidden)
	part("two/copy", s.path("/parts/1"), "xxxxx").want(404, CodeUploadNotFound)
	d.call("one/copy", "PUT", "/v1/sandboxes/other", "").want(201, "")
	part("one/copy", strings.Replace(s.path("/parts/1"), "/box/", "/other/", 1), "xxxxx").want(404, CodeUploadNotFound)
	part("one/copy", "/v1/sandboxes/box/uploads/upl_0/parts/0", "xxxxx").want(404, CodeUploadNotFound)
	ok("GET", routeUpload, d.call("two/read", "GET", s.path(""), "").want(404, CodeUploadNotFound))
	ok("DELETE", routeUpload, d.call("two/copy", "DELETE", s.path(""), "").want(404, CodeUploadNotFound))
	ok("POST", routeComplete, d.call("two/copy", "POST", s.path("/complete"), "").want(404, CodeUploadNotFound))
	ok("POST", routeComplete, d.call("one/copy", "POST", s.path("/complete"), `{"whole":1}`).want(400, CodeInvalidRequest))
	ok("POST", routeComplete, d.call("one/copy", "POST", s.path("/complete"), `{"whole_checksum_sha256":"x"}`).want(400, CodeInvalidRequest))
	ok("GET", routeUploads, d.call("one/read", "GET", "/v1/sandboxes/box/uploads?limit=0", "").want(400, CodeInvalidRequest))
	if now := decode[sessionView](d.call("one/read", "GET", s.path(""), "").want(200, "")); now.Status != "created" || now.Accepted != 0 {
		t.Errorf("something changed: %+v", now)
	}
	d.shelf.fail(uploads.ErrStagingAway)
	part("one/copy", s.path("/parts/1"), "xxxxx").want(503, CodeStorageUnavailable)
	d.shelf.fail(uploads.ErrStagingIsFull)
	part("one/copy", s.path("/parts/1"), "xxxxx").want(503, CodeNoSpace)
	d.shelf.fail(nil)
	for range 2 {
		if got := decode[sessionView](ok("DELETE", routeUpload, d.call("one/copy", "DELETE", s.path(""), "").want(200, ""))); got.Status != "aborted" || got.Reserved != 0 {
			t.Errorf("aborted %+v", got)
		}
	}
	part("one/copy", s.path("/parts/1"), "xxxxx").want(409, CodeUploadAborted)
	ok("POST", routeComplete, d.call("one/copy", "POST", s.path("/complete"), "").want(409, CodeUploadAborted))
}

// TestPublicationThatFails is told as what it is: for good, or to be asked for again.
func TestPublicationThatFails(t *testing.T) {
	t.Parallel()
	d := newDock(t, Config{}, uploads.Config{})
	ok := described(t)
	receipts := make(chan protocol.Receipt, 1)
	defer d.work(func(*protocol.Acceptance) protocol.Receipt { return <-receipts })()
	s := d.create("k", 5, "")
	d.call("one/copy", "PUT", s.path("/parts/0"), "xxxxx").want(200, "")

	receipts <- failedWith(protocol.Unavailable, "sandbox_unavailable", "The sandbox does not answer.")
	a := ok("POST", routeComplete, d.call("one/copy", "POST", s.path("/complete"), "").want(503, CodeUploadNotPublished))
	if a.header.Get("Retry-After") == "" || !strings.Contains(a.problem().Message, "does not answer") {
		t.Errorf("answer %v %s", a.header, a.body)
	}
	now := decode[sessionView](ok("GET", routeUpload, d.call("one/read", "GET", s.path(""), "").want(200, "")))
	if now.Status != "staged" || now.Failure == nil || now.Reserved != 5 {
		t.Errorf("after a passing failure %+v", now)
	}
	d.call("one/copy", "POST", "/v1/batches/"+string(now.Batch)+"/retry", "").want(409, CodeBatchOfUpload)
	d.call("one/copy", "POST", "/v1/dead-letters/redrive", `{"filter":{}}`).want(409, CodeNothingToRetry)
	d.indexed(1)
	dead := decode[deadListView](d.call("one/read", "GET", "/v1/dead-letters", "").want(200, ""))
	if len(dead.Items) != 1 || dead.Items[0].Src != "upload "+string(s.ID) {
		t.Errorf("dead letters %+v", dead.Items)
	}
	detail := ok("GET", "/v1/dead-letters/{id}", d.call("one/read", "GET", "/v1/dead-letters/"+dead.Items[0].ID, "").want(200, ""))
	if !strings.Contains(string(detail.body), `"stagedUploadLocation"`) {
		t.Errorf("dead letter %s", detail.body)
	}
	receipts <- failedWith(protocol.Corrupt, "digest_mismatch", "The bytes are others.")
	for range 2 {
		if p := ok("POST", routeComplete, d.call("one/copy", "POST", s.path("/complete"), "").want(422, CodeUploadFailed)).problem(); p.Message != "The bytes are others." {
			t.Errorf("message %q", p.Message)
		}
	}
	now = decode[sessionView](d.call("one/read", "GET", s.path(""), "").want(200, ""))
	if now.Status != "failed" || now.Reserved != 0 || now.Failure.Code != "digest_mismatch" {
		t.Errorf("failed %+v", now)
	}
}

// TestLongPublications are answered when the caller, or the server, does not wait any longer.
func TestLongPublications(t *testing.T) {
	t.Parallel()
	d := newDock(t, Config{MaxWait: 5 * time.Second}, uploads.Config{}) // which an abort needs to read the session, too
	ok := described(t)
	s := d.create("k", 0, "")
	if s.Status != "staged" || s.PartCount != 0 {
		t.Errorf("without bytes %+v", s)
	}
	a := ok("POST", routeComplete, d.call("one/copy", "POST", s.path("/complete"), "").want(504, CodeStillRunning))
	if a.header.Get("Location") != s.path("") {
		t.Errorf("location %q", a.header.Get("Location"))
	}
	ok("POST", routeComplete, d.call("one/copy", "POST", s.path("/complete"), "", "Prefer", "wait=0").want(202, ""))
	ok("DELETE", routeUpload, d.call("one/copy", "DELETE", s.path(""), "")).want(409, CodeUploadCompleting)
	ok("POST", routeComplete, d.call("one/copy", "POST", s.path("/complete"), `{"whole_checksum_sha256":"`+strings.Repeat("0", 64)+`"}`, "Prefer", "wait=0"))
	d.server.StopWaiting()
	ok("POST", routeComplete, d.call("one/copy", "POST", s.path("/complete"), "", "Prefer", "wait=9").want(503, CodeShuttingDown))
}

// TestInternalLocationsCannotBeNamed keeps callers from reading what others staged, and from unpacking without a session.
func TestInternalLocationsCannotBeNamed(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"files":[{"src":{"type":"stagedUploadLocation","upload":"upl_0"},"dest":{"type":"sandboxFileLocation","path":"/a"}}]}`,
		`{"files":[{"src":{"type":"sandboxFileLocation","path":"/a"},"dest":{"type":"sandboxTreeLocation","path":"/b"}}]}`,
	} {
		_, p := decodeCopyRequest([]byte(body), "box", 8)
		if p == nil || !slices.ContainsFunc(p.Errors, func(e FieldError) bool { return e.Code == faultUnknownType }) {
			raw, _ := json.Marshal(p)
			t.Errorf("%s: %s", body, raw)
		}
	}
	b := newIntakeStage(t)
	for _, item := range []string{
		`{"src":{"type":"stagedUploadLocation","sandbox":"box","upload":"upl_0"},"dest":{"type":"sandboxFileLocation","sandbox":"box","path":"/a"}}`,
		`{"src":{"type":"sandboxFileLocation","sandbox":"box","path":"/a"},"dest":{"type":"sandboxTreeLocation","sandbox":"box","path":"/b"}}`,
		`{"src":{"type":"sandboxFileLocation","sandbox":"box","path":"/a"},"dest":{"type":"sandboxFileLocation","sandbox":"box","path":"/b"},"conflict":"merge"}`,
	} {
		b.call("one/copy", http.MethodPost, "/v1/batches", `{"items":[`+item+`]}`).want(400, CodeInvalidRequest)
	}
}

package hostile

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

const (
	goodSrc  = `"src":{"type":"sandboxFileLocation","path":"/a"}`
	goodDest = `"dest":{"type":"sandboxFileLocation","path":"/b"}`
	good     = `{"files":[{` + goodSrc + `,` + goodDest + `}]}`
)

func src(location string) string  { return `{"files":[{"src":` + location + `,` + goodDest + `}]}` }
func dest(location string) string { return `{"files":[{` + goodSrc + `,"dest":` + location + `}]}` }
func get(url string) string       { return src(`{"type":"httpGetLocation","url":"` + url + `"}`) }
func path(p string) string        { return dest(`{"type":"sandboxFileLocation","path":"` + p + `"}`) }
func header(name, value string) string {
	return src(`{"type":"httpGetLocation","url":"http://127.0.0.1/","headers":{"` + name + `":"` + value + `"}}`)
}
func form(members string) string {
	return dest(`{"type":"httpPostFormLocation","url":"http://127.0.0.1/"` + members + `}`)
}

// badBodies are copy calls with what they are refused for: the code, and pointer and code of each problem.
var badBodies = []struct {
	name, body, code string
	problems         []string
}{
	{"no body", ``, "invalid_json", []string{" syntax"}},
	{"blanks", " \n", "invalid_json", []string{" syntax"}},
	{"not JSON", `files=x`, "invalid_json", []string{" syntax"}},
	{"cut short", good[:len(good)-3], "invalid_json", []string{"/files/0 syntax"}},
	{"trailing text", good + `x`, "invalid_json", []string{" syntax"}},
	{"a second value", good + ` {}`, "invalid_json", []string{" syntax"}},
	{"files twice", `{"files":[],"files":[]}`, "invalid_json", []string{"/files syntax"}},
	{"path twice", dest(`{"type":"sandboxFileLocation","path":"/b","path":"/c"}`), "invalid_json", []string{"/files/0/dest/path syntax"}},
	{"not UTF-8", path("/\xff"), "invalid_json", []string{"/files/0/dest/path syntax"}},
	{"too deep", `{"files":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, "invalid_json", nil},

	{"null", `null`, "invalid_request", []string{" wrong_type"}},
	{"an array", `[]`, "invalid_request", []string{" wrong_type"}},
	{"no files", `{}`, "invalid_request", []string{"/files missing"}},
	{"null files", `{"files":null}`, "invalid_request", []string{"/files missing"}},
	{"empty files", `{"files":[]}`, "invalid_request", []string{"/files empty"}},
	{"files an object", `{"files":{}}`, "invalid_request", []string{"/files wrong_type"}},
	{"a mistyped member", `{"file":[]}`, "invalid_request", []string{"/file unknown_member", "/files missing"}},
	{"a null file", `{"files":[null]}`, "invalid_request", []string{"/files/0 missing"}},
	{"a file of text", `{"files":["x"]}`, "invalid_request", []string{"/files/0 wrong_type"}},
	{"no locations", `{"files":[{}]}`, "invalid_request", []string{"/files/0/src missing", "/files/0/dest missing"}},
	{"an id that is a number", `{"files":[{"id":1,` + goodSrc + `,` + goodDest + `}]}`, "invalid_request", []string{"/files/0/id wrong_type"}},
	{"an id twice", `{"files":[{"id":"x",` + goodSrc + `,` + goodDest + `},{"id":"x",` + goodSrc + `,` + goodDest + `}]}`, "invalid_request", []string{"/files/1/id duplicate_id"}},
	{"onto itself", path("/x/../a"), "invalid_request", []string{"/files/0/dest same_location"}},
	{"all problems at once", `{"files":[{"src":{"type":"x"},"dest":{"type":"sandboxFileLocation"}},{` + goodSrc + `}]}`, "invalid_request",
		[]string{"/files/0/src/type unknown_location_type", "/files/0/dest/path missing", "/files/1/dest missing"}},

	{"src is text", src(`"/a"`), "invalid_request", []string{"/files/0/src wrong_type"}},
	{"no type", src(`{"path":"/a"}`), "invalid_request", []string{"/files/0/src/type missing"}},
	{"unknown type", src(`{"type":"ftpLocation"}`), "invalid_request", []string{"/files/0/src/type unknown_location_type"}},
	{"a type in another case", src(`{"type":"SandboxFileLocation","path":"/a"}`), "invalid_request", []string{"/files/0/src/type unknown_location_type"}},
	{"a destination as source", src(`{"type":"httpPutLocation","url":"http://127.0.0.1/"}`), "invalid_request", []string{"/files/0/src/type not_a_source"}},
	{"a source as destination", dest(`{"type":"httpGetLocation","url":"http://127.0.0.1/"}`), "invalid_request", []string{"/files/0/dest/type not_a_destination"}},
	{"a member of another type", src(`{"type":"sandboxFileLocation","path":"/a","url":"http://127.0.0.1/"}`), "invalid_request", []string{"/files/0/src/url unexpected_member"}},
	{"an unknown member", src(`{"type":"sandboxFileLocation","path":"/a","pth":1}`), "invalid_request", []string{"/files/0/src/pth unknown_member"}},

	{"no path", dest(`{"type":"sandboxFileLocation"}`), "invalid_request", []string{"/files/0/dest/path missing"}},
	{"path a number", dest(`{"type":"sandboxFileLocation","path":1}`), "invalid_request", []string{"/files/0/dest/path wrong_type"}},
	{"empty path", path(``), "invalid_request", []string{"/files/0/dest/path empty"}},
	{"relative path", path(`b`), "invalid_request", []string{"/files/0/dest/path invalid_path"}},
	{"a directory", path(`/b/`), "invalid_request", []string{"/files/0/dest/path invalid_path"}},
	{"the root", path(`/`), "invalid_request", []string{"/files/0/dest/path invalid_path"}},
	{"out of the sandbox", path(`/../b`), "invalid_request", []string{"/files/0/dest/path path_escapes"}},
	{"out and in again", path(`/b/../../SBX-mix/b`), "invalid_request", []string{"/files/0/dest/path path_escapes"}},
	{"a NUL", path(`/b\u0000c`), "invalid_request", []string{"/files/0/dest/path control_character"}},
	{"a line end", path(`/b\nc`), "invalid_request", []string{"/files/0/dest/path control_character"}},
	{"a long name", path("/" + strings.Repeat("b", 256)), "invalid_request", []string{"/files/0/dest/path too_long"}},
	{"a long path", path(strings.Repeat("/b", 2049)), "invalid_request", []string{"/files/0/dest/path too_long"}},
	{"a hidden file of ours", path(`/.copyfleet-x`), "invalid_request", []string{"/files/0/dest/path path_reserved"}},

	{"no URL", src(`{"type":"httpGetLocation"}`), "invalid_request", []string{"/files/0/src/url missing"}},
	{"empty URL", get(``), "invalid_request", []string{"/files/0/src/url empty"}},
	{"ftp", get(`ftp://127.0.0.1/a`), "invalid_request", []string{"/files/0/src/url invalid_url"}},
	{"file", get(`file:///etc/passwd`), "invalid_request", []string{"/files/0/src/url invalid_url"}},
	{"no scheme", get(`127.0.0.1/a`), "invalid_request", []string{"/files/0/src/url invalid_url"}},
	{"no host", get(`http:///a`), "invalid_request", []string{"/files/0/src/url invalid_url"}},
	{"a space", get(`http://127.0.0.1/a b`), "invalid_request", []string{"/files/0/src/url invalid_url"}},
	{"a backslash", get(`http://127.0.0.1\\@example.test/`), "invalid_request", []string{"/files/0/src/url invalid_url"}},
	{"userinfo", get(`http://user:pass@127.0.0.1/`), "invalid_request", []string{"/files/0/src/url url_userinfo"}},
	{"a short address", get(`http://127.1/`), "invalid_request", []string{"/files/0/src/url invalid_host"}},
	{"a decimal address", get(`http://2130706433/`), "invalid_request", []string{"/files/0/src/url invalid_host"}},
	{"a hexadecimal address", get(`http://0x7f000001/`), "invalid_request", []string{"/files/0/src/url invalid_host"}},
	{"an octal address", get(`http://0177.0.0.1/`), "invalid_request", []string{"/files/0/src/url invalid_host"}},
	{"a zone", get(`http://[fe80::1%25lo]/`), "invalid_request", []string{"/files/0/src/url invalid_host"}},
	{"port 0", get(`http://127.0.0.1:0/`), "invalid_request", []string{"/files/0/src/url invalid_host"}},
	{"a port too far", get(`http://127.0.0.1:65536/`), "invalid_request", []string{"/files/0/src/url invalid_host"}},
	{"a long URL", get(`http://127.0.0.1/` + strings.Repeat("a", 8<<10)), "invalid_request", []string{"/files/0/src/url too_long"}},

	{"a header with a line end", header("X-A", `b\r\nHost: c`), "invalid_request", []string{"/files/0/src/headers/X-A invalid_header"}},
	{"a header with a space", header("X A", "b"), "invalid_request", []string{"/files/0/src/headers/X A invalid_header"}},
	{"a header without a name", header("", "b"), "invalid_request", []string{"/files/0/src/headers/ invalid_header"}},
	{"a header twice", src(`{"type":"httpGetLocation","url":"http://127.0.0.1/","headers":{"X-A":"1","x-a":"2"}}`), "invalid_request", []string{"/files/0/src/headers/x-a duplicate_header"}},
	{"headers in an array", src(`{"type":"httpGetLocation","url":"http://127.0.0.1/","headers":["X-A"]}`), "invalid_request", []string{"/files/0/src/headers wrong_type"}},
	{"a header that is a number", src(`{"type":"httpGetLocation","url":"http://127.0.0.1/","headers":{"X-A":1}}`), "invalid_request", []string{"/files/0/src/headers/X-A wrong_type"}},
	{"too many headers", src(`{"type":"httpGetLocation","url":"http://127.0.0.1/","headers":{` + numbered("X-", 65) + `}}`), "invalid_request", []string{"/files/0/src/headers too_many"}},

	{"no form", form(``), "invalid_request", []string{"/files/0/dest/form missing"}},
	{"a form field that is a number", form(`,"form":{"key":1}`), "invalid_request", []string{"/files/0/dest/form/key wrong_type"}},
	{"a form with a field of the file's name", form(`,"form":{"file":"x"}`), "invalid_request", []string{"/files/0/dest/fileField file_field_conflict"}},
	{"a form that sets its content type", form(`,"form":{},"headers":{"Content-Type":"multipart/form-data"}`), "invalid_request", []string{"/files/0/dest/headers/Content-Type forbidden_header"}},
	{"too many fields", form(`,"form":{` + numbered("f", 101) + `}`), "invalid_request", []string{"/files/0/dest/form too_many"}},
	{"a bucket that cannot be", dest(`{"type":"objectLocation","bucket":"A","key":"k"}`), "invalid_request", []string{"/files/0/dest/bucket invalid_bucket"}},
	{"a key that climbs", dest(`{"type":"objectLocation","bucket":"abc","key":"../k"}`), "invalid_request", []string{"/files/0/dest/key invalid_key"}},
}

func numbered(prefix string, n int) string {
	members := make([]string, n)
	for i := range members {
		members[i] = fmt.Sprintf(`"%s%d":"v"`, prefix, i)
	}
	return strings.Join(members, ",")
}

// TestBadBodies checks the answer to each body, and that after all of them nothing has happened.
func TestBadBodies(t *testing.T) {
	t.Parallel()
	w := watchedUp(t)
	before := w.traces(t)
	for _, row := range badBodies {
		p := refused(t, send(t, w.Fleet, http.MethodPost, copyPath(w.Fleet), nil, strings.NewReader(row.body)))
		var problems []string
		for _, e := range p.Errors {
			problems = append(problems, e.Pointer+" "+e.Code)
		}
		if p.Status != http.StatusBadRequest || p.Code != row.code || row.problems != nil && strings.Join(problems, ", ") != strings.Join(row.problems, ", ") {
			t.Errorf("%s: %d %s %q, want 400 %s %q: %s", row.name, p.Status, p.Code, problems, row.code, row.problems, p.Message)
		}
	}
	w.unchanged(t, before)
	if a := send(t, w.Fleet, http.MethodPost, copyPath(w.Fleet), nil, strings.NewReader(good)); a.Status != http.StatusOK {
		t.Errorf("the body that all of these differ from: %d %s", a.Status, a.Body)
	}
	if after := w.traces(t); after.Published["KV_cf-batches"] == before.Published["KV_cf-batches"] {
		t.Error("a call that is accepted leaves nothing behind either: the test looks in the wrong place")
	}
}

func TestForbiddenHeaders(t *testing.T) {
	t.Parallel()
	w := watchedUp(t)
	before := w.traces(t)
	for _, name := range []string{
		"Host", "content-length", "Transfer-Encoding", "Expect", "Connection", "Keep-Alive", "TE", "Trailer", "Upgrade", "Proxy-Authorization",
		"Proxy-Connection", "HTTP2-Settings", "Range", "If-Range", "Content-Range", "If-None-Match", "Accept-Encoding",
	} {
		p := refused(t, send(t, w.Fleet, http.MethodPost, copyPath(w.Fleet), nil, strings.NewReader(header(name, "gzip"))))
		if p.Status != http.StatusBadRequest || len(p.Errors) != 1 || p.Errors[0].Pointer != "/files/0/src/headers/"+name || p.Errors[0].Code != "forbidden_header" {
			t.Errorf("%s: %+v", name, p)
		}
	}
	w.unchanged(t, before)
}

// TestRefusedWhole shows that one bad item of many refuses them all.
func TestRefusedWhole(t *testing.T) {
	t.Parallel()
	w := watchedUp(t)
	batch := make(mixtest.Batch, 1500)
	for i := range batch {
		batch[i] = mixtest.Copy{ID: fmt.Sprint(i), Src: mixtest.FromURL(w.Give("/f", []byte("f"))), Dest: mixtest.ToSandbox(fmt.Sprint("/", i))}
	}
	batch[1499].Dest = mixtest.ToSandbox("/../x")
	before := w.traces(t)
	called, err := w.API.Copy(t.Context(), w.Sandbox, map[string]string{"Idempotency-Key": "k"}, batch.Files())
	if err != nil || called.Status != http.StatusBadRequest {
		t.Fatalf("status %d, %v: %s", called.Status, err, called.Body)
	}
	w.unchanged(t, before)
	if n := w.Asked("/f"); n != 0 {
		t.Errorf("the source was asked %d times", n)
	}
}

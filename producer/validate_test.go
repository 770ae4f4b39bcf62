package producer

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/protocol"
)

// Parts of bodies: a destination and a source that are fine, and places for what is not.
const (
	goodSrc  = `{"type":"httpGetLocation","url":"https://example.test/a"}`
	goodDest = `{"type":"sandboxFileLocation","path":"/a"}`
)

func files(list ...string) string { return `{"files":[` + strings.Join(list, ",") + `]}` }

func file(src, dest string) string { return `{"src":` + src + `,"dest":` + dest + `}` }

func withSrc(src string) string { return files(file(src, goodDest)) }

func withDest(dest string) string { return files(file(goodSrc, dest)) }

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func withPath(path string) string {
	return withDest(`{"type":"sandboxFileLocation","path":` + quoted(path) + `}`)
}

func withURL(url string) string {
	return withSrc(`{"type":"httpGetLocation","url":` + quoted(url) + `}`)
}

func withHeaders(headers string) string {
	return withSrc(`{"type":"httpGetLocation","url":"https://example.test/","headers":` + headers + `}`)
}

func putHeaders(headers string) string {
	return withDest(`{"type":"httpPutLocation","url":"https://example.test/","headers":` + headers + `}`)
}

func withForm(rest string) string {
	return withDest(`{"type":"httpPostFormLocation","url":"https://example.test/"` + rest + `}`)
}

func withObject(bucket, key string) string {
	return withSrc(`{"type":"objectLocation","bucket":` + quoted(bucket) + `,"key":` + quoted(key) + `}`)
}

func manyMembers(n int, format string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, format, i)
	}
	return "{" + b.String() + "}"
}

// hostile holds bodies and the problems that they must be refused with, each as "pointer code".
var hostile = []struct {
	name string
	body string
	want []string
}{
	// JSON
	{"empty", "", []string{" syntax"}},
	{"blank", " \n", []string{" syntax"}},
	{"not json", "files", []string{" syntax"}},
	{"cut off", `{"files":[`, []string{"/files syntax"}},
	{"trailing value", withPath("/a") + `{}`, []string{" syntax"}},
	{"trailing garbage", withPath("/a") + ` x`, []string{" syntax"}},
	{"trailing comma", `{"files":[],}`, []string{" syntax"}},
	{"duplicate at the top", `{"files":[],"files":[]}`, []string{"/files syntax"}},
	{"duplicate by escape", `{"files":[],"f\u0069les":[]}`, []string{"/files syntax"}},
	{"duplicate in a location", withDest(`{"type":"sandboxFileLocation","path":"/a","path":"/b"}`), []string{"/files/0/dest/path syntax"}},
	{"duplicate header of one case", withHeaders(`{"A":"1","A":"2"}`), []string{"/files/0/src/headers/A syntax"}},
	{"duplicate in a member skipped", `{"x":{"a":1,"a":2},"files":[]}`, []string{"/x/a syntax"}},
	{"not utf-8", "{\"files\":[\"\xff\"]}", []string{"/files/0 syntax"}},
	{"half a surrogate", `{"files":["\ud800"]}`, []string{"/files/0 syntax"}},
	{"byte order mark", "\ufeff" + withPath("/a"), []string{" syntax"}},
	{"deep arrays", `{"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, []string{"/x" + strings.Repeat("/0", 31) + " syntax"}},
	{"very deep", strings.Repeat("[", 100_000), []string{strings.Repeat("/0", 32) + " syntax"}},
	{"comment", "// hello\n{}", []string{" syntax"}},
	{"NaN", `{"files":NaN}`, []string{"/files syntax"}},

	// the request
	{"array", `[]`, []string{" wrong_type"}},
	{"null", `null`, []string{" wrong_type"}},
	{"string", `"files"`, []string{" wrong_type"}},
	{"no files", `{}`, []string{"/files missing"}},
	{"files null", `{"files":null}`, []string{"/files missing"}},
	{"files object", `{"files":{}}`, []string{"/files wrong_type"}},
	{"files string", `{"files":"x"}`, []string{"/files wrong_type"}},
	{"files empty", `{"files":[]}`, []string{"/files empty"}},
	{"other case", `{"Files":[` + file(goodSrc, goodDest) + `]}`, []string{"/Files unknown_member", "/files missing"}},
	{"unknown at the top", `{"dry_run":true,"files":[` + file(goodSrc, goodDest) + `]}`, []string{"/dry_run unknown_member"}},
	{"too many", files(strings.Repeat(file(goodSrc, goodDest)+",", 8) + file(goodSrc, goodDest)), []string{"/files too_many"}},

	// a file
	{"file null", files(`null`), []string{"/files/0 missing"}},
	{"file number", files(`1`), []string{"/files/0 wrong_type"}},
	{"file empty", files(`{}`), []string{"/files/0/src missing", "/files/0/dest missing"}},
	{"a trail of rules, which is not the caller's to say", files(`{"trail":["ORG/rule"],"src":` + goodSrc + `,"dest":` + goodDest + `}`), []string{"/files/0/trail unknown_member"}},
	{"unknown in a file", files(`{"source":1,"src":` + goodSrc + `,"dest":` + goodDest + `}`), []string{"/files/0/source unknown_member"}},
	{"id number", files(`{"id":7,"src":` + goodSrc + `,"dest":` + goodDest + `}`), []string{"/files/0/id wrong_type"}},
	{"id too long", files(`{"id":"` + strings.Repeat("ä", 129) + `","src":` + goodSrc + `,"dest":` + goodDest + `}`), []string{"/files/0/id too_long"}},
	{"id newline", files(`{"id":"a\nb","src":` + goodSrc + `,"dest":` + goodDest + `}`), []string{"/files/0/id control_character"}},
	{"id twice", files(`{"id":"a","src":`+goodSrc+`,"dest":`+goodDest+`}`, `{"id":"a","src":`+goodSrc+`,"dest":{"type":"sandboxFileLocation","path":"/b"}}`), []string{"/files/1/id duplicate_id"}},
	{"two files, each its own", files(file(`null`, goodDest), file(goodSrc, `7`)), []string{"/files/0/src missing", "/files/1/dest wrong_type"}},

	// a location
	{"src string", withSrc(`"https://example.test/"`), []string{"/files/0/src wrong_type"}},
	{"src array", withSrc(`[]`), []string{"/files/0/src wrong_type"}},
	{"no type", withSrc(`{"url":"https://example.test/"}`), []string{"/files/0/src/type missing"}},
	{"type null", withSrc(`{"type":null}`), []string{"/files/0/src/type missing"}},
	{"type empty", withSrc(`{"type":""}`), []string{"/files/0/src/type empty"}},
	{"type number", withSrc(`{"type":1}`), []string{"/files/0/src/type wrong_type"}},
	{"type unknown", withSrc(`{"type":"ftpLocation"}`), []string{"/files/0/src/type unknown_location_type"}},
	{"type of another case", withSrc(`{"type":"HttpGetLocation"}`), []string{"/files/0/src/type unknown_location_type"}},
	{"put as source", withSrc(`{"type":"httpPutLocation","url":"https://example.test/"}`), []string{"/files/0/src/type not_a_source"}},
	{"form as source", withSrc(`{"type":"httpPostFormLocation","url":"https://example.test/","form":{}}`), []string{"/files/0/src/type not_a_source"}},
	{"get as destination", withDest(goodSrc), []string{"/files/0/dest/type not_a_destination"}},
	{"unknown member", withSrc(`{"type":"httpGetLocation","url":"https://example.test/","header":{}}`), []string{"/files/0/src/header unknown_member"}},
	{"member of another type", withSrc(`{"type":"httpGetLocation","url":"https://example.test/","path":"/a"}`), []string{"/files/0/src/path unexpected_member"}},
	{"sandbox in a path", withDest(`{"type":"sandboxFileLocation","path":"/a","sandbox":"other"}`), []string{"/files/0/dest/sandbox unknown_member"}},
	{"200 members", withSrc(manyMembers(200, `"m%d":1`)), []string{"/files/0/src/type missing"}},
	{"same file", files(file(`{"type":"sandboxFileLocation","path":"/x/../a"}`, goodDest)), []string{"/files/0/dest same_location"}},
	{"same object", files(file(`{"type":"objectLocation","bucket":"abc","key":"k"}`, `{"type":"objectLocation","bucket":"abc","key":"k"}`)), []string{"/files/0/dest same_location"}},

	// paths
	{"path missing", withDest(`{"type":"sandboxFileLocation"}`), []string{"/files/0/dest/path missing"}},
	{"path null", withDest(`{"type":"sandboxFileLocation","path":null}`), []string{"/files/0/dest/path missing"}},
	{"path number", withDest(`{"type":"sandboxFileLocation","path":1}`), []string{"/files/0/dest/path wrong_type"}},
	{"path empty", withPath(""), []string{"/files/0/dest/path empty"}},
	{"path relative", withPath("a/b"), []string{"/files/0/dest/path invalid_path"}},
	{"path tilde", withPath("~/a"), []string{"/files/0/dest/path invalid_path"}},
	{"path of windows", withPath(`C:\a`), []string{"/files/0/dest/path invalid_path"}},
	{"path root", withPath("/"), []string{"/files/0/dest/path invalid_path"}},
	{"path of slashes", withPath("////"), []string{"/files/0/dest/path invalid_path"}},
	{"path directory", withPath("/a/"), []string{"/files/0/dest/path invalid_path"}},
	{"path dot", withPath("/a/."), []string{"/files/0/dest/path invalid_path"}},
	{"path ends above", withPath("/a/b/.."), []string{"/files/0/dest/path invalid_path"}},
	{"path escapes", withPath("/../etc/passwd"), []string{"/files/0/dest/path path_escapes"}},
	{"path escapes later", withPath("/a/../../b"), []string{"/files/0/dest/path path_escapes"}},
	{"path escapes and returns", withPath("/a/../../a/b"), []string{"/files/0/dest/path path_escapes"}},
	{"path NUL", withPath("/a\x00b"), []string{"/files/0/dest/path control_character"}},
	{"path newline", withPath("/a\nb"), []string{"/files/0/dest/path control_character"}},
	{"path C1", withPath("/a\u0085b"), []string{"/files/0/dest/path control_character"}},
	{"path DEL", withPath("/a\x7f"), []string{"/files/0/dest/path control_character"}},
	{"path name 256", withPath("/" + strings.Repeat("x", 256)), []string{"/files/0/dest/path too_long"}},
	{"path 4097", withPath(strings.Repeat("/abc", 1024) + "x"), []string{"/files/0/dest/path too_long"}},
	{"path reserved", withPath("/a/.copyfleet-x/b"), []string{"/files/0/dest/path path_reserved"}},

	// URLs
	{"url missing", withSrc(`{"type":"httpGetLocation"}`), []string{"/files/0/src/url missing"}},
	{"url object", withSrc(`{"type":"httpGetLocation","url":{}}`), []string{"/files/0/src/url wrong_type"}},
	{"url empty", withURL(""), []string{"/files/0/src/url empty"}},
	{"url no scheme", withURL("example.test/a"), []string{"/files/0/src/url invalid_url"}},
	{"url relative", withURL("//example.test/a"), []string{"/files/0/src/url invalid_url"}},
	{"url file", withURL("file:///etc/passwd"), []string{"/files/0/src/url invalid_url"}},
	{"url ftp", withURL("ftp://example.test/a"), []string{"/files/0/src/url invalid_url"}},
	{"url gopher", withURL("gopher://example.test:70/"), []string{"/files/0/src/url invalid_url"}},
	{"url opaque", withURL("http:example.test"), []string{"/files/0/src/url invalid_url"}},
	{"url no host", withURL("http:///a"), []string{"/files/0/src/url invalid_url"}},
	{"url port only", withURL("http://:80/"), []string{"/files/0/src/url invalid_host"}},
	{"url user", withURL("https://user@example.test/"), []string{"/files/0/src/url url_userinfo"}},
	{"url password", withURL("https://user:pass@example.test/"), []string{"/files/0/src/url url_userinfo"}},
	{"url space", withURL("https://example.test/a b"), []string{"/files/0/src/url invalid_url"}},
	{"url leading space", withURL(" https://example.test/"), []string{"/files/0/src/url invalid_url"}},
	{"url newline", withURL("https://example.test/\r\nX: y"), []string{"/files/0/src/url invalid_url"}},
	{"url tab", withURL("https://exa\tmple.test/"), []string{"/files/0/src/url invalid_url"}},
	{"url NUL", withURL("https://example.test/\x00"), []string{"/files/0/src/url invalid_url"}},
	{"url backslash", withURL(`https://example.test\@evil.test/`), []string{"/files/0/src/url invalid_url"}},
	{"url bad escape", withURL("https://example.test/%zz"), []string{"/files/0/src/url invalid_url"}},
	{"url escaped host", withURL("http://127%2e0.0.1/"), []string{"/files/0/src/url invalid_url"}},
	{"url too long", withURL("https://example.test/" + strings.Repeat("a", 8192)), []string{"/files/0/src/url too_long"}},
	{"host decimal", withURL("http://2130706433/"), []string{"/files/0/src/url invalid_host"}},
	{"host hex", withURL("http://0x7f000001/"), []string{"/files/0/src/url invalid_host"}},
	{"host hex upper", withURL("http://0X7F.1/"), []string{"/files/0/src/url invalid_host"}},
	{"host hex last", withURL("http://127.0.0.0x1/"), []string{"/files/0/src/url invalid_host"}},
	{"host bare 0x", withURL("http://127.0.0.0x/"), []string{"/files/0/src/url invalid_host"}},
	{"host octal", withURL("http://017700000001/"), []string{"/files/0/src/url invalid_host"}},
	{"host octal dotted", withURL("http://0177.0.0.1/"), []string{"/files/0/src/url invalid_host"}},
	{"host short", withURL("http://127.1/"), []string{"/files/0/src/url invalid_host"}},
	{"host zero", withURL("http://0/"), []string{"/files/0/src/url invalid_host"}},
	{"host five numbers", withURL("http://1.2.3.4.5/"), []string{"/files/0/src/url invalid_host"}},
	{"host 256", withURL("http://1.2.3.256/"), []string{"/files/0/src/url invalid_host"}},
	{"host dot after address", withURL("http://127.0.0.1./"), []string{"/files/0/src/url invalid_host"}},
	{"host wide digits", withURL("http://１２７.0.0.1/"), []string{"/files/0/src/url invalid_host"}},
	{"host ideographic stop", withURL("http://127。0。0。1/"), []string{"/files/0/src/url invalid_host"}},
	{"host zone", withURL("http://[fe80::1%25eth0]/"), []string{"/files/0/src/url invalid_host"}},
	{"host v4 in brackets", withURL("http://[127.0.0.1]/"), []string{"/files/0/src/url invalid_url"}},
	{"host v6 without brackets", withURL("http://::1/"), []string{"/files/0/src/url invalid_url"}},
	{"host empty label", withURL("http://a..test/"), []string{"/files/0/src/url invalid_host"}},
	{"host long label", withURL("http://" + strings.Repeat("a", 64) + ".test/"), []string{"/files/0/src/url invalid_host"}},
	{"host too long", withURL("http://" + strings.Repeat("a.", 127) + "test/"), []string{"/files/0/src/url invalid_host"}},
	{"host hyphen", withURL("http://-a.test/"), []string{"/files/0/src/url invalid_host"}},
	{"host star", withURL("http://*.test/"), []string{"/files/0/src/url invalid_host"}},
	{"host unicode", withURL("http://bücher.test/"), []string{"/files/0/src/url invalid_host"}},
	{"port zero", withURL("http://example.test:0/"), []string{"/files/0/src/url invalid_host"}},
	{"port large", withURL("http://example.test:65536/"), []string{"/files/0/src/url invalid_host"}},
	{"port empty", withURL("http://example.test:/"), []string{"/files/0/src/url invalid_host"}},
	{"port word", withURL("http://example.test:http/"), []string{"/files/0/src/url invalid_url"}},
	{"port negative", withURL("http://example.test:-1/"), []string{"/files/0/src/url invalid_url"}},

	// headers
	{"headers array", withHeaders(`[]`), []string{"/files/0/src/headers wrong_type"}},
	{"header number", withHeaders(`{"A":1}`), []string{"/files/0/src/headers/A wrong_type"}},
	{"header null", withHeaders(`{"A":null}`), []string{"/files/0/src/headers/A wrong_type"}},
	{"header no name", withHeaders(`{"":"x"}`), []string{"/files/0/src/headers/ invalid_header"}},
	{"header name space", withHeaders(`{"A B":"x"}`), []string{"/files/0/src/headers/A B invalid_header"}},
	{"header name colon", withHeaders(`{":path":"x"}`), []string{"/files/0/src/headers/:path invalid_header"}},
	{"header name slash", withHeaders(`{"A/B~":"x"}`), []string{"/files/0/src/headers/A~1B~0 invalid_header"}},
	{"header name umlaut", withHeaders(`{"Ä":"x"}`), []string{"/files/0/src/headers/Ä invalid_header"}},
	{"header value CRLF", withHeaders(`{"A":"x\r\nHost: y"}`), []string{"/files/0/src/headers/A invalid_header"}},
	{"header value NUL", withHeaders(`{"A":"\u0000"}`), []string{"/files/0/src/headers/A invalid_header"}},
	{"header twice", withHeaders(`{"X-A":"1","x-a":"2"}`), []string{"/files/0/src/headers/x-a duplicate_header"}},
	{"header host", withHeaders(`{"hOsT":"x"}`), []string{"/files/0/src/headers/hOsT forbidden_header"}},
	{"header length", withHeaders(`{"Content-Length":"1"}`), []string{"/files/0/src/headers/Content-Length forbidden_header"}},
	{"header transfer encoding", withHeaders(`{"Transfer-Encoding":"chunked"}`), []string{"/files/0/src/headers/Transfer-Encoding forbidden_header"}},
	{"header connection", withHeaders(`{"Connection":"close"}`), []string{"/files/0/src/headers/Connection forbidden_header"}},
	{"header keep-alive", withHeaders(`{"Keep-Alive":"1"}`), []string{"/files/0/src/headers/Keep-Alive forbidden_header"}},
	{"header proxy", withHeaders(`{"Proxy-Authorization":"x"}`), []string{"/files/0/src/headers/Proxy-Authorization forbidden_header"}},
	{"header te", withHeaders(`{"TE":"trailers"}`), []string{"/files/0/src/headers/TE forbidden_header"}},
	{"header trailer", withHeaders(`{"Trailer":"x"}`), []string{"/files/0/src/headers/Trailer forbidden_header"}},
	{"header upgrade", withHeaders(`{"Upgrade":"h2c"}`), []string{"/files/0/src/headers/Upgrade forbidden_header"}},
	{"header expect", withHeaders(`{"Expect":"100-continue"}`), []string{"/files/0/src/headers/Expect forbidden_header"}},
	{"header range", withHeaders(`{"Range":"bytes=0-1"}`), []string{"/files/0/src/headers/Range forbidden_header"}},
	{"header if-none-match of a get", withHeaders(`{"If-None-Match":"*"}`), []string{"/files/0/src/headers/If-None-Match forbidden_header"}},
	{"header gzip", withHeaders(`{"Accept-Encoding":"gzip"}`), []string{"/files/0/src/headers/Accept-Encoding forbidden_header"}},
	{"header content range of a put", putHeaders(`{"Content-Range":"bytes 0-1/2"}`), []string{"/files/0/dest/headers/Content-Range forbidden_header"}},
	{"65 headers", withHeaders(manyMembers(65, `"h%d":"x"`)), []string{"/files/0/src/headers too_many"}},
	{"200 headers", withHeaders(manyMembers(200, `"h%d":"x"`)), []string{"/files/0/src/headers too_many"}},
	{"headers too long", withHeaders(`{"A":"` + strings.Repeat("x", 16384) + `"}`), []string{"/files/0/src/headers too_long"}},

	// forms
	{"form missing", withForm(``), []string{"/files/0/dest/form missing"}},
	{"form null", withForm(`,"form":null`), []string{"/files/0/dest/form missing"}},
	{"form array", withForm(`,"form":[]`), []string{"/files/0/dest/form wrong_type"}},
	{"form number", withForm(`,"form":{"a":1}`), []string{"/files/0/dest/form/a wrong_type"}},
	{"form no name", withForm(`,"form":{"":"x"}`), []string{"/files/0/dest/form/ invalid_form"}},
	{"form name newline", withForm(`,"form":{"a\r\nb":"x"}`), []string{"/files/0/dest/form/a\r\nb control_character"}},
	{"form 101", withForm(`,"form":` + manyMembers(101, `"f%d":"x"`)), []string{"/files/0/dest/form too_many"}},
	{"form too long", withForm(`,"form":{"a":"` + strings.Repeat("x", 65536) + `"}`), []string{"/files/0/dest/form too_long"}},
	{"form content type", withForm(`,"form":{},"headers":{"content-type":"multipart/form-data"}`), []string{"/files/0/dest/headers/content-type forbidden_header"}},
	{"file field empty", withForm(`,"form":{},"fileField":""`), []string{"/files/0/dest/fileField invalid_form"}},
	{"file field number", withForm(`,"form":{},"fileField":1`), []string{"/files/0/dest/fileField wrong_type"}},
	{"file field newline", withForm(`,"form":{},"fileField":"a\nb"`), []string{"/files/0/dest/fileField control_character"}},
	{"file field taken", withForm(`,"form":{"f":"x"},"fileField":"f"`), []string{"/files/0/dest/fileField file_field_conflict"}},
	{"file field taken by default", withForm(`,"form":{"file":"x"}`), []string{"/files/0/dest/fileField file_field_conflict"}},

	// objects
	{"object empty", withSrc(`{"type":"objectLocation"}`), []string{"/files/0/src/bucket missing", "/files/0/src/key missing"}},
	{"bucket short", withObject("ab", "k"), []string{"/files/0/src/bucket invalid_bucket"}},
	{"bucket long", withObject(strings.Repeat("a", 64), "k"), []string{"/files/0/src/bucket invalid_bucket"}},
	{"bucket upper", withObject("Abc", "k"), []string{"/files/0/src/bucket invalid_bucket"}},
	{"bucket slash", withObject("abc/def", "k"), []string{"/files/0/src/bucket invalid_bucket"}},
	{"bucket dots", withObject("a..b", "k"), []string{"/files/0/src/bucket invalid_bucket"}},
	{"bucket address", withObject("192.168.0.1", "k"), []string{"/files/0/src/bucket invalid_bucket"}},
	{"bucket hyphen", withObject("abc-", "k"), []string{"/files/0/src/bucket invalid_bucket"}},
	{"bucket parent", withObject("../abc", "k"), []string{"/files/0/src/bucket invalid_bucket"}},
	{"key empty", withObject("abc", ""), []string{"/files/0/src/key empty"}},
	{"key long", withObject("abc", strings.Repeat("ä", 513)), []string{"/files/0/src/key invalid_key"}},
	{"key NUL", withObject("abc", "\x00k"), []string{"/files/0/src/key invalid_key"}},
	{"key parent", withObject("abc", "team/../other/k"), []string{"/files/0/src/key invalid_key"}},
	{"key dot", withObject("abc", "./k"), []string{"/files/0/src/key invalid_key"}},
}

func TestHostileCopyRequests(t *testing.T) {
	t.Parallel()
	for _, tc := range hostile {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			items, p := decodeCopyRequest([]byte(tc.body), "box", 8)
			if p == nil {
				t.Fatalf("accepted as %#v", items)
			}
			var got []string
			for _, e := range p.Errors {
				got = append(got, e.Pointer+" "+e.Code)
				if e.Message == "" {
					t.Errorf("%s has no message", e.Pointer)
				}
			}
			// What stands after the first line of "200 members" repeats it 127 times.
			if tc.name == "200 members" {
				got = got[:1]
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAcceptedCopyRequests(t *testing.T) {
	t.Parallel()
	sandboxA := protocol.Location{Type: protocol.SandboxFile, Sandbox: "box", Path: "/a"}
	get := func(url string) protocol.Location { return protocol.Location{Type: protocol.HTTPGet, URL: url} }
	for _, tc := range []struct {
		name string
		body string
		want []protocol.Item
	}{
		{"as on the page", files(`{"id":"x","src":` + goodSrc + `,"dest":` + goodDest + `}`), []protocol.Item{{ID: "x", Src: get("https://example.test/a"), Dest: sandboxA}}},
		{"members in another order", `{"files":[{"dest":{"path":"/a","type":"sandboxFileLocation"},"src":{"url":"https://example.test/a","type":"httpGetLocation"}}]}`, []protocol.Item{{Src: get("https://example.test/a"), Dest: sandboxA}}},
		{"null is absent", files(`{"id":null,"src":{"type":"httpGetLocation","url":"https://example.test/a","headers":null,"path":null,"form":null},"dest":` + goodDest + `}`), []protocol.Item{{Src: get("https://example.test/a"), Dest: sandboxA}}},
		{"empty ids may repeat", files(`{"id":"","src":`+goodSrc+`,"dest":`+goodDest+`}`, `{"id":"","src":`+goodSrc+`,"dest":`+goodDest+`}`), []protocol.Item{{Src: get("https://example.test/a"), Dest: sandboxA}, {Index: 1, Src: get("https://example.test/a"), Dest: sandboxA}}},
		{"path is cleaned", withPath("//b/.././a"), []protocol.Item{{Src: get("https://example.test/a"), Dest: sandboxA}}},
		{"fragment is dropped", withURL("HTTPS://Example.test:8443/%2F?sig=a%2Bb#frag"), []protocol.Item{{Src: get("HTTPS://Example.test:8443/%2F?sig=a%2Bb"), Dest: sandboxA}}},
		{"addresses", files(file(`{"type":"httpGetLocation","url":"http://192.0.2.1/"}`, goodDest), file(`{"type":"httpGetLocation","url":"http://[2001:db8::1]:80/"}`, goodDest)), []protocol.Item{{Src: get("http://192.0.2.1/"), Dest: sandboxA}, {Index: 1, Src: get("http://[2001:db8::1]:80/"), Dest: sandboxA}}},
		{"names that only look odd", files(file(`{"type":"httpGetLocation","url":"http://my_host.1a.example.test./"}`, goodDest)), []protocol.Item{{Src: get("http://my_host.1a.example.test./"), Dest: sandboxA}}},
		{"form", withForm(`,"form":{"key":"a\r\nb"}`), []protocol.Item{{Src: get("https://example.test/a"), Dest: protocol.Location{Type: protocol.HTTPPostForm, URL: "https://example.test/", Form: map[string]string{"key": "a\r\nb"}, FileField: "file"}}}},
		{"put that keeps what is there", putHeaders(`{"If-None-Match":"*","Content-Type":"text/plain"}`), []protocol.Item{{Src: get("https://example.test/a"), Dest: protocol.Location{Type: protocol.HTTPPut, URL: "https://example.test/", Headers: map[string]string{"If-None-Match": "*", "Content-Type": "text/plain"}}}}},
		{"object", withObject("abc", "a//b/..c"), []protocol.Item{{Src: protocol.Location{Type: protocol.Object, Bucket: "abc", Key: "a//b/..c"}, Dest: sandboxA}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, p := decodeCopyRequest([]byte(tc.body), "box", 8)
			if p != nil {
				t.Fatalf("refused: %s %v", p.Message, p.Errors)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("items (-want +got):\n%s", diff)
			}
		})
	}
}

// TestProblemsAreCapped holds the answer to 100 problems and the true total.
func TestProblemsAreCapped(t *testing.T) {
	t.Parallel()
	list := make([]string, 300)
	for i := range list {
		list[i] = "{}"
	}
	_, p := decodeCopyRequest([]byte(files(list...)), "box", 1000)
	if p == nil || len(p.Errors) != MaxProblems || p.Total != 600 {
		t.Fatalf("got %d problems of %d, want 100 of 600", len(p.Errors), p.Total)
	}
}

// TestPointersAreShort keeps what was sent by the megabyte from being sent back.
func TestPointersAreShort(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<20)
	for _, body := range []string{
		withHeaders(`{"` + long + ` ":"v"}`),
		`{"` + long + `":1}`,
		`{"` + long + `":{"` + long + `":x}}`,
		withSrc(`{"type":"` + long + `"}`),
	} {
		_, p := decodeCopyRequest([]byte(body), "box", 8)
		if p == nil {
			t.Fatal("accepted")
		}
		if out := quoted(fmt.Sprint(*p)); len(out) > 4096 {
			t.Errorf("the answer has %d bytes", len(out))
		}
	}
}

// TestNoSecretInProblems looks for the value of everything that may be a credential.
func TestNoSecretInProblems(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		withURL("https://user:s3cret@example.test/"),
		withURL("https://example.test/%zz?sig=s3cret"),
		withURL("http://0x7f.s3cret:99999/s3cret"),
		withURL("s3cret://x"),
		withHeaders(`{"Authorization":"s3cret\n","Host":"s3cret"}`),
		withForm(`,"form":{"":"s3cret"}`),
		withSrc(`{"type":"httpGetLocation","url":"https://example.test/?s3cret","x":"s3cret"}`),
	} {
		_, p := decodeCopyRequest([]byte(body), "box", 8)
		if p == nil {
			t.Fatalf("accepted: %s", body)
		}
		if out := fmt.Sprint(*p); strings.Contains(out, "s3cret") {
			t.Errorf("%s tells: %s", body, out)
		}
	}
}

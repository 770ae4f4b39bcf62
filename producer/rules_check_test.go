package producer

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// checkedRule is a rule whose copy stands on the lines 3 to 7.
func checkedRule(src, dest, more string) string {
	return "name: in\nmatch: {source: s3, bucket: bucket-b}\ncopy:\n  src: {" + src + "}\n  dest: {" + dest + "}\n  " + more + "\n"
}

const (
	checkedSrc  = `type: objectLocation, bucket: "{{bucket}}", key: "{{key}}"`
	checkedDest = `type: sandboxFileLocation, sandbox: none, path: "/in/{{key}}"`
)

// TestRulesOfWhichNoCopyIsValid are refused when they are applied, with field and line, and not with each event.
func TestRulesOfWhichNoCopyIsValid(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	newRules(s)
	put := func(more string) string { return `type: httpPutLocation, url: "https://dst.test/{{key}}"` + more }
	for _, tt := range []struct {
		src, dest, more string
		line            int
		pointer         string
	}{
		{checkedSrc, put(`, headers: {Host: "{{bucket}}"}`), "", 5, "/copy/dest/headers/Host"},
		{checkedSrc, put(`, headers: {Accept-Encoding: gzip}`), "", 5, "/copy/dest/headers/Accept-Encoding"},
		{checkedSrc, put(`, headers: {a: "1", A: "{{key}}"}`), "", 5, "/copy/dest/headers/a"},
		{checkedSrc, put(`, headers: {"a b": "{{key}}"}`), "", 5, "/copy/dest/headers/a b"},
		{checkedSrc, put(`, headers: {a: "` + strings.Repeat("x", 8000) + `", b: "` + strings.Repeat("x", 8000) + `", c: "` + strings.Repeat("x", 8000) + `"}`), "", 5, "/copy/dest/headers"},
		{checkedSrc, put(""), "conflict: skip", 6, "/copy/conflict"},
		{checkedSrc, checkedDest, "digest: none\n  md5: \"{{etag}}\"", 6, "/copy/digest"},
		{checkedSrc, checkedDest, "digest: none\n  sha256: \"{{event.data.sum}}\"", 6, "/copy/digest"},
		{`type: httpGetLocation, url: "https://127.1/{{key}}"`, checkedDest, "", 4, "/copy/src/url"},
		{`type: httpGetLocation, url: "https://src.test:0/{{key}}"`, checkedDest, "", 4, "/copy/src/url"},
		{`type: httpGetLocation, url: "https://src.test/a b/{{key}}"`, checkedDest, "", 4, "/copy/src/url"},
		{checkedSrc, `type: sandboxFileLocation, sandbox: none, path: "/.copyfleet-{{key}}"`, "", 5, "/copy/dest/path"},
		{checkedSrc, `type: sandboxFileLocation, sandbox: none, path: "/` + strings.Repeat("x", 256) + `"`, "", 5, "/copy/dest/path"},
		{checkedSrc, `type: httpPostFormLocation, url: "https://dst.test/", fileField: f, form: {f: "{{key}}"}`, "", 5, "/copy/dest/fileField"},
	} {
		text := checkedRule(tt.src, tt.dest, tt.more)
		a := s.call("one/admin", "POST", "/v1/rules", "# \n---\n"+text, asYAML...).want(http.StatusBadRequest, CodeRuleInvalid)
		p := decode[Problem](a)
		if len(p.Errors) != 1 || p.Errors[0].Line != tt.line+2 || p.Errors[0].Pointer != tt.pointer {
			t.Errorf("%s\nrefused with %.600s\nwant %s on line %d", text, a.body, tt.pointer, tt.line+2)
		}
		const event = `{"Records":[{"eventName":"s3:ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"k"}}}]}`
		s.call("one/read", "POST", "/v1/rules/test", `{"event":`+event+`,"rules":`+strconv.Quote(text)+`}`).want(http.StatusBadRequest, CodeRuleInvalid)
	}
	p := decode[Problem](s.call("one/admin", "POST", "/v1/rules", "\n"+ruleText("test", "bucket-b"), asYAML...).want(http.StatusBadRequest, CodeRuleInvalid))
	if len(p.Errors) != 1 || p.Errors[0].Line != 2 || p.Errors[0].Pointer != "/name" {
		t.Errorf("a reserved name is refused with %+v", p.Errors)
	}
}

// TestRulesOfWhichSomeCopyIsValid are taken: what one value makes wrong, another may make right, and grants and sandboxes may come later.
func TestRulesOfWhichSomeCopyIsValid(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	newRules(s)
	put := func(more string) string { return `type: httpPutLocation, url: "https://dst.test/{{key}}"` + more }
	for i, text := range []string{
		checkedRule(checkedSrc, checkedDest, `md5: "{{etag}}"`),
		checkedRule(checkedSrc, checkedDest, `sha256: "{{key.name}}"`),
		checkedRule(checkedSrc, checkedDest, `sha256: "{{event.data.first}}{{event.data.second}}"`),
		checkedRule(checkedSrc, checkedDest, `size: "{{event.data.n}}"`),
		checkedRule(checkedSrc, put(`, headers: {Accept-Encoding: "{{event.data.coding}}"}`), ""),
		checkedRule(checkedSrc, `type: objectLocation, bucket: foreign, key: "{{key}}"`, ""),
		checkedRule(checkedSrc, `type: objectLocation, bucket: "{{event.data.bucket}}", key: "{{key}}"`, ""),
		checkedRule(checkedSrc, `type: sandboxFileLocation, sandbox: "{{event.data.box}}", path: "/{{key.dir}}/{{key.base}}"`, ""),
		checkedRule(`type: httpGetLocation, url: "{{event.data.url}}"`, `type: sandboxFileLocation, sandbox: none, path: "/`+strings.Repeat("x", 250)+`{{key.ext}}/{{etag}}"`, ""),
		strings.Replace(checkedRule(checkedSrc, `type: objectLocation, bucket: foreign, key: "{{key}}"`, ""), "bucket-b", "bucket-b, prefix: "+strings.Repeat("p", 1020), 1),
	} {
		text = strings.Replace(text, "name: in", fmt.Sprintf("name: in-%d", i), 1)
		if a := s.call("one/admin", "POST", "/v1/rules", text, asYAML...); a.status != http.StatusOK {
			t.Errorf("%s\n%d %s", text, a.status, a.body)
		}
	}
}

package rules

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/copyfleet/copyfleet/producer/events"
)

// rendered is an item as Render writes it.
type rendered struct {
	ID        string   `json:"id"`
	Src, Dest rendloc  `json:"-"`
	RawSrc    *rendloc `json:"src"`
	RawDest   *rendloc `json:"dest"`
	Size      int64    `json:"size"`
}

type rendloc struct {
	Type    string            `json:"type"`
	Sandbox string            `json:"sandbox"`
	Path    string            `json:"path"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Form    map[string]string `json:"form"`
	Bucket  string            `json:"bucket"`
	Key     string            `json:"key"`
}

func render(t *testing.T, r *Rule, e *events.Event) (rendered, *RenderError) {
	t.Helper()
	text, err := r.Render(e, func(name string) (string, error) {
		if name == "gone" {
			return "", errors.New("the store says s3cret")
		}
		return "value of " + name, nil
	})
	fault, isFault := errors.AsType[*RenderError](err)
	if err != nil && (!isFault || strings.Contains(err.Error(), "s3cret")) {
		t.Fatalf("the error is %v", err)
	}
	var out rendered
	if fault != nil {
		return out, fault
	}
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&out); err != nil || d.More() {
		t.Fatalf("%s is no item: %v", text, err)
	}
	again, err := r.Render(e, func(name string) (string, error) { return "value of " + name, nil })
	if err != nil || string(again) != string(text) {
		t.Fatalf("rendered twice it is %s and %s, %v", text, again, err)
	}
	out.Src, out.Dest = *out.RawSrc, *out.RawDest
	return out, nil
}

// everywhere puts a key wherever one may stand.
const everywhere = onS3 + `copy:
  id: "{{key}}"
  src: {type: httpGetLocation, url: "https://h.test:8443/a%20b/{{key}}/x-{{key.base}}.z/{{event.data.x}}?k={{key}}&v=a{{event.data.x}}b&w", headers: {X-Key: "<{{key}}>"}}
  dest: {type: sandboxFileLocation, sandbox: S, path: "/in/dir/p-{{key}}"}
`

const toABucket = onS3 + `copy:
  src: {type: objectLocation, bucket: "{{bucket}}", key: "{{key}}"}
  dest: {type: httpPostFormLocation, url: "https://h.test?{{key}}", form: {"a b": "{{key}}"}}
`

const toAKey = onS3 + `copy:
  src: {type: objectLocation, bucket: "{{bucket}}", key: "{{key}}"}
  dest: {type: objectLocation, bucket: out-1, key: "lit/p-{{key}}"}
`

// oddKeys are keys with every odd character.
var oddKeys = []string{
	"a", "a/b.c", "100%", "a%2Fb", "%2e%2e/x", "a+b c", "q?x=1&y=2", "a#b;c", `quo"te'`, `back\slash`, `a\..\b`, "new\nline", "nul\x00", "tab\t", "é/ü/😀", "\xff\xfe", "..", ".", "../x",
	"a/../b", "a/./b", "a//b", "/a", "a/", "...", "a..b", ".hidden", "http://evil/", "@host", "{{key}}", "${x}", `"},"x":{"`, "\u2028\u2029", "\u202e", "a,b:c=d", "[x]", "<>&", "~-._", "%", "%zz", "\u0085",
	strings.Repeat("k", 1024), strings.Repeat("k/", 500) + "k",
}

// FuzzRender: whatever the key and another value are, either the copy is refused, or each reader of it finds exactly the values in their places.
func FuzzRender(f *testing.F) {
	all, form, key := mustParse(f, everywhere), mustParse(f, toABucket), mustParse(f, toAKey)
	for _, key := range oddKeys {
		f.Add(key, "x")
		f.Add("k", key)
	}
	f.Fuzz(func(t *testing.T, k, x string) {
		checkEverywhere(t, all, k, x)
		checkBuckets(t, form, key, k)
	})
}

func mustParse(f *testing.F, text string) *Rule {
	f.Helper()
	rules, problems := Parse([]byte(text))
	if len(rules) != 1 {
		f.Fatalf("problems %+v", problems)
	}
	return rules[0]
}

func s3Event(key string, data any) *events.Event {
	return &events.Event{Source: events.S3, Type: "s3:ObjectCreated:Put", Bucket: "in-1", Key: key, Size: -1, Fields: map[string]any{"data": map[string]any{"x": data}}}
}

func checkEverywhere(t *testing.T, r *Rule, k, x string) {
	t.Helper()
	out, fault := render(t, r, s3Event(k, x))
	if fault != nil {
		if plainText(k) && plainText(x) {
			t.Errorf("%q and %q are refused: %v", k, x, fault)
		}
		return
	}
	base := k[strings.LastIndex(k, "/")+1:]
	if out.ID != k || out.Src.Headers["X-Key"] != "<"+k+">" {
		t.Errorf("the id is %q, the header %q, of the key %q", out.ID, out.Src.Headers["X-Key"], k)
	}
	u, err := url.Parse(out.Src.URL)
	if err != nil || u.Scheme != "https" || u.Host != "h.test:8443" || u.User != nil || u.Fragment != "" {
		t.Fatalf("the URL is %q, %v", out.Src.URL, err)
	}
	if want := "/a b/" + k + "/x-" + base + ".z/" + x; u.Path != want {
		t.Errorf("the path of the URL is %q, want %q", u.Path, want)
	}
	if got, want := u.EscapedPath(), strings.Count(k, "/")+5; strings.Count(got, "/") != want-1 {
		t.Errorf("the URL path %q has not %d segments", got, want)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil || len(query) != 3 || query.Get("k") != k || query.Get("v") != "a"+x+"b" {
		t.Errorf("the query %q is %q, %v", u.RawQuery, query, err)
	}
	if out.Dest.Path != "/in/dir/p-"+k {
		t.Errorf("the path is %q of the key %q", out.Dest.Path, k)
	}
	for _, path := range []string{out.Dest.Path, u.Path} {
		for _, segment := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' }) {
			if segment == ".." || segment == "." {
				t.Errorf("the path %q climbs", path)
			}
		}
	}
	if strings.ContainsFunc(out.Dest.Path, func(r rune) bool { return r < ' ' || r == 0x7f }) || strings.Contains(out.Dest.Path, "//") {
		t.Errorf("the path %q has control characters or empty segments", out.Dest.Path)
	}
}

func checkBuckets(t *testing.T, form, key *Rule, k string) {
	t.Helper()
	if out, fault := render(t, form, s3Event(k, nil)); fault == nil {
		u, err := url.Parse(out.Dest.URL)
		if query, queryErr := url.ParseQuery(u.RawQuery); err != nil || queryErr != nil || len(query) != 1 || !query.Has(k) || u.Host != "h.test" {
			t.Errorf("the URL %q, %v, of the key %q", out.Dest.URL, err, k)
		}
		if out.Src.Key != k || out.Src.Bucket != "in-1" || out.Dest.Form["a b"] != k || len(out.Dest.Form) != 1 {
			t.Errorf("source %+v, form %q, of the key %q", out.Src, out.Dest.Form, k)
		}
	} else if utf8.ValidString(k) && k != "" && len(k) < 1000 {
		t.Errorf("the key %q is refused: %v", k, fault)
	}
	if out, fault := render(t, key, s3Event(k, nil)); fault == nil && (out.Dest.Key != "lit/p-"+k || strings.Contains("/"+out.Dest.Key+"/", "/../")) {
		t.Errorf("the key is %q of the key %q", out.Dest.Key, k)
	}
}

// plainText reports a value that no place can refuse.
func plainText(s string) bool {
	return s != "" && len(s) < 200 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz") == ""
}

// TestRandomKeys does as FuzzRender does with keys made of odd pieces.
func TestRandomKeys(t *testing.T) {
	t.Parallel()
	const seed = 7
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	all, form, key := parsed(t, everywhere), parsed(t, toABucket), parsed(t, toAKey)
	pieces := []string{"/", "..", ".", "%", "2F", "2e", "+", " ", "?", "#", ";", "&", "=", `"`, `\`, "'", "\n", "\x00", "\x7f", "é", "😀", "\xff", "a", "b", "{{", "}}", ":", "@", "//"}
	word := func() string {
		var b strings.Builder
		for range 1 + random.IntN(8) {
			b.WriteString(pieces[random.IntN(len(pieces))])
		}
		return b.String()
	}
	for range 20_000 {
		k, x := word(), word()
		checkEverywhere(t, all, k, x)
		checkBuckets(t, form, key, k)
		if t.Failed() {
			return
		}
	}
}

func TestRefusedValues(t *testing.T) {
	t.Parallel()
	byPath := copying(okSrc, `type: sandboxFileLocation, sandbox: S, path: "/in/{{key}}"`)
	byKey := copying(okSrc, `type: objectLocation, bucket: out-1, key: "a/{{key}}"`)
	byURL := copying(`type: httpGetLocation, url: "http://h/{{key}}"`, okDest2)
	oneSegment := copying(`type: httpGetLocation, url: "http://h/p/{{event.data.x}}"`, okDest2)
	whole := copying(`type: httpGetLocation, url: "{{event.data.x}}"`, okDest2)
	header := copying(`type: httpGetLocation, url: "http://h/", headers: {A: "{{event.data.x}}"}`, okDest2)
	sized := onS3 + "copy:\n  src: {" + okSrc + "}\n  dest: {" + okDest2 + "}\n  size: \"{{event.data.x}}\"\n"
	named := func(holder string) string {
		return copying(okSrc, `type: sandboxFileLocation, sandbox: S, path: "/in/{{`+holder+`}}"`)
	}
	for name, test := range map[string]struct {
		rule        string
		key         string
		x           any
		code, field string
	}{
		"path climbs":            {byPath, "../x", nil, CodeEscapes, "copy.dest.path"},
		"path climbs inside":     {byPath, "a/../../x", nil, CodeEscapes, "copy.dest.path"},
		"path, dot":              {byPath, "./x", nil, CodeEscapes, "copy.dest.path"},
		"path, empty":            {byPath, "a//x", nil, CodeEscapes, "copy.dest.path"},
		"path, a directory":      {byPath, "a/", nil, CodeEscapes, "copy.dest.path"},
		"path, absolute":         {byPath, "/etc/passwd", nil, CodeEscapes, "copy.dest.path"},
		"path, NUL":              {byPath, "a\x00", nil, CodeEscapes, "copy.dest.path"},
		"path, newline":          {byPath, "a\n", nil, CodeEscapes, "copy.dest.path"},
		"path, C1":               {byPath, "a\u0085", nil, CodeEscapes, "copy.dest.path"},
		"path, literal percent":  {byPath, "%2e%2e/x", nil, "", ""},
		"path, not UTF-8":        {byPath, "a\xff", nil, CodeInvalidValue, "copy.src.key"},
		"path, too long":         {named("event.data.x"), "k", strings.Repeat("k", 4096), CodeTooLong, "copy.dest.path"},
		"value far too long":     {named("event.data.x"), "k", strings.Repeat("k", 1<<20), CodeTooLong, "copy.dest.path"},
		"key climbs":             {byKey, "../x", nil, CodeEscapes, "copy.dest.key"},
		"key climbs inside":      {byKey, "b/../../x", nil, CodeEscapes, "copy.dest.key"},
		"key, empty segments":    {byKey, "b//x", nil, "", ""},
		"key, control":           {byKey, "b\x01", nil, CodeEscapes, "copy.dest.key"},
		"key, too long":          {byKey, strings.Repeat("k", 1023), nil, CodeTooLong, "copy.dest.key"},
		"URL climbs":             {byURL, "..", nil, CodeEscapes, "copy.src.url"},
		"URL, empty segment":     {byURL, "a//b", nil, CodeEscapes, "copy.src.url"},
		"URL, slash at the end":  {byURL, "a/", nil, CodeEscapes, "copy.src.url"},
		"URL, backslash":         {byURL, `a\..\b`, nil, CodeEscapes, "copy.src.url"},
		"URL, too long":          {oneSegment, "k", strings.Repeat("/", 4096), CodeTooLong, "copy.src.url"},
		"segment climbs":         {oneSegment, "k", "a/../b", CodeEscapes, "copy.src.url"},
		"segment with a slash":   {oneSegment, "k", "a/b", "", ""},
		"whole URL":              {whole, "k", "https://h/a?b#c", "", ""},
		"whole URL, too long":    {whole, "k", "https://h/" + strings.Repeat("a", 8192), CodeTooLong, "copy.src.url"},
		"header breaks out":      {header, "k", "a\r\nX: y", CodeEscapes, "copy.src.headers.A"},
		"header":                 {header, "k", "a\tb; c=\"é\"", "", ""},
		"size":                   {sized, "k", json.Number("12"), "", ""},
		"size as a text":         {sized, "k", "12", "", ""},
		"size, negative":         {sized, "k", json.Number("-1"), CodeInvalidValue, "copy.size"},
		"size, broken":           {sized, "k", json.Number("1.5"), CodeInvalidValue, "copy.size"},
		"size, JSON":             {sized, "k", `1,"conflict":"x"`, CodeInvalidValue, "copy.size"},
		"size, too large":        {sized, "k", strings.Repeat("9", 19), CodeInvalidValue, "copy.size"},
		"missing":                {named("event.data.nope"), "k", nil, CodeMissingValue, "copy.dest.path"},
		"missing inside":         {named("event.data.x.y.z"), "k", "text", CodeMissingValue, "copy.dest.path"},
		"null":                   {named("event.data.x"), "k", nil, CodeMissingValue, "copy.dest.path"},
		"empty":                  {named("event.data.x"), "k", "", CodeMissingValue, "copy.dest.path"},
		"a number for a list":    {named("event.data.x[0]"), "k", map[string]any{"0": "a"}, CodeMissingValue, "copy.dest.path"},
		"behind the end":         {named("event.data.x[2]"), "k", []any{"a", "b"}, CodeMissingValue, "copy.dest.path"},
		"an object":              {named("event.data"), "k", nil, CodeInvalidValue, "copy.dest.path"},
		"a list":                 {named("event.data.x"), "k", []any{"a"}, CodeInvalidValue, "copy.dest.path"},
		"no version":             {named("version"), "k", nil, CodeMissingValue, "copy.dest.path"},
		"no size":                {named("size"), "k", nil, CodeMissingValue, "copy.dest.path"},
		"no time":                {named("time"), "k", nil, CodeMissingValue, "copy.dest.path"},
		"no extension":           {named("key.ext"), "a.b/.profile", nil, CodeMissingValue, "copy.dest.path"},
		"no directory":           {named("key.dir"), "k", nil, CodeMissingValue, "copy.dest.path"},
		"no base":                {named("key.base"), "k/", nil, CodeMissingValue, "copy.dest.path"},
		"secret":                 {copying(`type: httpGetLocation, url: "http://h/", headers: {A: "{{secret.gone}}"}`, okDest2), "k", nil, CodeUnknownSecret, "copy.src.headers.A"},
		"many long header lines": {longHeaders(), "k", strings.Repeat("x", 60<<10), CodeTooLong, "copy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, fault := render(t, parsed(t, test.rule), s3Event(test.key, test.x))
			switch {
			case fault == nil && test.code != "", fault != nil && (fault.Code != test.code || fault.Field != test.field):
				t.Errorf("the error is %+v, want %s of %s", fault, test.code, test.field)
			case fault != nil && (!strings.HasSuffix(fault.Message, ".") || fault.Error() == ""):
				t.Errorf("the message %q is no sentence", fault.Message)
			}
		})
	}
}

const okDest2 = `type: sandboxFileLocation, sandbox: S, path: /x`

func longHeaders() string {
	var b strings.Builder
	for i := range 30 {
		fmt.Fprintf(&b, `"a%d": "{{event.data.x}}",`, i)
	}
	return copying(`type: httpGetLocation, url: "http://h/", headers: {`+b.String()+"}", okDest2)
}

func TestPlaceholders(t *testing.T) {
	t.Parallel()
	e := &events.Event{
		Source: events.S3, Type: "s3:ObjectCreated:Put", Bucket: "in-1", Key: "a/b.tar.gz", Version: "v1", Sequencer: "0A", ETag: "e", Size: 0,
		Time:   s3Time,
		Fields: map[string]any{"data": map[string]any{"a": []any{map[string]any{"b-c": json.Number("1.50")}, true}, "f": 2.5, "n": json.Number("12345678901234567890")}},
	}
	for holder, want := range map[string]string{
		"bucket": "in-1", "key": "a/b.tar.gz", "key.base": "b.tar.gz", "key.dir": "a", "key.name": "b.tar", "key.ext": "gz", "size": "0", "etag": "e",
		"version": "v1", "sequencer": "0A", "type": "s3:ObjectCreated:Put", "time": "2026-02-12T20:18:48.123Z",
		"event.data.a[0].b-c": "1.50", "event.data.a[1]": "true", "event.data.f": "2.5", "event.data.n": "12345678901234567890",
	} {
		out, fault := render(t, parsed(t, copying(okSrc, `type: sandboxFileLocation, sandbox: S, path: "/{{ `+holder+` }}-"`)), e)
		if fault != nil || out.Dest.Path != "/"+want+"-" {
			t.Errorf("{{%s}} is %q, %v, want %q", holder, out.Dest.Path, fault, want)
		}
	}
	for key, want := range map[string][2]string{".profile": {".profile", ""}, "a.": {"a.", ""}, "x/.a.b": {".a", "b"}, "x.y/z": {"z", ""}} {
		if name, ext := ofKey("key.name", key), ofKey("key.ext", key); name != want[0] || ext != want[1] {
			t.Errorf("the name of %q is %q, its extension %q, want %q", key, name, ext, want)
		}
	}
}

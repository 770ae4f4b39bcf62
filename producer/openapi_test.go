package producer

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// description is the served document, compiled.
type description struct {
	compiler *jsonschema.Compiler
	doc      map[string]any
}

func newDescription(t *testing.T, raw []byte) *description {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource("mem:///openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	return &description{c, doc.(map[string]any)}
}

// at follows names into the document.
func (d *description) at(t *testing.T, names ...string) any {
	t.Helper()
	var v any = d.doc
	for _, name := range names {
		m, ok := v.(map[string]any)
		if !ok || m[name] == nil {
			t.Fatalf("the description has nothing at %s", strings.Join(names, " > "))
		}
		v = m[name]
	}
	return v
}

func (d *description) validate(t *testing.T, raw []byte, names ...string) {
	t.Helper()
	d.at(t, names...)
	path := ""
	for _, name := range names {
		path += "/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(name)
	}
	schema, err := d.compiler.Compile("mem:///openapi.json#" + path)
	if err != nil {
		t.Fatalf("compile %s: %v", path, err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("%s: %v in %s", path, err, raw)
	}
	if err := schema.Validate(v); err != nil {
		t.Errorf("%s: %v\n%s", path, err, raw)
	}
}

// check holds an answer against what is described for the operation and its status.
func (d *description) check(t *testing.T, method, route string, a answer) {
	t.Helper()
	if len(a.body) == 0 {
		if a.status != http.StatusNoContent {
			t.Errorf("%s %s: status %d without a body", method, route, a.status)
		}
		return
	}
	status := http.StatusText(a.status)
	if status == "" {
		t.Fatalf("unknown status %d", a.status)
	}
	code := jsonNumber(a.status)
	if a.status >= 400 {
		d.at(t, "paths", route, strings.ToLower(method), "responses", code)
		d.validate(t, a.body, "components", "responses", code, "content", "application/problem+json", "schema")
		return
	}
	d.validate(t, a.body, "paths", route, strings.ToLower(method), "responses", code, "content", "application/json", "schema")
}

func jsonNumber(n int) string {
	b, _ := json.Marshal(n)
	return string(b)
}

// TestEveryRouteIsDescribed compares routes and description both ways.
func TestEveryRouteIsDescribed(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Config{Version: `9."9`})
	d := newDescription(t, b.call("", "GET", "/openapi.json", "").want(200, "").body)
	if got := d.at(t, "info", "version"); got != `9."9` {
		t.Errorf("version %q", got)
	}
	described := map[string]bool{}
	for path, ops := range d.at(t, "paths").(map[string]any) {
		for method := range ops.(map[string]any) {
			described[strings.ToUpper(method)+" "+path] = true
		}
	}
	registered := map[string]bool{}
	for _, rt := range b.server.routes() {
		registered[rt.method+" "+rt.path] = true
		_, open := d.at(t, "paths", rt.path, strings.ToLower(rt.method)).(map[string]any)["security"]
		if open != (rt.need == "") {
			t.Errorf("%s %s: described as open %v, is open %v", rt.method, rt.path, open, rt.need == "")
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(registered)), slices.Sorted(maps.Keys(described))); diff != "" {
		t.Errorf("routes (-registered +described):\n%s", diff)
	}
}

// TestEveryCodeIsDescribed compares the table of problems with the description, both ways.
func TestEveryCodeIsDescribed(t *testing.T) {
	t.Parallel()
	d := newDescription(t, apiDescription)
	var described []string
	for _, code := range d.at(t, "components", "schemas", "Problem", "properties", "code", "enum").([]any) {
		described = append(described, code.(string))
	}
	var declared []string
	for code, kind := range problemTable {
		declared = append(declared, string(code))
		d.at(t, "components", "responses", jsonNumber(kind.status))
	}
	slices.Sort(described)
	slices.Sort(declared)
	if diff := cmp.Diff(declared, described); diff != "" {
		t.Errorf("codes (-declared +described):\n%s", diff)
	}
}

// TestExamplesAreValid holds every example against the schema beside it, and every schema against its draft.
func TestExamplesAreValid(t *testing.T) {
	t.Parallel()
	d := newDescription(t, apiDescription)
	n := 0
	var walk func(v any, names []string)
	walk = func(v any, names []string) {
		object, _ := v.(map[string]any)
		if example, ok := object["example"]; ok && object["schema"] != nil {
			raw, err := json.Marshal(example)
			if err != nil {
				t.Fatal(err)
			}
			d.validate(t, raw, append(slices.Clone(names), "schema")...)
			n++
		}
		for name, inner := range object {
			walk(inner, append(slices.Clone(names), name))
		}
	}
	walk(d.doc, nil)
	for name := range d.at(t, "components", "schemas").(map[string]any) {
		if _, err := d.compiler.Compile("mem:///openapi.json#/components/schemas/" + name); err != nil {
			t.Error(err)
		}
	}
	if n < 20 {
		t.Errorf("only %d examples were found", n)
	}
}

// TestCopyRequestSchema holds the schema of the copy request against the validator: what the validator
// takes, the schema takes.
func TestCopyRequestSchema(t *testing.T) {
	t.Parallel()
	d := newDescription(t, apiDescription)
	for _, body := range []string{
		withPath("/a"), withURL("https://example.test/a"), withHeaders(`{"A":"b"}`), putHeaders(`{"If-Match":"x"}`),
		withForm(`,"form":{}`), withForm(`,"form":{"a":"b"},"fileField":"f"`), withObject("abc", "k"),
	} {
		if _, p := decodeCopyRequest([]byte(body), "box", 8); p != nil {
			t.Errorf("refused: %s", p.Message)
		}
		d.validate(t, []byte(body), "components", "schemas", "CopyRequest")
	}
}

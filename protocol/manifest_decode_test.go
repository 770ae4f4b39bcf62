package protocol

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// samePage checks that a page is read as encoding/json reads it, or refused as that does.
func samePage(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, data []byte,
) {
	t.Helper()
	var want []ManifestItem
	wantErr := json.Unmarshal(data, &want)
	got, err := decodeItems(data)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%s: error %v, encoding/json says %v", data, err, wantErr)
	}
	if diff := cmp.Diff(want, got); err == nil && diff != "" {
		t.Fatalf("%s (-encoding/json +ours):\n%s", data, diff)
	}
}

func anyLocation(t *rapid.T, side string) Location {
	text := func(name string) string {
		return rapid.OneOf(rapid.StringMatching(`[ -~]{0,8}`), rapid.String()).Draw(t, side+name)
	}
	l := Location{Type: HTTPGet, Sandbox: SandboxID(text("sandbox")), Path: text("path"), URL: text("url"), FileField: text("field"), Bucket: text("bucket"), Key: text("key")}
	if rapid.Bool().Draw(t, side+"headers") {
		l.Headers = map[string]string{text("header"): text("value"), "other": "x"}
	}
	if rapid.Bool().Draw(t, side+"form") {
		l.Form = map[string]string{text("form"): text("value")}
	}
	return l
}

func TestPagesAreDecodedAsJSONDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		items := make([]ManifestItem, rapid.IntRange(0, 3).Draw(t, "items"))
		for i := range items {
			items[i] = ManifestItem{ID: rapid.String().Draw(t, "id"), Src: anyLocation(t, "src"), Dest: anyLocation(t, "dest")}
			items[i].Trail = rapid.SliceOfN(rapid.String(), 0, 3).Draw(t, "trail")
			if rapid.Bool().Draw(t, "sized") {
				n := rapid.Int64().Draw(t, "size")
				items[i].Expect = Expect{Size: &n, SHA256: "ab", MD5: "cd"}
			}
		}
		var page bytes.Buffer
		enc := json.NewEncoder(&page)
		enc.SetEscapeHTML(rapid.Bool().Draw(t, "escaped"))
		if err := enc.Encode(items); err != nil {
			t.Fatal(err)
		}
		samePage(t, page.Bytes())
	})
}

func TestStrangePagesAreDecodedAsJSONDoes(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "[", "[]", "[]\n", "[] ", " []", "[]x", "null", "{}", "[null]", "[{}]", "[{},{}]", "[{},]", "[,{}]", "[{}{}]", `[{"id":"a"}]`, `[{"id":"a",}]`, `[{"ID":"a"}]`,
		`[{"id":"a\"b"}]`, `[{"id":"a\\"}]`, `[{"id":"\u0026\ud83d\ude00"}]`, `[{"id":"a\"}]`, `[{"id":"\x"}]`, "[{\"id\":\"\xff\"}]", "[{\"id\":\"\n\"}]", `[{"size":1}]`, `[{"size":01}]`, `[{"size":-1}]`,
		`[{"size":1.5}]`, `[{"size":99999999999999999999}]`, `[{"size":null}]`, `[{"src":{"type":"t","more":1}}]`, `[{"src":{"headers":{"a":"b","a":"c"}}}]`, `[{"src":{"headers":{}}}]`, `[{"src":{"headers":null}}]`,
		`[{"trail":[]}]`, `[{"trail":["a"]}]`, `[{"trail":["a","b"]}]`, `[{"trail":["a",]}]`, `[{"trail":["a"]`, `[{"trail":null}]`, `[{"trail":[1]}]`, `[{"trail":"a"}]`,
	} {
		samePage(t, []byte(text))
	}
}

package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFormatOf(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, head string
		want       format
	}{
		{"a.csv", "{", formatCSV}, {"a.JSONL", "", formatNDJSON}, {"a.ndjson", "", formatNDJSON}, {"a.json", "", formatJSON}, {"a.tsv", "", formatTSV},
		{"-", "TsvHttpData-1.0\nhttp://x\n", formatTSV}, {"-", "\xef\xbb\xbfTsvHttpData-1.0\n", formatTSV},
		{"-", `{"src":{},"dest":{}}` + "\n" + `{"src":{}}`, formatNDJSON}, {"-", `{"src":{},"dest":{}}`, formatNDJSON},
		{"-", `{"items":[]}`, formatJSON}, {"-", "{\n  \"items\": []\n}", formatJSON}, {"-", `[{"src":{}}]`, formatJSON}, {"-", `{"label":"x","items":[`, formatJSON}, {"-", `{}`, formatNDJSON}, {"-", `{"size":1,"src":`, formatNDJSON},
		{"-", "https://x/y,/z\n", formatCSV}, {"-", "url,path\n", formatCSV}, {"list.txt", "\n\n https://x,/y", formatCSV}, {"-", "", formatCSV},
		{"-", `{"id":"x","src":1,"dest":2` + "\n" + `{"src":{}}`, formatNDJSON},
	} {
		if got := formatOf(row.name, []byte(row.head)); got != row.want {
			t.Errorf("formatOf(%q, %q) = %s, want %s", row.name, row.head, got, row.want)
		}
	}
}

// sent is the body that a submission sends, at each of two tries.
func sent(t *testing.T, u *submission) string {
	t.Helper()
	var texts [2]string
	for i := range texts {
		body := u.manifest.body()
		if _, err := io.CopyN(io.Discard, body, int64(u.skip)); err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(io.MultiReader(strings.NewReader(string(u.prefix)), body, strings.NewReader(string(u.suffix))))
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(text)
	}
	if texts[0] != texts[1] {
		t.Errorf("the second try sent something else: %q, %q", texts[0], texts[1])
	}
	return texts[0]
}

func TestSplice(t *testing.T) {
	t.Parallel()
	options := &batchOptions{Label: "a \"b\"", Canary: new(2), MaxFailed: "5%", Webhook: "http://x"}
	none := &batchOptions{}
	for _, row := range []struct {
		text     string
		options  *batchOptions
		defaults map[string]string
		want     string
	}{
		{`{"items":[1]}`, none, nil, `{"items":[1]}`},
		{"\xef\xbb\xbf {\"items\":[1]}", none, nil, `{"items":[1]}`},
		{` [1,2]`, none, nil, `{"items":[1,2]}`},
		{` [1,2]`, none, map[string]string{"sandbox": "s"}, `{"sandbox":"s","items":[1,2]}`},
		{`{ "items":[1]}`, options, nil, `{"canary":2,"label":"a \"b\"","max_failed":"5%","webhook":{"url":"http://x"}, "items":[1]}`},
		{`{}`, options, nil, `{"canary":2,"label":"a \"b\"","max_failed":"5%","webhook":{"url":"http://x"}}`},
	} {
		name := filepath.Join(t.TempDir(), "m.json")
		if err := os.WriteFile(name, []byte(row.text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, from := range []string{name, "-"} {
			m, err := openManifest(from, formatJSON, strings.NewReader(row.text))
			if err != nil {
				t.Fatal(err)
			}
			u, err := newSubmission(m, row.options, row.defaults)
			if err != nil {
				t.Fatal(err)
			}
			got := sent(t, u)
			if got != row.want && strings.TrimSpace(strings.TrimPrefix(got, "\xef\xbb\xbf")) != row.want {
				t.Errorf("%q from %s is sent as %s, want %s", row.text, from, got, row.want)
			}
			if trimmed := strings.TrimPrefix(got, "\xef\xbb\xbf"); !json.Valid([]byte(trimmed)) {
				t.Errorf("%q is sent as %s, which is not JSON", row.text, got)
			}
			if err := m.close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestStreamAgain(t *testing.T) {
	t.Parallel()
	short, err := openManifest("-", "", strings.NewReader("https://x,/y\n"))
	if err != nil || !short.again() || short.length() != 13 {
		t.Errorf("a short stream: again %v, length %d, %v", short.again(), short.length(), err)
	}
	text := strings.Repeat("https://x,/y\n", peeked)
	long, err := openManifest("-", "", strings.NewReader(text))
	if err != nil || !long.again() || long.length() != -1 {
		t.Fatalf("a long stream: again %v, length %d, %v", long.again(), long.length(), err)
	}
	got, err := io.ReadAll(long.body())
	if err != nil || string(got) != text || long.again() {
		t.Errorf("a long stream was read: %d bytes, again %v, %v", len(got), long.again(), err)
	}
}

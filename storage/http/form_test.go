package httpstore

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"strconv"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
)

func TestEscape(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, name, file string }{
		{"plain", "plain", "plain"},
		{`a"b`, "a%22b", "a%22b"},
		{"a\nb", "a%0D%0Ab", "a%0Ab"},
		{"a\rb", "a%0D%0Ab", "a%0Db"},
		{"a\r\nb", "a%0D%0Ab", "a%0D%0Ab"},
		{`a\b`, `a\b`, `a\b`},
		{"100%22", "100%22", "100%22"}, // browsers do not escape the percent sign either
		{"größe 漢", "größe 漢", "größe 漢"},
		{"\r\nX-Injected: 1\r\n\r\n", "%0D%0AX-Injected: 1%0D%0A%0D%0A", "%0D%0AX-Injected: 1%0D%0A%0D%0A"},
	}
	for _, tt := range tests {
		if got := escapeName(tt.in); got != tt.name {
			t.Errorf("escapeName(%q) = %q, want %q", tt.in, got, tt.name)
		}
		if got := escape(tt.in); got != tt.file {
			t.Errorf("escape(%q) = %q, want %q", tt.in, got, tt.file)
		}
	}
}

// part is one part of a form.
type part struct{ name, file, contentType, data string }

// parts takes a form apart.
func parts(t *testing.T, r received) []part {
	t.Helper()
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" {
		t.Fatalf("Content-Type is %q", r.Header.Get("Content-Type"))
	}
	var all []part
	form := multipart.NewReader(bytes.NewReader(r.body), params["boundary"])
	for {
		p, err := form.NextPart()
		if err == io.EOF { //nolint:errorlint // a form that was cut short gives an error that wraps io.EOF
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, part{p.FormName(), p.FileName(), p.Header.Get("Content-Type"), string(data)})
	}
}

func TestPostForm(t *testing.T) {
	t.Parallel()
	url, seen := receiver(t)
	client := testClient(t, nil)
	tests := []struct {
		name        string
		fields      map[string]string
		field, file string
		headers     map[string]string
		data        string
		contentType string
		want        []part
	}{
		{"no fields", nil, "", "", nil, "data", "", []part{{"file", "file", "application/octet-stream", "data"}}},
		{"empty file", nil, "", "", nil, "", "", []part{{"file", "file", "application/octet-stream", ""}}},
		{"sorted, file last", map[string]string{"key": "k", "b": "2", "a": "1\r\n--x", "z": ""}, "aa", "n.txt", nil, "data", "text/plain",
			[]part{{"a", "", "", "1\r\n--x"}, {"b", "", "", "2"}, {"key", "", "", "k"}, {"z", "", "", ""}, {"aa", "n.txt", "text/plain", "data"}}},
		{"names that break out", map[string]string{"a\"; filename=\"x": "1"}, "f\r\nX: 1", "q\".txt", nil, "data", "a/b\r\nX-Injected: 1",
			[]part{{"a%22; filename=%22x", "", "", "1"}, {"f%0D%0AX: 1", "q%22.txt", "application/octet-stream", "data"}}},
		{"the caller's type does not count", nil, "", "", map[string]string{"Content-Type": "text/plain", "X-A": "b"}, "data", "",
			[]part{{"file", "file", "application/octet-stream", "data"}}},
	}
	for _, tt := range tests {
		c := content(tt.data, nil)
		c.ContentType = tt.contentType
		stored, err := client.PostForm(url+query, tt.fields, tt.field, tt.file, tt.headers).Put(t.Context(), c)
		if err != nil || stored.Bytes != int64(len(tt.data)) {
			t.Fatalf("%s: %+v, %v", tt.name, stored, err)
		}
		r := <-seen
		if r.Method != "POST" || r.Header.Get("Content-Length") != strconv.Itoa(len(r.body)) || r.TransferEncoding != nil || r.Header.Get("X-A") != tt.headers["X-A"] {
			t.Errorf("%s: %s, headers %v for %d bytes", tt.name, r.Method, r.Header, len(r.body))
		}
		got := parts(t, r)
		if len(got) != len(tt.want) {
			t.Errorf("%s: parts are %q, want %q", tt.name, got, tt.want)
			continue
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("%s: part %d is %q, want %q", tt.name, i, got[i], tt.want[i])
			}
		}
	}
}

func TestBoundaryIsRandom(t *testing.T) {
	t.Parallel()
	_, _, first, _ := multipartForm{}.frame(storage.Content{})
	_, _, second, _ := multipartForm{}.frame(storage.Content{})
	if first == second || len(strings.TrimPrefix(first, "multipart/form-data; boundary=")) > 70 {
		t.Errorf("boundaries are %q and %q", first, second)
	}
}

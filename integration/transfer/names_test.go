package transfer

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// names are those that a file may have in a sandbox, an object in a bucket, and what a URL ends in. Some differ only in what careless programs
// take for the same.
var names = []string{
	"%2F", "%2f", "%252F", "%00", "%", "a%2Fb", "?", "a?b=c", "#", "a#b", "&;=+$,@:", " leading and trailing ", "  ", "~", "*", "|<>\"'`", `back\slash`, `\`,
	".hidden", "..two", "...", "-dash", "--help", "-", "trailing.", "UPPER", "upper", "\u00e9", "e\u0301", "\u212b", "\u00c5", "A\u030a", "文件", "🙂", "\u202eltr", "a\u200bb", "a\ufeffb",
	"NUL", "con.txt", ".git", "{}", "[]", "!", "^", "a b", "a+b", "a%20b", "\ufffd", strings.Repeat("n", 255), strings.Repeat("é", 127) + "e",
}

// TestNamesSurviveARoundTrip copies files from HTTP to a sandbox, from there to a bucket, and back. At the end each has its name, byte for byte, and
// its own content.
func TestNamesSurviveARoundTrip(t *testing.T) {
	t.Parallel()
	f := newFleet(t, miniotest.Shared(t), 1, "SLOTS=8")
	steps := make([][]item, 3)
	for n, name := range names {
		c, id := content{uint64(n + 1), int64(100 + n)}, fmt.Sprint("name-", n)
		f.give("/"+name, served{content: c})
		in, middle, back := mixtest.ToSandbox("/in/"+name), f.ToObject("middle/"+name), mixtest.ToSandbox("/back/"+name)
		steps[0] = append(steps[0], item{id: id, src: f.from("/" + url.PathEscape(name)), dest: in, content: c})
		steps[1] = append(steps[1], item{id: id + "-up", src: in, dest: middle, content: c})
		steps[2] = append(steps[2], item{id: id + "-back", src: middle, dest: back, content: c})
	}
	for _, step := range steps {
		f.check(t, f.submit(t, "", step...), step...)
	}
	want := slices.Sorted(slices.Values(names))
	for _, dir := range []string{"/in", "/back"} {
		entries, err := os.ReadDir(f.OnDisk(dir))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, entry := range entries {
			got = append(got, entry.Name())
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("in %s are\n%q, want\n%q", dir, got, want)
		}
	}
	var got []string
	for object := range f.client(t).ListObjects(t.Context(), f.Bucket, minio.ListObjectsOptions{Prefix: "middle/", Recursive: true}) {
		got = append(got, path.Base(object.Key))
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("in the bucket are\n%q, want\n%q", got, want)
	}
	t.Logf("%d names, three copies each, 0 lost", len(names))
}

// TestNamesThatAreRefused submits names that no file may have: the batch is refused with all its items.
func TestNamesThatAreRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t, miniotest.Shared(t), 0)
	for name, raw := range map[string]string{
		"line feed": `new\nline`, "carriage return": `a\rb`, "tab": `a\tb`, "null": `a\u0000b`, "delete": `a\u007fb`, "escape": `\u001b[2J`,
		"256 bytes": strings.Repeat("n", 256), "256 bytes of UTF-8": strings.Repeat("é", 128), "invalid UTF-8": "a\xffb", "cut UTF-8": "a\xc3", "half of a surrogate": `a\ud800b`,
		"parent": "..", "current": ".", "none": "", "ours": ".copyfleet-x", "parent of all": "../../x",
	} {
		line := `{"src":{"type":"httpGetLocation","url":"` + f.source.URL + `/a"},"dest":{"type":"sandboxFileLocation","sandbox":"` + f.Sandbox + `","path":"/` + raw + `"}}`
		answer, err := f.API.Post(t.Context(), "/v1/batches", mixtest.NDJSON, nil, bytes.NewReader([]byte(line+"\n")))
		if err != nil || answer.Status/100 != 4 || answer.Status == http.StatusTooManyRequests {
			t.Errorf("%s: %d %v %s", name, answer.Status, err, answer.Body)
		}
	}
}

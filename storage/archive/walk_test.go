package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/archive"
)

func TestEntriesInOrder(t *testing.T) {
	body := pack(t,
		dir("./"), dir("./a/"), regular("./a/f", "hello"), regular("b/c/d", ""), dir("b/c"), dir("b/c"),
		symlink("b/up", "../a/f"), symlink("b/c/top", "../../b/./up"), symlink("dangling", "nothing/there/"), link("g", "a/f"), link("h", "./g"),
		regular("back\\slash", "x"), regular("ÄF", "y"), regular("äf", "z"),
		file{tar.Header{Name: "s", Typeflag: tar.TypeReg, Mode: 0o7751}, ""},
		regular(strings.Repeat("n", 255), "long"),
	)
	want := []string{
		"a 0 -rwxr-xr-x", `a/f 1 -rw-r--r-- "hello"`, "b 0 -rwxr-xr-x implied", "b/c 0 -rwxr-xr-x implied", `b/c/d 1 -rw-r--r-- ""`,
		"b/c 0 -rwxr-xr-x", "b/c 0 -rwxr-xr-x", "b/up 2 -rwxrwxrwx -> ../a/f", "b/c/top 2 -rwxrwxrwx -> ../../b/./up",
		"dangling 2 -rwxrwxrwx -> nothing/there/", "g 3 -rw-r--r-- -> a/f", "h 3 -rw-r--r-- -> g", `back\slash 1 -rw-r--r-- "x"`,
		`ÄF 1 -rw-r--r-- "y"`, `äf 1 -rw-r--r-- "z"`, `s 1 -rwxr-x--x ""`, strings.Repeat("n", 255) + ` 1 -rw-r--r-- "long"`,
	}
	for name, reader := range map[string]io.Reader{
		"Whole": bytes.NewReader(body), "ByteByByte": iotest.OneByteReader(bytes.NewReader(body)), "EndWithData": iotest.DataErrReader(bytes.NewReader(body)),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := walk(reader, limits)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%v, entries\n%s\nwant\n%s", err, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// TestReadsToTheEnd: a digest that is computed on the way must be that of all bytes, the filling behind the end included.
func TestReadsToTheEnd(t *testing.T) {
	body := bytes.NewReader(join(pack(t, regular("f", "x")), make([]byte, 100_001)))
	if _, err := walk(body, limits); err != nil || body.Len() > 0 {
		t.Errorf("%v, %d bytes were not read", err, body.Len())
	}
	body.Reset(end)
	if got, err := walk(body, limits); err != nil || len(got) > 0 || body.Len() > 0 {
		t.Errorf("an archive of nothing: %v, %q", err, got)
	}
}

// TestUnreadContentIsSkipped visits without reading.
func TestUnreadContentIsSkipped(t *testing.T) {
	var paths []string
	body := pack(t, regular("f", strings.Repeat("x", 100_000)), regular("g", "y"))
	err := archive.Walk(bytes.NewReader(body), limits, func(e archive.Entry) error { paths = append(paths, e.Path); return nil })
	if err != nil || !slices.Equal(paths, []string{"f", "g"}) {
		t.Errorf("%v, %q", err, paths)
	}
}

func TestModified(t *testing.T) {
	for at, want := range map[int64]bool{1_700_000_000: true, -1: false, 0: false, 1 << 40: false} {
		f := regular("f", "")
		f.header.ModTime, f.header.Format = time.Unix(at, 0), tar.FormatPAX
		err := archive.Walk(bytes.NewReader(pack(t, f)), limits, func(e archive.Entry) error {
			if kept := e.Modified.Equal(time.Unix(at, 0)); kept != want || !kept && !e.Modified.IsZero() {
				t.Errorf("the time %d becomes %v", at, e.Modified)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestForeignErrors come as they are: whose they are decides what happens next.
func TestForeignErrors(t *testing.T) {
	mine := errors.New("mine")
	body := pack(t, regular("f", strings.Repeat("x", 10_000)))
	visit := func(archive.Entry) error { return mine }
	if err := archive.Walk(bytes.NewReader(body), limits, visit); err != mine { //nolint:errorlint // the very error
		t.Errorf("visit's error became %v", err)
	}
	for _, n := range []int{0, 3, 512, 700, 10_000, 11_000, len(body)} {
		broken := io.MultiReader(bytes.NewReader(body[:n]), iotest.ErrReader(mine))
		if _, err := walk(broken, limits); err != mine { //nolint:errorlint // the very error
			t.Errorf("after %d bytes the body's error became %v", n, err)
		}
	}
	idle := io.MultiReader(bytes.NewReader(body[:600]), idleReader{})
	if _, err := walk(idle, limits); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a body that gives nothing: %v", err)
	}
}

type idleReader struct{}

func (idleReader) Read([]byte) (int, error) { return 0, nil }

// TestEveryCut cuts an archive off at each byte before its end.
func TestEveryCut(t *testing.T) {
	long := regular(strings.Repeat("n/", 60)+"f", "hello")
	long.header.Format = tar.FormatGNU
	body := pack(t, dir("d"), long, file{tar.Header{Name: "ü", Typeflag: tar.TypeReg}, ""}, symlink("l", "d"))
	deep := storage.TreeLimits{Entries: 1000, Depth: 100, Bytes: 1000}
	if _, err := walk(bytes.NewReader(body), deep); err != nil {
		t.Fatal(err)
	}
	for n := range body {
		if _, err := walk(bytes.NewReader(body[:n]), deep); err == nil {
			t.Fatalf("the first %d of %d bytes are taken for an archive", n, len(body))
		} else if code := codeOf(err); code != archive.CodeTruncated {
			t.Fatalf("the first %d bytes: %v", n, err)
		}
	}
}

func codeOf(err error) string {
	e, _ := errors.AsType[*storage.Error](err)
	if e == nil {
		return ""
	}
	return e.Code
}

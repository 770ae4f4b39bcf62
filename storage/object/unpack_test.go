package object_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/object"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

// tarOf is an archive of files. A name that ends in a slash is a directory; a content that begins with "->" is a symbolic link, one with "=>" a
// hard link.
func tarOf(t *testing.T, files ...[2]string) []byte {
	t.Helper()
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, f := range files {
		h := &tar.Header{Name: f[0], Mode: 0o644, Typeflag: tar.TypeReg, Size: int64(len(f[1]))}
		link, isLink := strings.CutPrefix(f[1], "->")
		other, isOther := strings.CutPrefix(f[1], "=>")
		switch {
		case strings.HasSuffix(f[0], "/"):
			h.Typeflag = tar.TypeDir
		case isLink:
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, link, 0
		case isOther:
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, other, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if _, err := io.WriteString(w, f[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

var treeLimits = storage.TreeLimits{Entries: 10_000, Depth: 64, Bytes: 1 << 30}

// keys returns everything below a prefix.
func (e endpoint) keys(t *testing.T, bucket, prefix string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for o := range e.raw(t).Client.ListObjectsIter(t.Context(), bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		data, _ := e.peek(t, bucket, o.Key)
		found[strings.TrimPrefix(o.Key, prefix)] = string(data)
	}
	return found
}

// trees is a sandbox in a bucket, of which the tests unpack to /d.
type trees struct {
	endpoint

	boxes  *object.Sandboxes
	bucket string
}

const boxOfTrees = "boxes/ORG-a/SBX-1/"

func newTrees(t *testing.T, e endpoint, files ...[2]string) trees {
	t.Helper()
	_, boxes, bucket := e.sandboxes(t)
	for _, f := range files {
		e.seed(t, bucket, boxOfTrees+f[0], []byte(f[1]))
	}
	return trees{e, boxes, bucket}
}

func (b trees) at(policy storage.TreePolicy, temp string, stale ...string) storage.Destination {
	return b.boxes.Tree("ORG-a", "SBX-1", "/d", policy, treeLimits, temp, stale)
}

// expect compares all that the sandbox has, hidden objects included.
func (b trees) expect(t *testing.T, want map[string]string) {
	t.Helper()
	got := b.keys(t, b.bucket, boxOfTrees)
	if maps.Equal(got, want) {
		return
	}
	t.Errorf("the sandbox has %q, want %q", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	for name, text := range got {
		if want[name] != text {
			t.Logf("%s: %.40q, want %.40q", name, text, want[name])
		}
	}
}

func TestTree(t *testing.T) {
	t.Parallel()
	large := string(storagetest.Data(300<<10, 1))
	onEach(t, func(t *testing.T, e endpoint) {
		body := tarOf(t, [2]string{"./", ""}, [2]string{"a", "new"}, [2]string{"s/", ""}, [2]string{"s/b", large}, [2]string{"s/t/c", ""}, [2]string{"s/l", "=>a"})
		for name, c := range map[string]struct {
			policy storage.TreePolicy
			before [][2]string
			want   map[string]string
		}{
			"merge": {storage.MergeTree, [][2]string{{"d/a", "old"}, {"d/x", "stays"}, {"dd", "beside"}}, map[string]string{
				"d/a": "new", "d/s/b": large, "d/s/t/c": "", "d/s/l": "new", "d/x": "stays", "dd": "beside",
			}},
			"replace": {storage.ReplaceTree, [][2]string{{"d/a", "old"}, {"d/x", "goes"}, {"d/s/t/d", "goes"}, {"d/s/b/is/a/directory", "goes"}, {"dd", "beside"}}, map[string]string{
				"d/a": "new", "d/s/b": large, "d/s/t/c": "", "d/s/l": "new", "dd": "beside",
			}},
			"replace directory by file": {storage.ReplaceTree, [][2]string{{"d/s", "goes"}}, map[string]string{
				"d/a": "new", "d/s/b": large, "d/s/t/c": "", "d/s/l": "new",
			}},
			"replace file": {storage.ReplaceTree, [][2]string{{"d", "goes"}, {"d-", "beside"}}, map[string]string{
				"d/a": "new", "d/s/b": large, "d/s/t/c": "", "d/s/l": "new", "d-": "beside",
			}},
			"new": {storage.NewTree, [][2]string{{"d-", "beside"}}, map[string]string{
				"d/a": "new", "d/s/b": large, "d/s/t/c": "", "d/s/l": "new", "d-": "beside",
			}},
		} {
			t.Run(name, func(t *testing.T) {
				b := newTrees(t, e, c.before...)
				before := b.keys(t, b.bucket, boxOfTrees+"d")
				asked := 0
				stored, err := b.at(c.policy, "one").Put(t.Context(), storage.Content{Body: bytes.NewReader(body), Size: int64(len(body)), Ready: func() error {
					asked++
					if now := b.keys(t, b.bucket, boxOfTrees+"d"); !maps.Equal(now, before) {
						t.Errorf("something is visible too early: %q", slices.Sorted(maps.Keys(now)))
					}
					return nil
				}})
				if err != nil {
					t.Fatal(err)
				}
				if asked != 1 || stored.Bytes != int64(len(body)) || stored.Unpacked == nil || stored.Unpacked.Files != 4 || stored.Unpacked.Bytes != int64(3+len(large)) {
					t.Errorf("ready was asked %d times, %+v %+v", asked, stored, stored.Unpacked)
				}
				b.expect(t, c.want)
			})
		}
	})
}

// TestTreeRefused unpacks what must not become visible.
func TestTreeRefused(t *testing.T) {
	t.Parallel()
	broken := errors.New("the body breaks off")
	onEach(t, func(t *testing.T, e endpoint) {
		good := tarOf(t, [2]string{"a", "new"}, [2]string{"b", "new"})
		for name, c := range map[string]struct {
			policy storage.TreePolicy
			body   io.Reader
			size   int64
			class  storage.Class
			code   string
		}{
			"link":       {storage.ReplaceTree, bytes.NewReader(tarOf(t, [2]string{"a", "new"}, [2]string{"l", "->a"})), -1, storage.Invalid, "archive_link_unsupported"},
			"climbs":     {storage.ReplaceTree, bytes.NewReader(tarOf(t, [2]string{"a", "new"}, [2]string{"../x", "x"})), -1, storage.Invalid, "archive_path_invalid"},
			"hidden":     {storage.ReplaceTree, bytes.NewReader(tarOf(t, [2]string{"a", "new"}, [2]string{".copyfleet-x", "x"})), -1, storage.Invalid, "path_reserved"},
			"hidden dir": {storage.ReplaceTree, bytes.NewReader(tarOf(t, [2]string{"a", "new"}, [2]string{".copyfleet-x/", ""})), -1, storage.Invalid, "path_reserved"},
			"long":       {storage.ReplaceTree, bytes.NewReader(tarOf(t, [2]string{"a", "new"}, [2]string{strings.Repeat(strings.Repeat("x", 200)+"/", 5) + "y", "x"})), -1, storage.Invalid, "name_too_long"},
			"cut off":    {storage.ReplaceTree, bytes.NewReader(good[:1024]), -1, storage.Corrupt, "archive_truncated"},
			"short":      {storage.ReplaceTree, bytes.NewReader(good[:1024]), int64(len(good)), storage.Corrupt, storage.CodeSourceShort},
			"broken off": {storage.ReplaceTree, io.MultiReader(bytes.NewReader(good[:1024]), iotest.ErrReader(broken)), -1, storage.Internal, "dest_content"},
			"taken":      {storage.NewTree, bytes.NewReader(good), -1, storage.Conflict, storage.CodeDestinationExists},
		} {
			t.Run(name, func(t *testing.T) {
				b := newTrees(t, e, [2]string{"d/x", "stays"})
				_, err := b.at(c.policy, "one").Put(t.Context(), storage.Content{Body: c.body, Size: c.size})
				refused{c.class, c.code}.check(t, err, "", "")
				if name == "broken off" && !errors.Is(err, broken) {
					t.Errorf("the cause is lost: %v", err)
				}
				if strings.Contains(err.Error(), "s3://") || strings.Contains(err.Error(), "copyfleet-one") {
					t.Errorf("the error tells where the sandboxes are: %v", err)
				}
				b.expect(t, map[string]string{"d/x": "stays"})
			})
		}
		t.Run("not ready", func(t *testing.T) {
			b := newTrees(t, e, [2]string{"d/x", "stays"})
			_, err := b.at(storage.ReplaceTree, "one").Put(t.Context(), storage.Content{Body: bytes.NewReader(good), Size: -1, Ready: func() error { return broken }})
			if !errors.Is(err, broken) {
				t.Errorf("%v", err)
			}
			b.expect(t, map[string]string{"d/x": "stays"})
		})
		t.Run("came meanwhile", func(t *testing.T) {
			b := newTrees(t, e)
			came := func() error { e.seed(t, b.bucket, boxOfTrees+"d/b", []byte("came")); return nil }
			more := tarOf(t, [2]string{"a", "new"}, [2]string{"b", "new"}, [2]string{"c", strings.Repeat("new", 100_000)}, [2]string{"e", ""})
			_, err := b.at(storage.NewTree, "one").Put(t.Context(), storage.Content{Body: bytes.NewReader(more), Size: -1, Ready: came})
			refused{storage.Conflict, storage.CodeDestinationExists}.check(t, err, "", "")
			b.expect(t, map[string]string{"d/b": "came"})
		})
	})
}

// TestTreeOfPredecessor follows attempts that died: what they have hidden goes, what they have shown is told from what is new.
func TestTreeOfPredecessor(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		body := func() storage.Content {
			return storage.Content{Body: bytes.NewReader(tarOf(t, [2]string{"a", "new"}, [2]string{"b", "new"})), Size: -1}
		}
		b := newTrees(t, e, [2]string{".copyfleet-dead/a", "half"}, [2]string{".copyfleet-other/a", "of somebody else"})
		if _, err := b.at(storage.NewTree, "two", "dead").Put(t.Context(), body()); err != nil {
			t.Fatal(err)
		}
		done := map[string]string{"d/a": "new", "d/b": "new", ".copyfleet-other/a": "of somebody else"}
		b.expect(t, done)
		if _, err := b.at(storage.NewTree, "three", "two").Put(t.Context(), body()); storage.ClassOf(err) != storage.Conflict {
			t.Errorf("a tree that is there is new: %v", err)
		}

		b = newTrees(t, e, [2]string{".copyfleet-dead/a", "half"}, [2]string{".copyfleet-dead.shows", ""}, [2]string{"x", "stays"})
		if err := b.at(storage.NewTree, "two", "dead").(interface{ Discard() error }).Discard(); err != nil {
			t.Fatal(err)
		}
		b.expect(t, map[string]string{"x": "stays"})
	})
}

// TestTreeOfMany unpacks more files than one listing tells, and replaces them.
func TestTreeOfMany(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		b := newTrees(t, e)
		const many = 1100
		var files [][2]string
		for i := range many {
			files = append(files, [2]string{"f" + strings.Repeat("x", i%7) + "/" + string(rune('a'+i%26)) + strings.Repeat("y", i/26), "x"})
		}
		if _, err := b.at(storage.ReplaceTree, "one").Put(t.Context(), storage.Content{Body: bytes.NewReader(tarOf(t, files...)), Size: -1}); err != nil {
			t.Fatal(err)
		}
		if got := len(b.keys(t, b.bucket, boxOfTrees)); got != many {
			t.Errorf("%d objects of %d files", got, many)
		}
		if _, err := b.at(storage.ReplaceTree, "two").Put(t.Context(), storage.Content{Body: bytes.NewReader(tarOf(t, [2]string{"only", "1"})), Size: -1}); err != nil {
			t.Fatal(err)
		}
		b.expect(t, map[string]string{"d/only": "1"})
	})
}

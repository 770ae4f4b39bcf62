package sandbox_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/archive"
	"github.com/copyfleet/copyfleet/storage/sandbox"
)

var treeLimits = storage.TreeLimits{Entries: 20_000, Depth: 64, Bytes: 1 << 30}

// packed is a tar of names: one that ends in a slash is a directory, "name -> target" a symbolic link, "name = target" a hard link, and
// "name:content" a file.
func packed(t testing.TB, entries ...string) []byte {
	t.Helper()
	body, err := packedOf(entries...)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func packedOf(entries ...string) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, entry := range entries {
		h, content := tar.Header{Name: entry, Mode: 0o640, ModTime: time.Unix(1_600_000_000, 0)}, ""
		if name, target, ok := strings.Cut(entry, " -> "); ok {
			h.Name, h.Typeflag, h.Linkname = name, tar.TypeSymlink, target
		} else if name, target, ok := strings.Cut(entry, " = "); ok {
			h.Name, h.Typeflag, h.Linkname = name, tar.TypeLink, target
		} else if strings.HasSuffix(entry, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o500
		} else {
			h.Name, content, _ = strings.Cut(entry, ":")
			h.Typeflag, h.Size = tar.TypeReg, int64(len(content))
		}
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(w, content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}

// tree is the next attempt to unpack something at a path.
func (b *bench) tree(path string, policy storage.TreePolicy) storage.Destination {
	return b.store.Tree(org, box, path, policy, treeLimits, "t"+strconv.FormatInt(b.temps.Add(1), 10), nil)
}

// putTree unpacks a tar, with ready in the last moment before it is visible.
func putTree(ctx context.Context, d storage.Destination, body []byte, ready func() error) (storage.Stored, error) {
	return d.Put(ctx, storage.Content{Body: bytes.NewReader(body), Size: int64(len(body)), Ready: ready})
}

// expectTree compares what is below a directory of the sandbox with lines of [snapshot].
func expectTree(t *testing.T, b *bench, path string, want ...string) {
	t.Helper()
	got := strings.TrimSuffix(snapshot(t, b.file(path)), "\n")
	if want := strings.Join(append([]string{" d---------"}, want...), "\n"); got != want {
		t.Errorf("%s is\n%s\nwant\n%s", path, got, want)
	}
	if left := b.hidden(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

const (
	regularType = " ---------- "
	dirType     = " d---------"
	linkType    = " L---------"
)

func TestTree(t *testing.T) {
	body := packed(t, "./", "d/", "d/f:new", "d/e/g:deep", "l -> d/f", "h = d/f", "empty/")
	fresh := []string{
		"/d" + dirType, "/d/e" + dirType, "/d/e/g" + regularType + "deep", "/d/f" + regularType + "new", "/empty" + dirType,
		"/h" + regularType + "new", "/l" + linkType,
	}
	for _, opts := range []sandbox.Options{{Sync: true}, {}} {
		for _, policy := range []storage.TreePolicy{storage.MergeTree, storage.ReplaceTree, storage.NewTree} {
			b := newBench(t, opts)
			for again := range 2 {
				stored, err := putTree(t.Context(), b.tree("/w/x", policy), body, nil)
				if again > 0 && policy == storage.NewTree {
					expectCode(t, err, storage.Conflict, storage.CodeDestinationExists)
				} else if err != nil || stored.Bytes != int64(len(body)) || stored.Unpacked == nil || *stored.Unpacked != (storage.Unpacked{Files: 4, Bytes: 7}) {
					t.Fatalf("policy %d: %+v, %v", policy, stored, err)
				}
				expectTree(t, b, "/w/x", fresh...)
			}
			if target, err := os.Readlink(b.file("/w/x/l")); err != nil || target != "d/f" {
				t.Errorf("the link holds %q, %v", target, err)
			}
			info, err := os.Stat(b.file("/w/x/d/f"))
			if err != nil || info.Mode().Perm() != 0o640 || info.ModTime().Unix() != 1_600_000_000 {
				t.Errorf("the file is %v, %v", info, err)
			}
			if info, err = os.Stat(b.file("/w/x/d")); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("the directory is %v, %v", info, err)
			}
		}
	}
}

func TestMergeKeepsWhatIsThere(t *testing.T) {
	b := newBench(t, sandbox.Options{Sync: true})
	b.write(t, "/x/keep", []byte("kept"))
	b.write(t, "/x/d/keep", []byte("kept"))
	b.write(t, "/x/d/f", []byte("old"))
	symlink("nothing", "/x/l")(t, b)
	if err := os.Mkdir(b.file("/x/e"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := putTree(t.Context(), b.tree("/x", storage.MergeTree), packed(t, "d/", "d/f:new", "e/f:new", "l -> d", "n/f:new"), nil)
	if err != nil {
		t.Fatal(err)
	}
	expectTree(t, b, "/x", "/d"+dirType, "/d/f"+regularType+"new", "/d/keep"+regularType+"kept", "/e"+dirType, "/e/f"+regularType+"new",
		"/keep"+regularType+"kept", "/l"+linkType, "/n"+dirType, "/n/f"+regularType+"new")
	if target, err := os.Readlink(b.file("/x/l")); err != nil || target != "d" {
		t.Errorf("the link holds %q, %v", target, err)
	}
}

func TestReplaceRemovesWhatWasThere(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	b.write(t, "/x/gone", []byte("old"))
	b.write(t, "/x/d/f", []byte("old"))
	deep := b.file("/x") + strings.Repeat("/deep", 300)
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../..", deep+"/out"); err != nil {
		t.Fatal(err)
	}
	if _, err := putTree(t.Context(), b.tree("/x", storage.ReplaceTree), packed(t, "d/f:new"), nil); err != nil {
		t.Fatal(err)
	}
	expectTree(t, b, "/x", "/d"+dirType, "/d/f"+regularType+"new")
}

// TestTreeRefused leaves everything as it was.
func TestTreeRefused(t *testing.T) {
	body := packed(t, "a/f:new", "d/f:new", "z:new")
	merge, replace, fresh := storage.MergeTree, storage.ReplaceTree, storage.NewTree
	for _, c := range []struct {
		name   string
		policy storage.TreePolicy
		make   func(*testing.T, *bench)
		class  storage.Class
		code   string
	}{
		{"NewFile", fresh, regular("/x"), storage.Conflict, storage.CodeDestinationExists},
		{"NewEmptyDirectory", fresh, dir("/x"), storage.Conflict, storage.CodeDestinationExists},
		{"NewDangling", fresh, symlink("nothing", "/x"), storage.Conflict, storage.CodeDestinationExists},
		{"ReplaceFile", replace, regular("/x"), storage.Conflict, "destination_not_directory"},
		{"ReplaceLink", replace, linkTo("y", dir("/y"), "/x"), storage.Conflict, "destination_not_directory"},
		{"ReplaceFIFO", replace, fifoAsParent, storage.Conflict, "destination_not_directory"},
		{"MergeFile", merge, regular("/x"), storage.Conflict, "destination_not_directory"},
		{"MergeLink", merge, linkTo("y", dir("/y"), "/x"), storage.Conflict, "destination_not_directory"},
		{"MergeLinkOutside", merge, symlink("../outside", "/x"), storage.Conflict, "destination_not_directory"},
		{"MergeDirectoryForFile", merge, dir("/x/z"), storage.Conflict, "destination_is_directory"},
		{"MergeFileForDirectory", merge, regular("/x/d"), storage.Conflict, "destination_not_directory"},
		{"MergeLinkForDirectory", merge, symlink("../../outside", "/x/d"), storage.Conflict, "destination_not_directory"},
		{"MergeLinkForFile", merge, symlink("../../outside/f", "/x/z"), storage.Conflict, "destination_not_regular"},
		{"MergeLinkForFileBelow", merge, linkTo("../g", regular("/x/g"), "/x/d/f"), storage.Conflict, "destination_not_regular"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newObstacle(t, obstacle{make: c.make})
			before := snapshot(t, b.root)
			asked := false
			_, err := putTree(t.Context(), b.tree("/x", c.policy), body, func() error { asked = true; return nil })
			expectCode(t, err, c.class, c.code)
			expectNoPath(t, err, b.root)
			if asked {
				t.Error("Ready was asked")
			}
			if after := snapshot(t, b.root); after != before {
				t.Errorf("the tree changed from\n%s\nto\n%s", before, after)
			}
		})
	}
}

// TestTreeParents are those of a file: they are made, a link is followed inside, and nothing leads outside.
func TestTreeParents(t *testing.T) {
	for _, o := range []obstacle{
		{"ParentLinkInside", linkTo("y", dir("/y"), "/x"), 0, ""},
		{"FileAsParent", regular("/x"), storage.Conflict, "parent_not_directory"},
		{"ParentDotDot", symlink("../outside", "/x"), storage.Denied, "path_escapes"},
		{"ParentAbsolute", symlink("ROOT/ORG-a/outside", "/x"), storage.Denied, "path_escapes"},
	} {
		t.Run(o.name, func(t *testing.T) {
			b := newObstacle(t, o)
			before := snapshot(t, b.root)
			_, err := putTree(t.Context(), b.tree("/x/t", storage.MergeTree), packed(t, "f:new"), nil)
			if o.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				expectTree(t, b, "/y/t", "/f"+regularType+"new")
				return
			}
			expectCode(t, err, o.class, o.code)
			if after := snapshot(t, b.root); after != before {
				t.Errorf("the tree changed from\n%s\nto\n%s", before, after)
			}
		})
	}
	b := newBench(t, sandbox.Options{})
	for path, code := range map[string]string{"/": "path_invalid", "/../x": "path_invalid", "/.copyfleet-x": "path_reserved"} {
		_, err := putTree(t.Context(), b.tree(path, storage.MergeTree), packed(t, "f:new"), nil)
		expectCode(t, err, storage.Invalid, code)
	}
}

// TestBadArchives leave nothing, neither hidden nor visible.
func TestBadArchives(t *testing.T) {
	good := packed(t, "a/f:new", "b:"+strings.Repeat("x", 5000))
	cut := good[:len(good)-2048]
	for _, c := range []struct {
		name  string
		body  []byte
		size  int64
		class storage.Class
		code  string
	}{
		{"DotDot", packed(t, "a/f:new", "../f:x"), storage.UnknownSize, storage.Invalid, archive.CodePathInvalid},
		{"ThroughLink", packed(t, "a -> .", "a/f:x"), storage.UnknownSize, storage.Invalid, archive.CodeBlocked},
		{"LinkOutside", packed(t, "a/f:new", "l -> ../../outside"), storage.UnknownSize, storage.Invalid, archive.CodeLinkEscapes},
		{"Hidden", packed(t, "a/f:new", "a/.copyfleet-t1/f:x"), storage.UnknownSize, storage.Invalid, "path_reserved"},
		{"HiddenOtherCase", packed(t, "a/.CopyFleet-t1:x"), storage.UnknownSize, storage.Invalid, "path_reserved"},
		{"TooLongTogether", packed(t, strings.Repeat("n/", 60)+strings.Repeat("m", 200)+":x"), storage.UnknownSize, storage.Invalid, "name_too_long"},
		{"Cut", cut, storage.UnknownSize, storage.Corrupt, archive.CodeTruncated},
		{"Short", cut, int64(len(good)), storage.Corrupt, "source_short"},
		{"ShortBehindTheEnd", good, int64(len(good)) + 1, storage.Corrupt, "source_short"},
		{"Long", good, int64(len(good)) - 1, storage.Corrupt, "source_long"},
		{"Empty", nil, 0, storage.Corrupt, archive.CodeTruncated},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, sandbox.Options{})
			b.write(t, "/x/old", []byte("old"))
			before := snapshot(t, b.root)
			path := "/x"
			if c.code == "name_too_long" {
				path = "/x" + strings.Repeat("/"+strings.Repeat("p", 250), 16)
			}
			for _, policy := range []storage.TreePolicy{storage.MergeTree, storage.ReplaceTree} {
				content := storage.Content{Body: bytes.NewReader(c.body), Size: c.size, Ready: func() error { return errors.New("asked") }}
				_, err := b.tree(path, policy).Put(t.Context(), content)
				expectCode(t, err, c.class, c.code)
			}
			if c.code == "name_too_long" {
				_ = os.RemoveAll(b.file("/x/" + strings.Repeat("p", 250))) // parents that were made stay, as a file's do
			}
			if after := snapshot(t, b.root); after != before {
				t.Errorf("the tree changed from\n%s\nto\n%s", before, after)
			}
		})
	}
}

// TestTreeErrorsOfOthers are wrapped, and nothing is left.
func TestTreeErrorsOfOthers(t *testing.T) {
	mine := errors.New("mine")
	body := packed(t, "a/f:new", "b:"+strings.Repeat("x", 5000))
	b := newBench(t, sandbox.Options{})
	_, err := putTree(t.Context(), b.tree("/x", storage.MergeTree), body, func() error {
		if got, err := os.ReadFile(b.hidden(t)[0] + "/a/f"); err != nil || string(got) != "new" {
			t.Errorf("before it is visible the file holds %q, %v", got, err)
		}
		if _, err := os.Lstat(b.file("/x")); err == nil {
			t.Error("it is visible before Ready was asked")
		}
		return mine
	})
	expectOnly(t, b, err, mine)
	broken := storage.Content{Body: io.MultiReader(bytes.NewReader(body[:2000]), failing{mine}), Size: storage.UnknownSize}
	_, err = b.tree("/x", storage.MergeTree).Put(t.Context(), broken)
	expectOnly(t, b, err, mine)
	ctx, cancel := context.WithCancelCause(t.Context())
	stopping := storage.Content{Body: io.MultiReader(bytes.NewReader(body[:2000]), stopper{cancel, mine}, bytes.NewReader(body[2000:])), Size: storage.UnknownSize}
	_, err = b.tree("/x", storage.MergeTree).Put(ctx, stopping)
	expectOnly(t, b, err, mine)
}

// expectOnly reports an error that does not wrap cause, and whatever is in the sandbox.
func expectOnly(t *testing.T, b *bench, err, cause error) {
	t.Helper()
	if e, ok := errors.AsType[*storage.Error](err); !errors.Is(err, cause) || !ok || e.Class != storage.Interrupted {
		t.Errorf("error %v", err)
	}
	if entries, err := os.ReadDir(b.dir); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// stopper cancels when it is read, and is empty.
type stopper struct {
	cancel context.CancelCauseFunc
	cause  error
}

func (s stopper) Read([]byte) (int, error) {
	s.cancel(s.cause)
	return 0, io.EOF
}

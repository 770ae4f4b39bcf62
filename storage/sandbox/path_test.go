package sandbox_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
)

func TestPlaces(t *testing.T) {
	name255, name256 := strings.Repeat("n", 255), strings.Repeat("n", 256)
	for _, c := range []struct {
		name, org, box, path string
		code                 string // "" if the place is fine
	}{
		{"Plain", org, box, "/a/b", ""},
		{"LongName", org, box, "/" + name255, ""},
		{"LongUnicode", org, box, "/" + strings.Repeat("漢", 85), ""},
		{"Space", org, box, "/ a / b ", ""},
		{"Newline", org, box, "/a\nb", ""},
		{"NotUTF8", org, box, "/\xff\xfe", ""},
		{"Dots", org, box, "/.../..a", ""},
		{"Percent", org, box, "/%2e%2e/%2f", ""},
		{"Deep", org, box, strings.Repeat("/d", 2048), ""},
		{"LongId", strings.Repeat("o", 128), strings.Repeat("s", 128), "/a", ""},
		{"TooLongName", org, box, "/" + name256, "name_too_long"},
		{"TooLongParent", org, box, "/" + name256 + "/a", "name_too_long"},
		{"TooLongPath", org, box, strings.Repeat("/d", 2049), "name_too_long"},
		{"Empty", org, box, "", "path_invalid"},
		{"Root", org, box, "/", "path_invalid"},
		{"Relative", org, box, "a", "path_invalid"},
		{"Parent", org, box, "/../a", "path_invalid"},
		{"ParentInside", org, box, "/a/../b", "path_invalid"},
		{"Dot", org, box, "/./a", "path_invalid"},
		{"TwoSlashes", org, box, "//a", "path_invalid"},
		{"TrailingSlash", org, box, "/a/", "path_invalid"},
		{"NUL", org, box, "/a\x00b", "path_invalid"},
		{"Reserved", org, box, "/.copyfleet-x", "path_reserved"},
		{"ReservedAlone", org, box, "/.copyfleet-", "path_reserved"},
		{"ReservedParent", org, box, "/a/.copyfleet-x/b", "path_reserved"},
		{"ReservedCase", org, box, "/.CopyFleet-x", "path_reserved"},
		{"AlmostReserved", org, box, "/.copyfleet", ""},
		{"OrgParent", "..", box, "/a", "id_invalid"},
		{"OrgSlash", "a/b", box, "/a", "id_invalid"},
		{"OrgEmpty", "", box, "/a", "id_invalid"},
		{"BoxParent", org, "..", "/a", "id_invalid"},
		{"BoxHidden", org, ".a", "/a", "id_invalid"},
		{"BoxEmpty", org, "", "/a", "id_invalid"},
		{"BoxNUL", org, "a\x00", "/a", "id_invalid"},
		{"BoxTooLong", org, strings.Repeat("s", 129), "/a", "id_invalid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, sandbox.Options{})
			before := snapshot(t, b.root)
			err := put(t, b.store.Destination(c.org, c.box, c.path, "t", nil), []byte("new"))
			got, readErr := read(t, b.store.Source(c.org, c.box, c.path))
			if c.code == "" {
				if err != nil || readErr != nil || string(got) != "new" {
					t.Errorf("Put: %v; Open and Read: %q, %v", err, got, readErr)
				}
				removeDeep(t, b)
				return
			}
			expectCode(t, err, storage.Invalid, c.code)
			expectCode(t, readErr, storage.Invalid, c.code)
			if after := snapshot(t, b.root); after != before {
				t.Errorf("a refused Put changed the tree from\n%s\nto\n%s", before, after)
			}
		})
	}
}

// removeDeep removes what may be too deep for a removal by name.
func removeDeep(t *testing.T, b *bench) {
	t.Helper()
	root, err := os.OpenRoot(b.root)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := root.RemoveAll(org); err != nil {
		t.Fatal(err)
	}
}

func TestMissingMessage(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	for _, id := range []string{box, "SBX-unknown"} {
		_, err := read(t, b.store.Source(org, id, "/no/such file"))
		e, ok := errors.AsType[*storage.Error](err)
		if !ok || e.Message != "File not found in sandbox: /no/such file" || e.Class != storage.NotFound {
			t.Errorf("error %v in sandbox %s", err, id)
		}
	}
	if _, err := os.Lstat(filepath.Join(b.root, org, "SBX-unknown")); err == nil {
		t.Error("reading from a missing sandbox created it")
	}
}

func TestSandboxIsCreated(t *testing.T) {
	for _, opts := range []sandbox.Options{{}, {Sync: true}} {
		root := filepath.Join(t.TempDir(), "a", "b")
		store, err := sandbox.Open(root, opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close() })
		if err := put(t, store.Destination("o", "s", "/d/e/f", "t", nil), []byte("new")); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(root, "o", "s", "d", "e", "f")); err != nil || string(got) != "new" {
			t.Errorf("the file holds %q, %v", got, err)
		}
	}
}

func TestOpenRefusesFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if store, err := sandbox.Open(file, sandbox.Options{}); err == nil {
		_ = store.Close()
		t.Error("a file was opened as the root of sandboxes")
	}
}

func TestClosedStore(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	b.write(t, "/f", []byte("old"))
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := read(t, b.source("/f"))
	expectCode(t, err, storage.Internal, "closed")
	expectCode(t, put(t, b.destination("/f"), nil), storage.Internal, "closed")
}

package sandbox_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
)

// obstacle puts something at /x/f or in its way. Beside the sandbox is the directory outside, with the file secret.
type obstacle struct {
	name  string
	make  func(t *testing.T, b *bench)
	class storage.Class
	code  string // "" if it is no obstacle
}

func symlink(target, at string) func(t *testing.T, b *bench) {
	return func(t *testing.T, b *bench) {
		if err := os.MkdirAll(filepath.Dir(b.file(at)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(strings.ReplaceAll(target, "ROOT", b.root), b.file(at)); err != nil {
			t.Fatal(err)
		}
	}
}

func fifo(t *testing.T, b *bench) {
	if err := os.MkdirAll(b.file("/x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(b.file("/x/f"), 0o666); err != nil {
		t.Fatal(err)
	}
}

func fifoAsParent(t *testing.T, b *bench) {
	if err := unix.Mkfifo(b.file("/x"), 0o666); err != nil {
		t.Fatal(err)
	}
}

// socket binds under a short relative name: the addresses of sockets are limited to about a hundred bytes.
func socket(t *testing.T, b *bench) {
	if err := os.MkdirAll(b.file("/x"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(b.file("/x"))
	listener, err := net.Listen("unix", "f")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
}

func dir(path string) func(t *testing.T, b *bench) {
	return func(t *testing.T, b *bench) {
		if err := os.MkdirAll(b.file(path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func regular(path string) func(t *testing.T, b *bench) {
	return func(t *testing.T, b *bench) { b.write(t, path, []byte("old")) }
}

func hardLink(t *testing.T, b *bench) {
	b.write(t, "/x/g", []byte("old"))
	if err := os.Link(b.file("/x/g"), b.file("/x/f")); err != nil {
		t.Fatal(err)
	}
}

func linkTo(target string, content func(t *testing.T, b *bench), at string) func(t *testing.T, b *bench) {
	return func(t *testing.T, b *bench) {
		content(t, b)
		symlink(target, at)(t, b)
	}
}

func newObstacle(t *testing.T, o obstacle) *bench {
	t.Helper()
	b := newBench(t, sandbox.Options{})
	if err := os.MkdirAll(filepath.Join(b.root, org, "outside"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.root, org, "outside", "f"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	o.make(t, b)
	return b
}

const notFound = "sandbox_file_not_found"

func TestSourceObstacles(t *testing.T) {
	for _, o := range []obstacle{
		{"Regular", regular("/x/f"), 0, ""},
		{"HardLink", hardLink, 0, ""},
		{"LinkInside", linkTo("../y/f", regular("/y/f"), "/x/f"), 0, ""},
		{"ParentLinkInside", linkTo("y", regular("/y/f"), "/x"), 0, ""},
		{"FIFO", fifo, storage.Invalid, "source_not_regular"},
		{"FIFOAsParent", fifoAsParent, storage.NotFound, notFound},
		{"Socket", socket, storage.Invalid, "source_not_regular"},
		{"Directory", dir("/x/f"), storage.Invalid, "source_is_directory"},
		{"FileAsParent", regular("/x"), storage.NotFound, notFound},
		{"Missing", dir("/x"), storage.NotFound, notFound},
		{"MissingParent", func(*testing.T, *bench) {}, storage.NotFound, notFound},
		{"Dangling", symlink("nothing", "/x/f"), storage.NotFound, notFound},
		{"Loop", symlink("f", "/x/f"), storage.Invalid, "symlink_loop"},
		{"Absolute", symlink("ROOT/ORG-a/outside/f", "/x/f"), storage.Denied, "path_escapes"},
		{"AbsoluteInside", linkTo("ROOT/ORG-a/SBX-1/y/f", regular("/y/f"), "/x/f"), storage.Denied, "path_escapes"},
		{"DotDot", symlink("../../outside/f", "/x/f"), storage.Denied, "path_escapes"},
		{"ParentDotDot", symlink("../outside", "/x"), storage.Denied, "path_escapes"},
		{"ParentAbsolute", symlink("ROOT/ORG-a/outside", "/x"), storage.Denied, "path_escapes"},
	} {
		t.Run(o.name, func(t *testing.T) {
			b := newObstacle(t, o)
			got, err := read(t, b.source("/x/f"))
			if o.code == "" {
				if err != nil || string(got) != "old" {
					t.Errorf("read %q, %v, want what the file holds", got, err)
				}
				return
			}
			expectCode(t, err, o.class, o.code)
			expectNoPath(t, err, b.root)
		})
	}
}

func TestDestinationObstacles(t *testing.T) {
	for _, o := range []obstacle{
		{"Regular", regular("/x/f"), 0, ""},
		{"HardLink", hardLink, 0, ""},
		{"Missing", func(*testing.T, *bench) {}, 0, ""},
		{"ParentLinkInside", linkTo("y", dir("/y"), "/x"), 0, ""},
		{"FIFO", fifo, storage.Conflict, "destination_not_regular"},
		{"FIFOAsParent", fifoAsParent, storage.Conflict, "parent_not_directory"},
		{"Socket", socket, storage.Conflict, "destination_not_regular"},
		{"Directory", dir("/x/f"), storage.Conflict, "destination_is_directory"},
		{"DirectoryWithFiles", regular("/x/f/g"), storage.Conflict, "destination_is_directory"},
		{"FileAsParent", regular("/x"), storage.Conflict, "parent_not_directory"},
		{"Link", linkTo("g", regular("/x/g"), "/x/f"), storage.Conflict, "destination_not_regular"},
		{"LinkOutside", symlink("../../outside/f", "/x/f"), storage.Conflict, "destination_not_regular"},
		{"Dangling", symlink("nothing", "/x/f"), storage.Conflict, "destination_not_regular"},
		{"Loop", symlink("f", "/x/f"), storage.Conflict, "destination_not_regular"},
		{"ParentDangling", symlink("nothing", "/x"), storage.Conflict, "parent_not_directory"},
		{"ParentLoop", symlink("x", "/x"), storage.Invalid, "symlink_loop"},
		{"ParentDotDot", symlink("../outside", "/x"), storage.Denied, "path_escapes"},
		{"ParentAbsolute", symlink("ROOT/ORG-a/outside", "/x"), storage.Denied, "path_escapes"},
	} {
		for _, size := range []int{10, 300 << 10} { // both sides of the early check
			t.Run(o.name, func(t *testing.T) {
				b := newObstacle(t, o)
				before := snapshot(t, b.root)
				data := []byte(strings.Repeat("n", size))
				err := put(t, b.destination("/x/f"), data)
				if o.code == "" {
					if got, readErr := os.ReadFile(b.file("/x/f")); err != nil || readErr != nil || string(got) != string(data) {
						t.Errorf("Put: %v, then %d bytes, %v", err, len(got), readErr)
					}
					return
				}
				expectCode(t, err, o.class, o.code)
				expectNoPath(t, err, b.root)
				if after := snapshot(t, b.root); after != before {
					t.Errorf("a refused Put changed the tree from\n%s\nto\n%s", before, after)
				}
			})
		}
	}
}

// snapshot lists every name below root with its type, size and, of a regular file, content.
func snapshot(t *testing.T, root string) string {
	t.Helper()
	var list strings.Builder
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		list.WriteString(strings.TrimPrefix(path, root) + " " + entry.Type().String())
		if entry.Type().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			list.WriteString(" " + string(content))
		}
		list.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list.String()
}

// expectNoPath reports an error that tells where on this machine the sandboxes are.
func expectNoPath(t *testing.T, err error, root string) {
	t.Helper()
	if err != nil && strings.Contains(err.Error(), root) {
		t.Errorf("error %q tells the path of the store", err)
	}
}

// TestHardLinkReplaced shows that replacing one name of a file leaves its other names alone.
func TestHardLinkReplaced(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	hardLink(t, b)
	if err := put(t, b.destination("/x/f"), []byte("new")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(b.file("/x/g")); err != nil || string(got) != "old" {
		t.Errorf("the other name holds %q, %v, want the old content", got, err)
	}
}

// TestParentSwappedMidway moves the destination's directory away while it is written and puts a link to the outside
// in its place. The file must follow the directory, not the link.
func TestParentSwappedMidway(t *testing.T) {
	b := newObstacle(t, obstacle{make: dir("/x")})
	swap := func() error {
		if err := os.Rename(b.file("/x"), b.file("/moved")); err != nil {
			return err
		}
		return os.Symlink("../outside", b.file("/x"))
	}
	content := storage.Content{Body: strings.NewReader("new"), Size: 3, Ready: swap}
	if _, err := b.destination("/x/f").Put(t.Context(), content); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(b.root, org, "outside", "f")); err != nil || string(got) != "secret" {
		t.Errorf("the file outside holds %q, %v", got, err)
	}
	if got, err := os.ReadFile(b.file("/moved/f")); err != nil || string(got) != "new" {
		t.Errorf("the directory that was moved holds %q, %v, want the new file", got, err)
	}
}

// TestSandboxDirectoryIsLink shows that one sandbox's directory cannot stand for another's.
func TestSandboxDirectoryIsLink(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	b.write(t, "/f", []byte("secret"))
	if err := os.Symlink(box, filepath.Join(b.root, org, "SBX-2")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.root, org, "SBX-3"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"SBX-2", "SBX-3"} {
		_, err := read(t, b.store.Source(org, id, "/f"))
		expectCode(t, err, storage.Conflict, "sandbox_not_directory")
		expectCode(t, put(t, b.store.Destination(org, id, "/f", "t", nil), nil), storage.Conflict, "sandbox_not_directory")
	}
}

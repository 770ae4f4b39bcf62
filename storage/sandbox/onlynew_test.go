package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/storage"
)

// inDirectory returns an open directory with the files a and b.
func inDirectory(t *testing.T) (directory, string) {
	t.Helper()
	path := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(path, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return directory{f}, path
}

// TestRenameNew holds both ways to rename to the same: the one of file systems that can, and the one of those that cannot.
func TestRenameNew(t *testing.T) {
	t.Parallel()
	for name, rename := range map[string]func(d directory, from, to string) error{"Rename": directory.renameNew, "Link": directory.linkNew} {
		d, path := inDirectory(t)
		if err := rename(d, "a", "b"); !errors.Is(err, unix.EEXIST) {
			t.Errorf("%s over a file: %v", name, err)
		}
		if err := rename(d, "nothing", "c"); !errors.Is(err, unix.ENOENT) {
			t.Errorf("%s of nothing: %v", name, err)
		}
		if err := os.Symlink("nothing", filepath.Join(path, "link")); err != nil {
			t.Fatal(err)
		}
		if err := rename(d, "a", "link"); !errors.Is(err, unix.EEXIST) {
			t.Errorf("%s over a link to nothing: %v", name, err)
		}
		if err := rename(d, "a", "c"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(filepath.Join(path, "a")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s left the old name: %v", name, err)
		}
		if got, err := os.ReadFile(filepath.Join(path, "c")); err != nil || string(got) != "a" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestDiedBetweenTwoNames completes again what a rename in two steps has left with both names.
func TestDiedBetweenTwoNames(t *testing.T) {
	t.Parallel()
	store, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	d, _ := store.Destination("o", "s", "/f", "t", nil).(*destination)
	content := storage.PartContent{Size: 10, PartSize: 10, OnlyNew: true}
	name, err := d.Begin(t.Context(), content)
	if err != nil {
		t.Fatal(err)
	}
	u, err := d.parseUpload("", name)
	if err != nil {
		t.Fatal(err)
	}
	box := filepath.Join(store.root.Name(), "o", "s")
	if err := os.Link(filepath.Join(box, u.hidden()), filepath.Join(box, "f")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Complete(t.Context(), name, content, []storage.PartStored{{Number: 1, Size: 10}}, nil); err != nil {
		t.Errorf("what was completed but for its other name: %v", err)
	}
	if entries, err := os.ReadDir(box); err != nil || len(entries) != 1 || entries[0].Name() != "f" {
		t.Errorf("the sandbox has %v, %v, want the file", entries, err)
	}
}

// TestSparseAllocation makes a file on a file system that takes no space beforehand.
func TestSparseAllocation(t *testing.T) {
	t.Parallel()
	d := &destination{store: &Store{escapes: errors.New("escapes")}}
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := d.allocateSparse(f, 1<<30); err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != 1<<30 {
		t.Errorf("the file is %v, %v", info, err)
	}
	if err := d.allocateSparse(f, -1); storage.ClassOf(err) != storage.Unavailable {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.allocate(ctx, f, 10<<30); storage.ClassOf(err) != storage.Interrupted {
		t.Errorf("error %v for a context that ended", err)
	}
}

// TestIdentities tells a file from one that has its inode's number after it.
func TestIdentities(t *testing.T) {
	t.Parallel()
	d, path := inDirectory(t)
	was, err := d.identify("a")
	if err != nil || !was.regular || was.size != 1 {
		t.Fatalf("%+v, %v", was, err)
	}
	byInode, err := d.identifyByInode("a")
	if err != nil || byInode.inode != was.inode || byInode.size != 1 || !byInode.regular || byInode.born != 0 {
		t.Errorf("%+v, %v, want as %+v", byInode, err, was)
	}
	for range 100 {
		if err := os.Remove(filepath.Join(path, "a")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "a"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	is, err := d.identify("a")
	if err != nil || was.born != 0 && is.same(was) {
		t.Errorf("%+v is taken for %+v: %v", is, was, err)
	}
	if other, err := d.identify("b"); err != nil || other.same(is) {
		t.Errorf("%+v is taken for %+v: %v", other, is, err)
	}
	if _, err := d.identify("nothing"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("error %v", err)
	}
}

package sandbox_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
)

// TestTreesDoNotEnterBindMounts mounts a directory of the same file system in a tree. What is in it is somebody else's: it outlives the
// replacement of the tree, and a merge that would have to rename into it is refused before anything is changed.
func TestTreesDoNotEnterBindMounts(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	outside := filepath.Join(b.root, "data")
	b.write(t, "/x/a/f", []byte("old"))
	if err := errors.Join(os.Mkdir(outside, 0o755), os.WriteFile(outside+"/f", []byte("data"), 0o600), os.Mkdir(b.file("/x/m"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := mountBind(t, outside, b.file("/x/m")); err != nil {
		t.Logf("nothing can be mounted here: %v", err)
		return
	}
	for path, body := range map[string][]byte{"/x": packed(t, "a/f:new", "m/f:new"), "/x/m": packed(t, "f:new")} {
		_, err := putTree(t.Context(), b.tree(path, storage.MergeTree), body, func() error { t.Error("Ready was asked"); return nil })
		expectCode(t, err, storage.Conflict, "destination_other_filesystem")
	}
	expectTree(t, b, "/x", "/a"+dirType, "/a/f"+regularType+"old", "/m"+dirType, "/m/f"+regularType+"data")
	if _, err := putTree(t.Context(), b.tree("/x", storage.ReplaceTree), packed(t, "f:new"), nil); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(outside + "/f"); err != nil || string(got) != "data" {
		t.Errorf("what was mounted in the tree that was replaced has %q, %v", got, err)
	}
	left := b.hidden(t)                                                                               // a mount cannot be removed
	if err := errors.Join(os.RemoveAll(b.file("/x")), os.Rename(left[0], b.file("/x"))); err != nil { // to where the mount is known
		t.Error(err)
	}
}

// TestReplacedTreeWithoutPermissions: directories that the worker owns are removed, whatever it may do in them. A module cache is full of such.
func TestReplacedTreeWithoutPermissions(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	if err := errors.Join(os.MkdirAll(b.file("/d"), 0o755), os.Chmod(b.file("/d"), 0o777)); err != nil {
		t.Fatal(err)
	}
	for dir := b.root; len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if said := inChild(t, "replacing", b.root); said != "replaced" {
		t.Fatal(said)
	}
	expectTree(t, b, "/d/x", "/f"+regularType+"new")
}

// TestReplaceEndsWhileOthersWrite: a process that goes on making files in what was replaced does not keep the worker.
func TestReplaceEndsWhileOthersWrite(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	b.write(t, "/x/d/f", []byte("old"))
	old, err := os.OpenRoot(b.file("/x/d"))
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	stop := make(chan struct{})
	var busy, begun sync.WaitGroup
	defer busy.Wait()
	defer close(stop)
	for w := range 16 {
		begun.Add(1)
		busy.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					_ = old.WriteFile(strconv.Itoa(w)+"."+strconv.Itoa(i), nil, 0o600)
				}
				if i == 10 {
					begun.Done()
				}
			}
		})
	}
	begun.Wait()
	sandbox.RemoveWithin(b.store, 100*time.Millisecond)
	if _, err := putTree(t.Context(), b.tree("/x", storage.ReplaceTree), packed(t, "f:new"), nil); err != nil {
		t.Fatal(err)
	}
}

package sandbox_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
)

// TestTreeFullDisk unpacks more than a small file system holds, in bytes and in files, where the process may mount one. What the error of a
// full disk is taken for, [TestFullDisk] shows elsewhere, too.
func TestTreeFullDisk(t *testing.T) {
	root := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := mountSmall(t, root, 512<<10); err != nil {
		t.Logf("no file system can be mounted here: %v", err)
		return
	}
	many := make([]string, 2000)
	for i := range many {
		many[i] = fmt.Sprintf("d%d/f%d:x", i%50, i)
	}
	b := newBenchAt(t, root, sandbox.Options{Sync: true})
	b.write(t, "/x/f", []byte("old"))
	for name, body := range map[string][]byte{
		"Bytes": packed(t, "a/f:x", "f:"+strings.Repeat("x", 1<<20)), "Files": packed(t, many...),
	} {
		for _, policy := range []storage.TreePolicy{storage.MergeTree, storage.ReplaceTree} {
			_, err := putTree(t.Context(), b.tree("/x", policy), body, func() error { t.Errorf("%s: Ready was asked", name); return nil })
			expectCode(t, err, storage.NoSpace, "no_space")
			expectTree(t, b, "/x", "/f"+regularType+"old")
		}
	}
	if err := put(t, b.destination("/g"), []byte(strings.Repeat("n", 256<<10))); err != nil {
		t.Errorf("the space was not freed: %v", err)
	}
}

// TestMergeOverMount refuses before anything is changed what cannot be renamed into another file system, and removes nothing there.
func TestMergeOverMount(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	b.write(t, "/x/a/f", []byte("old"))
	if err := os.Mkdir(b.file("/x/m"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := mountSmall(t, b.file("/x/m"), 512<<10); err != nil {
		t.Logf("no file system can be mounted here: %v", err)
		return
	}
	b.write(t, "/x/m/f", []byte("mounted"))
	asked := func() error { t.Error("Ready was asked"); return nil }
	_, err := putTree(t.Context(), b.tree("/x", storage.MergeTree), packed(t, "a/f:new", "m/g:new"), asked)
	expectCode(t, err, storage.Conflict, "destination_other_filesystem")
	expectTree(t, b, "/x", "/a"+dirType, "/a/f"+regularType+"old", "/m"+dirType, "/m/f"+regularType+"mounted")

	_, err = putTree(t.Context(), b.tree("/x/m", storage.ReplaceTree), packed(t, "f:new"), nil)
	expectCode(t, err, storage.Conflict, "destination_busy")

	if _, err := putTree(t.Context(), b.tree("/x", storage.ReplaceTree), packed(t, "f:new"), nil); err != nil {
		t.Fatal(err)
	}
	expectNew := "/f" + regularType + "new\n"
	if got := snapshot(t, b.file("/x")); got != " d---------\n"+expectNew {
		t.Errorf("there is\n%s", got)
	}
	left := b.hidden(t)
	if got, err := os.ReadFile(left[0] + "/m/f"); err != nil || string(got) != "mounted" {
		t.Errorf("the file system that was mounted in what was replaced has %q, %v", got, err)
	}
	if err := errors.Join(os.RemoveAll(b.file("/x")), os.Rename(left[0], b.file("/x"))); err != nil { // to where the mount is known
		t.Error(err)
	}
}

// TestTreeDescriptors unpacks and removes deep trees with few files open at once.
func TestTreeDescriptors(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	at, err := os.OpenRoot(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	for level := range 1000 { // a process in the sandbox goes down as it makes them: no path is that long
		name := "x"
		if level > 0 {
			name = strings.Repeat("d", 200)
		}
		if err := at.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := at.OpenRoot(name)
		if err != nil {
			t.Fatal(err)
		}
		_ = at.Close()
		at = next
	}
	_ = at.Close()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few := unix.Rlimit{Cur: 256, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}()
	body := packed(t, strings.Repeat("d/", 63)+"f:new")
	for _, policy := range []storage.TreePolicy{storage.ReplaceTree, storage.MergeTree} {
		if _, err := putTree(t.Context(), b.tree("/x", policy), body, nil); err != nil {
			t.Fatal(err)
		}
		if left := b.hidden(t); len(left) > 0 {
			t.Errorf("left behind: %d", len(left))
		}
	}
}

// BenchmarkTree unpacks 10,000 small files.
func BenchmarkTree(b *testing.B) {
	names := make([]string, 10_000)
	for i := range names {
		names[i] = fmt.Sprintf("d%d/f%d:%s", i%100, i, strings.Repeat("x", 1000))
	}
	body := packed(b, names...)
	for _, syncing := range []bool{true, false} {
		b.Run(fmt.Sprintf("sync=%t", syncing), func(b *testing.B) {
			place := newBench(b, sandbox.Options{Sync: syncing})
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				d := place.tree("/out", storage.ReplaceTree)
				if _, err := d.Put(b.Context(), storage.Content{Body: bytes.NewReader(body), Size: int64(len(body))}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestReplaceWithoutExchange is what happens on a file system that cannot exchange two names.
func TestReplaceWithoutExchange(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	b.write(t, "/d/x/f", []byte("old"))
	b.write(t, "/d/.copyfleet-t/f", []byte("new"))
	if err := sandbox.ReplaceInSteps(b.store, org, box, "/d/x", "t"); err != nil {
		t.Fatal(err)
	}
	expectTree(t, b, "/d/x", "/f"+regularType+"new")
	expectCode(t, sandbox.ReplaceInSteps(b.store, org, box, "/d/x", "t"), storage.Interrupted, "lease_lost")
	expectTree(t, b, "/d/x", "/f"+regularType+"new")
}

// TestMoveNewByHand is what happens on a file system without a rename that replaces nothing.
func TestMoveNewByHand(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	b.write(t, "/from/d/f", []byte("new"))
	b.write(t, "/from/f", []byte("new"))
	b.write(t, "/to/file", []byte("old"))
	symlink("nothing", "/from/l")(t, b)
	dir("/to/empty")(t, b)
	for _, from := range []string{"d", "f", "l"} {
		for _, to := range []string{"file", "empty"} {
			if err := sandbox.MoveNewByHand(b.file("/from"), from, b.file("/to"), to); !errors.Is(err, fs.ErrExist) {
				t.Errorf("%s over %s: %v", from, to, err)
			}
		}
		if err := sandbox.MoveNewByHand(b.file("/from"), from, b.file("/to"), from); err != nil {
			t.Errorf("%s: %v", from, err)
		}
	}
	if err := sandbox.MoveNewByHand(b.file("/from"), "none", b.file("/to"), "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing was moved: %v", err)
	}
	expectTree(t, b, "/from")
	expectTree(t, b, "/to", "/d"+dirType, "/d/f"+regularType+"new", "/empty"+dirType, "/f"+regularType+"new", "/file"+regularType+"old", "/l"+linkType)
}

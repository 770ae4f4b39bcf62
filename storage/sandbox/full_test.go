package sandbox_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
)

// TestFileSizeLimit writes with a limit on the size of files, the one way to make a write fail midway that needs no
// privilege. The limit is for a whole process, so a child does it.
func TestFileSizeLimit(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	b.write(t, "/f", []byte("old"))
	want := fmt.Sprint(int(storage.TooLarge), " file_too_large")
	if got := inChild(t, "limited", b.root); got != want {
		t.Errorf("class and code are %q, want %q", got, want)
	}
	expectOld(t, b)
}

// TestFullDisk fills a small file system where the process may mount one, and otherwise shows that the error it would
// meet there is understood.
func TestFullDisk(t *testing.T) {
	root := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := mountSmall(t, root, 512<<10); err != nil {
		t.Logf("no file system can be mounted here (%v): the full disk is that of /dev/full", err)
		fullDevice(t)
		return
	}
	for _, sync := range []bool{true, false} {
		b := newBenchAt(t, root, sandbox.Options{Sync: sync})
		b.write(t, "/f", []byte("old"))
		if got := putTooMuch(t.Context(), b.store); got != fmt.Sprint(int(storage.NoSpace), " no_space") {
			t.Errorf("class and code are %q", got)
		}
		expectOld(t, b)
		if err := put(t, b.destination("/g"), []byte(strings.Repeat("n", 256<<10))); err != nil {
			t.Errorf("the space of the refused file was not freed: %v", err)
		}
		if err := os.Remove(b.file("/g")); err != nil {
			t.Fatal(err)
		}
	}
}

func expectOld(t *testing.T, b *bench) {
	t.Helper()
	if got, err := os.ReadFile(b.file("/f")); err != nil || string(got) != "old" {
		t.Errorf("the file holds %q, %v, want the old content", got, err)
	}
	if left := b.hidden(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// fullDevice takes a real ENOSPC from the device made for it.
func fullDevice(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = f.WriteString("x")
	if got := describe(sandbox.Classify(err)); got != fmt.Sprint(int(storage.NoSpace), " no_space") {
		t.Errorf("class and code are %q", got)
	}
}

package sandbox_test

import (
	"os"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
)

// TestStaleWorkerCannotCommit lets a successor take the item over while a slow worker waits right before its commit,
// with the slowest possible timing: its Ready has agreed already.
func TestStaleWorkerCannotCommit(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	takeOver := func() error {
		return put(t, b.store.Destination(org, box, "/d/f", "second", []string{"first"}), []byte("second"))
	}
	content := storage.Content{Body: strings.NewReader("first"), Size: 5, Ready: takeOver}
	_, err := b.store.Destination(org, box, "/d/f", "first", nil).Put(t.Context(), content)
	expectCode(t, err, storage.Interrupted, "lease_lost")
	if got, err := os.ReadFile(b.file("/d/f")); err != nil || string(got) != "second" {
		t.Errorf("the file holds %q, %v, want the successor's content", got, err)
	}
	if left := b.hidden(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestStaleWorkerFailsAlone ends a slow worker with an error while its successor writes: its cleaning up must not touch
// the successor's hidden file.
func TestStaleWorkerFailsAlone(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	refused := storage.Errorf(storage.Interrupted, "test", "commit", "the test", "no")
	second := storage.Content{Body: strings.NewReader("second"), Size: 6, Ready: func() error {
		first := storage.Content{Body: strings.NewReader("first"), Size: 5, Ready: func() error { return refused }}
		_, err := b.store.Destination(org, box, "/f", "first", nil).Put(t.Context(), first)
		expectCode(t, err, storage.Interrupted, "test")
		return nil
	}}
	if _, err := b.store.Destination(org, box, "/f", "second", []string{"first"}).Put(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(b.file("/f")); err != nil || string(got) != "second" {
		t.Errorf("the file holds %q, %v", got, err)
	}
}

// TestDeadWorkersLeftoversGo removes what several dead predecessors left, some of whom left nothing.
func TestDeadWorkersLeftoversGo(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	b.write(t, "/.copyfleet-dead1", []byte("half"))
	b.write(t, "/.copyfleet-dead3", []byte("half"))
	b.write(t, "/.copyfleet-other", []byte("half"))
	d := b.store.Destination(org, box, "/f", "mine", []string{"dead1", "dead2", "dead3"})
	if err := put(t, d, []byte("new")); err != nil {
		t.Fatal(err)
	}
	left := b.hidden(t)
	if len(left) != 1 || left[0] != b.file("/.copyfleet-other") {
		t.Errorf("hidden files are %q, want only the other item's", left)
	}
}

func TestTemps(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	b.write(t, "/.copyfleet-taken", []byte("half"))
	for _, c := range []struct {
		name, temp string
		stale      []string
		code       string
	}{
		{"Plain", "aZ09_-", nil, ""},
		{"Longest", strings.Repeat("t", 200), nil, ""},
		{"OwnIsStale", "again", []string{"again"}, ""},
		{"TooLong", strings.Repeat("t", 201), nil, "temp_invalid"},
		{"Empty", "", nil, "temp_invalid"},
		{"Slash", "../x", nil, "temp_invalid"},
		{"Dot", "a.b", nil, "temp_invalid"},
		{"StaleEmpty", "t", []string{""}, "temp_invalid"},
		{"StaleSlash", "t", []string{"/../../outside"}, "temp_invalid"},
		{"Taken", "taken", nil, "temp_exists"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := put(t, b.store.Destination(org, box, "/"+strings.Repeat("n", 255), c.temp, c.stale), []byte("new"))
			if c.code == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			expectCode(t, err, storage.Internal, c.code)
		})
	}
	if _, err := os.Stat(b.file("/.copyfleet-taken")); err != nil {
		t.Errorf("a hidden file of somebody else's was removed: %v", err)
	}
}

// TestDirectoryRemovedMidway removes the directory with the hidden file in it.
func TestDirectoryRemovedMidway(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	content := storage.Content{Body: strings.NewReader("new"), Size: 3, Ready: func() error { return os.RemoveAll(b.file("/d")) }}
	_, err := b.destination("/d/f").Put(t.Context(), content)
	expectCode(t, err, storage.Interrupted, "lease_lost")
}

// TestDirectoryAppearsMidway puts a directory at the destination after the last look at it.
func TestDirectoryAppearsMidway(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	content := storage.Content{Body: strings.NewReader("new"), Size: 3, Ready: func() error { return os.MkdirAll(b.file("/d/f/g"), 0o755) }}
	_, err := b.destination("/d/f").Put(t.Context(), content)
	expectCode(t, err, storage.Conflict, "destination_is_directory")
	if left := b.hidden(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

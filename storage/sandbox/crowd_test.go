package sandbox_test

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
)

// TestManyIntoNewDirectories lets writers race for the creation of the same sandbox and the same directories.
func TestManyIntoNewDirectories(t *testing.T) {
	const writers, rounds = 16, 10
	for _, opts := range []sandbox.Options{{}, {Sync: true}} {
		b := newBench(t, opts)
		for round := range rounds {
			path := func(i int) string { return fmt.Sprintf("/a/%d/%d", round, i) }
			id := fmt.Sprint("SBX-", round)
			var all sync.WaitGroup
			for i := range writers {
				all.Go(func() {
					for _, id := range []string{id, box} {
						if err := put(t, b.store.Destination(org, id, path(i), fmt.Sprint("t", i), nil), []byte(path(i))); err != nil {
							t.Errorf("writer %d: %v", i, err)
						}
					}
				})
			}
			all.Wait()
			for i := range writers {
				for _, id := range []string{id, box} {
					if got, err := read(t, b.store.Source(org, id, path(i))); err != nil || string(got) != path(i) {
						t.Errorf("%s%s holds %q, %v", id, path(i), got, err)
					}
				}
			}
		}
		if left := b.hidden(t); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
}

// TestDescriptorsAreFreed counts the open files of the process around everything that can go well or wrong.
func TestDescriptorsAreFreed(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // or finalizers would close what we forget
	b := newBench(t, sandbox.Options{Sync: true})
	fifo(t, b)
	b.write(t, "/dir/g", []byte("old"))
	round := 0
	everything := func() {
		round++
		for _, path := range []string{fmt.Sprintf("/new/%d/%d/f", round, round), "/dir/g", "/dir", "/x/f", "/missing/f", "/dir/g/h", "/.copyfleet-x", "/" + strings.Repeat("n", 256)} {
			_, _ = read(t, b.source(path))
			_ = put(t, b.destination(path), []byte("new"))
			refused := storage.Content{Body: strings.NewReader("new"), Size: 3, Ready: func() error { return io.ErrUnexpectedEOF }}
			_, _ = b.destination(path).Put(t.Context(), refused)
			_, _ = b.destination(path).Put(t.Context(), storage.Content{Body: strings.NewReader("new"), Size: 4})
			inPartsAnyhow(t, b.writer(t, path), round)
			if ranger, ok := b.source(path).(storage.Ranger); ok {
				_, _ = ranger.OpenRange(t.Context(), storage.Mark{Size: 3, ETag: "x"}, 1, 1)
			}
		}
	}
	everything()
	before := descriptors(t)
	for range 20 {
		everything()
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
}

// inPartsAnyhow writes in parts, well or wrong.
func inPartsAnyhow(t *testing.T, d storage.PartDestination, round int) {
	t.Helper()
	content := storage.PartContent{Size: 3, PartSize: 3, Fresh: round%2 == 0, OnlyNew: round%3 == 0}
	upload, err := d.Begin(t.Context(), content)
	if err != nil {
		return
	}
	for _, body := range []string{"ne", "newer", "new"} {
		_, _ = d.PutPart(t.Context(), upload, storage.Part{Number: 1, Size: 3, Body: strings.NewReader(body)})
	}
	if reader, ok := d.(storage.UploadReader); ok {
		if body, err := reader.OpenUpload(t.Context(), upload, 1); err == nil {
			_ = body.Close()
		}
	}
	parts := []storage.PartStored{{Number: 1, Size: 3}}
	_, _ = d.Complete(t.Context(), upload, content, nil, nil)
	_, _ = d.Complete(t.Context(), upload, content, parts, func() error { return io.ErrUnexpectedEOF })
	_, _ = d.Complete(t.Context(), upload, content, parts, nil)
	_ = d.Abort(t.Context(), upload)
	_, _ = d.PutPart(t.Context(), upload, storage.Part{Number: 1, Size: 3, Body: strings.NewReader("new")})
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestMode shows that what is created is no program, whatever was replaced.
func TestMode(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	b.write(t, "/f", []byte("old"))
	if err := os.Chmod(b.file("/f"), 0o4755); err != nil {
		t.Fatal(err)
	}
	if err := put(t, b.destination("/f"), []byte("new")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(b.file("/f"))
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode(); mode&^0o644 != 0 || mode&0o600 != 0o600 {
		t.Errorf("the mode is %v, want 0644 less the umask", mode)
	}
}

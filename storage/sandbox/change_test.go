package sandbox_test

import (
	"io"
	"os"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

// TestSourceChanges changes a file between its opening and its end. Each way of reading must fail before it gave all
// bytes that were announced: a reader that stops there must not take them for the whole.
func TestSourceChanges(t *testing.T) {
	const size = 10_000
	for _, c := range []struct {
		name   string
		change func(name string) error
		code   string
	}{
		{"Truncated", func(name string) error { return os.Truncate(name, 6000) }, "source_short"},
		{"Emptied", func(name string) error { return os.Truncate(name, 0) }, "source_short"},
		{"GrownByOne", grow(1), "source_changed"},
		{"GrownByMuch", grow(1 << 20), "source_changed"},
		{"ModifiedInPlace", func(name string) error {
			return os.Chtimes(name, time.Time{}, time.Unix(1_000_000_000, 0)) // what a write does, at a time of our choice
		}, "source_changed"},
	} {
		for _, step := range []int{1000, size / 2, size, size + 1, 4 * size} {
			t.Run(c.name, func(t *testing.T) {
				b := newBench(t, sandbox.Options{})
				b.write(t, "/f", storagetest.Data(size, 1))
				object, err := b.source("/f").Open(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer object.Body.Close()
				if err := c.change(b.file("/f")); err != nil {
					t.Fatal(err)
				}
				n, err := readBy(object.Body, step)
				expectCode(t, err, storage.Corrupt, c.code)
				if n >= size {
					t.Errorf("%d of %d bytes were given although the file changed", n, size)
				}
				if m, again := object.Body.Read(make([]byte, step)); m != 0 || again != err { //nolint:errorlint // the very same error
					t.Errorf("the next Read = %d, %v, want the same error", m, again)
				}
			})
		}
	}
}

func grow(n int) func(name string) error {
	return func(name string) error {
		f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.Write(make([]byte, n))
		return err
	}
}

// readBy reads through a buffer of step bytes until an error.
func readBy(r io.Reader, step int) (int, error) {
	buffer, total := make([]byte, step), 0
	for {
		n, err := r.Read(buffer)
		total += n
		if err != nil {
			return total, err
		}
	}
}

// TestSourceGrownFromNothing covers the file that is empty when it is opened.
func TestSourceGrownFromNothing(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	b.write(t, "/f", nil)
	object, err := b.source("/f").Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer object.Body.Close()
	if err := grow(1)(b.file("/f")); err != nil {
		t.Fatal(err)
	}
	_, err = readBy(object.Body, 100)
	expectCode(t, err, storage.Corrupt, "source_changed")
}

// TestSourceReplaced shows that a reader keeps the file that it opened when the name gets another one.
func TestSourceReplaced(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	b.write(t, "/f", []byte("old"))
	object, err := b.source("/f").Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer object.Body.Close()
	if err := put(t, b.destination("/f"), []byte("newer")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(object.Body); err != nil || string(got) != "old" {
		t.Errorf("read %q, %v, want the file that was opened", got, err)
	}
}

// TestFileOntoItself copies a file to its own place.
func TestFileOntoItself(t *testing.T) {
	b := newBench(t, sandbox.Options{Sync: true})
	data := storagetest.Data(300<<10, 1)
	b.write(t, "/f", data)
	object, err := b.source("/f").Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer object.Body.Close()
	if _, err := b.destination("/f").Put(t.Context(), storage.Content{Body: object.Body, Size: object.Size}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(b.file("/f")); err != nil || string(got) != string(data) {
		t.Errorf("the file holds %d bytes, %v", len(got), err)
	}
}

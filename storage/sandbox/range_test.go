package sandbox_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

// seen opens /f and returns it with its mark, as another process has it that read it from a record.
func seen(t *testing.T, b *bench) (storage.Ranger, storage.Mark) {
	t.Helper()
	source, ok := b.source("/f").(storage.Ranger)
	if !ok {
		t.Fatal("a file cannot be read from the middle")
	}
	object, err := source.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer object.Body.Close()
	if !object.Ranges {
		t.Error("the file does not say that it can be read from the middle")
	}
	record, err := json.Marshal(object.Mark())
	if err != nil {
		t.Fatal(err)
	}
	var mark storage.Mark
	if err := json.Unmarshal(record, &mark); err != nil {
		t.Fatal(err)
	}
	return source, mark
}

// tick waits until the clock of the file system shows another time, at most some milliseconds: what happens within one tick cannot be
// told apart.
func tick(t *testing.T, b *bench) {
	t.Helper()
	first := time.Time{}
	for deadline := time.Now().Add(4 * time.Minute); time.Now().Before(deadline); {
		b.write(t, "/clock", []byte("x"))
		info, err := os.Stat(b.file("/clock"))
		if err != nil {
			t.Fatal(err)
		}
		if first.IsZero() {
			first = info.ModTime()
		}
		if info.ModTime().After(first) {
			return
		}
	}
	t.Fatal("the clock of the file system stands still")
}

// TestChangesBetweenRanges changes a file in ways that leave its length, and its time of modification as anybody can set it.
func TestChangesBetweenRanges(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change  func(t *testing.T, b *bench, was time.Time) error
		changed bool
	}{
		"Nothing": {func(*testing.T, *bench, time.Time) error { return nil }, false},
		"Read": {func(_ *testing.T, b *bench, _ time.Time) error {
			_, err := os.ReadFile(b.file("/f"))
			return err
		}, false},
		"InPlace": {func(t *testing.T, b *bench, was time.Time) error {
			b.write(t, "/f", storagetest.Data(5000, 2))
			return os.Chtimes(b.file("/f"), was, was)
		}, true},
		"Replaced": {func(t *testing.T, b *bench, was time.Time) error {
			b.write(t, "/g", storagetest.Data(5000, 2))
			if err := os.Chtimes(b.file("/g"), was, was); err != nil {
				return err
			}
			return os.Rename(b.file("/g"), b.file("/f"))
		}, true},
		"Touched": {func(_ *testing.T, b *bench, was time.Time) error {
			return os.Chtimes(b.file("/f"), was, was.Add(time.Nanosecond))
		}, true},
		"Grown": {func(_ *testing.T, b *bench, was time.Time) error {
			if err := os.Truncate(b.file("/f"), 5001); err != nil {
				return err
			}
			return os.Chtimes(b.file("/f"), was, was)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, sandbox.Options{})
			data := storagetest.Data(5000, 1)
			b.write(t, "/f", data)
			source, mark := seen(t, b)
			tick(t, b)
			open, err := source.OpenRange(t.Context(), mark, 1000, 1000)
			if err != nil {
				t.Fatal(err)
			}
			defer open.Body.Close()
			if err := c.change(t, b, mark.Modified); err != nil {
				t.Fatal(err)
			}
			late, err := source.OpenRange(t.Context(), mark, 1000, 1000)
			if !c.changed {
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(late.Body)
				if err != nil || !bytes.Equal(got, data[1000:2000]) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				if err := late.Body.Close(); err != nil {
					t.Error(err)
				}
				return
			}
			expectCode(t, err, storage.Corrupt, storage.CodeSourceChanged)
			got, err := io.ReadAll(open.Body)
			if err == nil && !bytes.Equal(got, data[1000:2000]) {
				t.Error("the range that was open gave what is not of its state")
			}
		})
	}
}

// TestMarkWithoutETag reads under a mark of somebody who knows length and time only.
func TestMarkWithoutETag(t *testing.T) {
	t.Parallel()
	b := newBench(t, sandbox.Options{})
	b.write(t, "/f", []byte("0123456789"))
	source, mark := seen(t, b)
	mark.ETag = ""
	object, err := source.OpenRange(t.Context(), mark, 3, 4)
	if err != nil {
		t.Fatal(err)
	}
	defer object.Body.Close()
	if got, err := io.ReadAll(object.Body); err != nil || string(got) != "3456" {
		t.Errorf("read %q, %v", got, err)
	}
	mark.Modified = mark.Modified.Add(1)
	_, err = source.OpenRange(t.Context(), mark, 3, 4)
	expectCode(t, err, storage.Corrupt, storage.CodeSourceChanged)
}

// TestRangeObstacles shows that a range is as confined as the whole.
func TestRangeObstacles(t *testing.T) {
	for _, o := range []obstacle{
		{"FIFO", fifo, storage.Invalid, "source_not_regular"},
		{"Socket", socket, storage.Invalid, "source_not_regular"},
		{"Directory", dir("/x/f"), storage.Invalid, "source_is_directory"},
		{"Missing", dir("/x"), storage.NotFound, notFound},
		{"DotDot", symlink("../../outside/f", "/x/f"), storage.Denied, "path_escapes"},
		{"ParentAbsolute", symlink("ROOT/ORG-a/outside", "/x"), storage.Denied, "path_escapes"},
	} {
		t.Run(o.name, func(t *testing.T) {
			b := newObstacle(t, o)
			source, _ := b.source("/x/f").(storage.Ranger)
			_, err := source.OpenRange(t.Context(), storage.Mark{Size: 6, Modified: time.Unix(1, 0)}, 1, 2)
			expectCode(t, err, o.class, o.code)
			expectNoPath(t, err, b.root)
		})
	}
}

// TestSparseSource reads parts of 10 GiB of which all but two stretches are holes.
func TestSparseSource(t *testing.T) {
	t.Parallel()
	const size = 10 << 30
	b := newBench(t, sandbox.Options{})
	b.write(t, "/f", nil)
	f, err := os.OpenFile(b.file("/f"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	data := storagetest.Data(1000, 1)
	for _, at := range []int64{5 << 30, size - 1000} {
		if _, err := f.WriteAt(data, at); err != nil {
			t.Fatal(err)
		}
	}
	source, mark := seen(t, b)
	hole := make([]byte, 1000)
	for at, want := range map[int64][]byte{0: hole, 3 << 30: hole, 5 << 30: data, 5<<30 - 500: append(hole[:500:500], data[:500]...), size - 1000: data} {
		object, err := source.OpenRange(t.Context(), mark, at, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(object.Body); err != nil || !bytes.Equal(got, want) {
			t.Errorf("at %d: %d bytes, %v, want others", at, len(got), err)
		}
		if err := object.Body.Close(); err != nil {
			t.Error(err)
		}
	}
}

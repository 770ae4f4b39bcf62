package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

// sending is a body that can only be sent from file to file.
type sending struct {
	storage.FileSender

	before func() error // each piece; may be nil
	sent   int64
}

func (s *sending) Read([]byte) (int, error) { return 0, errors.New("it was read") }

func (s *sending) SendFile(to *os.File, most int64) (int64, error) {
	if s.before != nil {
		if err := s.before(); err != nil {
			return 0, err
		}
	}
	n, err := s.FileSender.SendFile(to, min(most, 100_000)) // in several pieces
	s.sent += n
	return n, err
}

func openSending(t *testing.T, b *bench, path string) (*sending, int64) {
	t.Helper()
	object, err := b.source(path).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = object.Body.Close() })
	body, ok := object.Body.(storage.FileSender)
	if !ok {
		t.Fatal("a file cannot be sent to a file")
	}
	return &sending{FileSender: body}, object.Size
}

// TestSend copies from file to file without a byte in the process.
func TestSend(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 99_999, 100_000, 100_001, 1<<20 + 3} {
		for _, opts := range []sandbox.Options{{}, {Sync: true}} {
			b := newBench(t, opts)
			data := storagetest.Data(size, 1)
			b.write(t, "/from", data)
			body, known := openSending(t, b, "/from")
			asked := 0
			stored, err := b.destination("/to").Put(t.Context(), storage.Content{Body: body, Size: known, Ready: func() error { asked++; return nil }})
			if err != nil || stored.Bytes != int64(size) || body.sent != int64(size) || asked != 1 {
				t.Fatalf("%d bytes: %+v, %v; %d sent, asked %d times", size, stored, err, body.sent, asked)
			}
			if got, err := os.ReadFile(b.file("/to")); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes: the copy has %d, %v", size, len(got), err)
			}
		}
	}
}

// TestSendRefused fails in every way and leaves nothing behind.
func TestSendRefused(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cause := storage.Errorf(storage.Throttled, "suite_body", "read", "the suite", "it fails")
	for name, c := range map[string]struct {
		before func(t *testing.T, b *bench, sent int64) error
		size   int64 // announced, compared to what it is
		class  storage.Class
		code   string
	}{
		"Short": {nil, +1, storage.Corrupt, "source_short"},
		"Long":  {nil, -1, storage.Corrupt, "source_long"},
		"Grown": {func(_ *testing.T, b *bench, sent int64) error {
			if sent < 100_000 {
				return nil
			}
			f, err := os.OpenFile(b.file("/from"), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("more")
			return errors.Join(err, f.Close())
		}, 0, storage.Corrupt, storage.CodeSourceChanged},
		"Truncated": {func(_ *testing.T, b *bench, sent int64) error {
			if sent < 100_000 {
				return nil
			}
			return os.Truncate(b.file("/from"), 150_000)
		}, 0, storage.Corrupt, "source_short"},
		"Fails": {func(*testing.T, *bench, int64) error { return cause }, 0, storage.Throttled, "suite_body"},
		"Canceled": {func(_ *testing.T, _ *bench, sent int64) error {
			if sent > 0 {
				cancel()
			}
			return nil
		}, 0, storage.Interrupted, "interrupted"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, sandbox.Options{})
			b.write(t, "/from", storagetest.Data(300_000, 1))
			b.write(t, "/to", []byte("old"))
			body, size := openSending(t, b, "/from")
			if c.before != nil {
				body.before = func() error { return c.before(t, b, body.sent) }
			}
			use := t.Context()
			if name == "Canceled" {
				use = ctx
			}
			_, err := b.destination("/to").Put(use, storage.Content{Body: body, Size: size + c.size})
			expectCode(t, err, c.class, c.code)
			if got, err := os.ReadFile(b.file("/to")); err != nil || string(got) != "old" {
				t.Errorf("the destination has %d bytes, %v", len(got), err)
			}
			if left := b.hidden(t); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// TestSendRange sends a part of a file, and what follows its end.
func TestSendRange(t *testing.T) {
	t.Parallel()
	b := newBench(t, sandbox.Options{})
	data := storagetest.Data(1000, 1)
	b.write(t, "/f", data)
	source, mark := seen(t, b)
	object, err := source.OpenRange(t.Context(), mark, 100, 500)
	if err != nil {
		t.Fatal(err)
	}
	defer object.Body.Close()
	sender, ok := object.Body.(storage.FileSender)
	if !ok {
		t.Fatal("a part of a file cannot be sent to a file")
	}
	to, err := os.Create(filepath.Join(t.TempDir(), "to"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = to.Close() }()
	for _, want := range []struct {
		n   int64
		err error
	}{{300, nil}, {200, nil}, {0, io.EOF}, {0, io.EOF}} {
		if n, err := sender.SendFile(to, 300); n != want.n || !errors.Is(err, want.err) {
			t.Errorf("sent %d, %v, want %d, %v", n, err, want.n, want.err)
		}
	}
	if got, err := os.ReadFile(to.Name()); err != nil || !bytes.Equal(got, data[100:600]) {
		t.Errorf("the file has %d bytes, %v", len(got), err)
	}
}

// TestSendToFullDisk shows that it is the destination's failure, not the source's.
func TestSendToFullDisk(t *testing.T) {
	root := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := mountSmall(t, root, 256<<10); err != nil {
		t.Logf("no file system can be mounted here (%v): TestFullDisk shows that its error is understood", err)
		return
	}
	from, to := newBench(t, sandbox.Options{}), newBenchAt(t, root, sandbox.Options{})
	from.write(t, "/from", storagetest.Data(1<<20, 1))
	body, size := openSending(t, from, "/from")
	_, err := to.destination("/to").Put(t.Context(), storage.Content{Body: body, Size: size})
	expectCode(t, err, storage.NoSpace, "no_space")
	if left := to.hidden(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

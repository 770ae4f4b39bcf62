package spool_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/spool"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContent(t *testing.T) {
	const buffer = storagetest.BufferSize
	for _, size := range []int{0, 1, 4096, buffer - 1, buffer, buffer + 1, 1<<20 + 3} {
		data := storagetest.Data(size, 1)
		for name, body := range map[string]io.Reader{
			"Whole":       bytes.NewReader(data),
			"Halves":      iotest.HalfReader(bytes.NewReader(data)),
			"DataWithEOF": iotest.DataErrReader(bytes.NewReader(data)),
		} {
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				f, err := spool.Content(t.Context(), body, dir, int64(size)) // exactly the limit is within it
				if err != nil {
					t.Fatal(err)
				}
				expectEmpty(t, dir)
				if f.Size() != int64(size) {
					t.Errorf("Size is %d, want %d", f.Size(), size)
				}
				for range 2 {
					if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, data) {
						t.Errorf("read %d bytes, %v, want the %d spooled", len(got), err, size)
					}
					if err := f.Rewind(); err != nil {
						t.Error(err)
					}
				}
				if err := f.Close(); err != nil {
					t.Error(err)
				}
				_, err = f.Read(make([]byte, 1))
				expectCode(t, err, storage.Internal, "closed")
				expectCode(t, f.Rewind(), storage.Internal, "closed")
				expectCode(t, f.Close(), storage.Internal, "closed")
			})
		}
	}
}

// endless is a body without an end that counts what was taken of it.
type endless struct{ read int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.read += int64(len(p))
	return len(p), nil
}

func TestLimit(t *testing.T) {
	for _, limit := range []int64{math.MinInt64, -1, 0, 1, 1000, storagetest.BufferSize, 1 << 20} {
		dir := t.TempDir()
		body := &endless{}
		_, err := spool.Content(t.Context(), body, dir, limit)
		expectCode(t, err, storage.TooLarge, "spool_limit")
		if most := max(0, limit) + storagetest.BufferSize; body.read > most {
			t.Errorf("%d bytes were read under a limit of %d", body.read, limit)
		}
		expectEmpty(t, dir)
	}
}

func TestBodyFails(t *testing.T) {
	classified := storage.Errorf(storage.Throttled, "http_429", "read", "x", "slow down")
	broken := storage.Errorf(storage.Unavailable, "reset", "read", "x", "the connection broke")
	broken.Err = io.EOF
	plain := errors.New("plain")
	for _, c := range []struct {
		cause error
		class storage.Class
		code  string
	}{
		{classified, storage.Throttled, "http_429"},
		{broken, storage.Unavailable, "reset"},
		{plain, storage.Interrupted, "interrupted"},
	} {
		dir := t.TempDir()
		_, err := spool.Content(t.Context(), io.MultiReader(strings.NewReader("some"), iotest.ErrReader(c.cause)), dir, 100)
		expectCode(t, err, c.class, c.code)
		if !errors.Is(err, c.cause) {
			t.Errorf("error %v does not wrap %v", err, c.cause)
		}
		expectEmpty(t, dir)
	}
}

// idle is a body that gives nothing, for ever.
type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

func TestIdleBodyEnds(t *testing.T) {
	_, err := spool.Content(t.Context(), idle{}, t.TempDir(), 100)
	if !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("error %v, want %v", err, io.ErrNoProgress)
	}
}

// canceling is a body without an end that cancels the context.
type canceling struct{ cancel context.CancelCauseFunc }

var errWhy = errors.New("the user canceled")

func (c canceling) Read(p []byte) (int, error) {
	c.cancel(errWhy)
	return len(p), nil
}

func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	dir := t.TempDir()
	_, err := spool.Content(ctx, canceling{cancel}, dir, math.MaxInt64)
	expectCode(t, err, storage.Interrupted, "interrupted")
	if !errors.Is(err, errWhy) {
		t.Errorf("error %v does not tell why", err)
	}
	expectEmpty(t, dir)
}

func TestMissingDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	_, err := spool.Content(t.Context(), strings.NewReader("x"), dir, 100)
	expectCode(t, err, storage.Unavailable, "spool_failed")
	if !errors.Is(err, unix.ENOENT) || strings.Contains(err.Error(), dir) {
		t.Errorf("error %q, want the cause without the place", err)
	}
}

func expectEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("the spool directory has %v, %v, want nothing", entries, err)
	}
}

func expectCode(t *testing.T, err error, class storage.Class, code string) {
	t.Helper()
	e, ok := errors.AsType[*storage.Error](err)
	if !ok || e.Class != class || e.Code != code {
		t.Errorf("error %v, want class %d, code %s", err, class, code)
	}
}

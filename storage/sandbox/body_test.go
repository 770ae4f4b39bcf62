package sandbox_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
)

// readFunc is a body made of one function.
type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// TestBodies covers bodies that are legal or nearly so, and that the suite does not know.
func TestBodies(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	for _, c := range []struct {
		name string
		ctx  context.Context
		body readFunc
		is   error
	}{
		{"Idle", t.Context(), func([]byte) (int, error) { return 0, nil }, io.ErrNoProgress},
		{"CanceledAtTheEnd", canceled, func([]byte) (int, error) { cancel(); return 0, io.EOF }, context.Canceled},
		{"BytesWithError", t.Context(), func([]byte) (int, error) { return 1, io.ErrUnexpectedEOF }, io.ErrUnexpectedEOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, sandbox.Options{})
			_, err := b.destination("/f").Put(c.ctx, storage.Content{Body: c.body, Size: storage.UnknownSize})
			expectCode(t, err, storage.Interrupted, "interrupted")
			if !errors.Is(err, c.is) {
				t.Errorf("error %v, want %v", err, c.is)
			}
			if entries := snapshot(t, b.dir); entries != " d---------\n" {
				t.Errorf("the sandbox has\n%s", entries)
			}
		})
	}
}

// TestBodyPanics shows that a panic of the caller's leaves no hidden file.
func TestBodyPanics(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	func() {
		defer func() { _ = recover() }()
		body := readFunc(func([]byte) (int, error) { panic("the body") })
		_, _ = b.destination("/f").Put(t.Context(), storage.Content{Body: body, Size: storage.UnknownSize})
	}()
	if left := b.hidden(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

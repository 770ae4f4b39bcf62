package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
)

func runSource(t *testing.T, h Harness) {
	for _, size := range sizes {
		t.Run(fmt.Sprintf("Size%d", size), func(t *testing.T) { sourceWhole(t, h, size) })
	}
	t.Run("SmallReads", func(t *testing.T) { sourceSmallReads(t, h) })
	t.Run("OpenedAgain", func(t *testing.T) { sourceOpenedAgain(t, h) })
	t.Run("ClosedMidway", func(t *testing.T) { sourceClosedMidway(t, h) })
	t.Run("CanceledBefore", func(t *testing.T) { sourceCanceledBefore(t, h) })
	t.Run("CanceledMidway", func(t *testing.T) { sourceCanceledMidway(t, h) })
	if h.Missing != nil {
		t.Run("Missing", func(t *testing.T) { sourceMissing(t, h) })
	}
}

func sourceWhole(t *testing.T, h Harness, size int) {
	data := Data(size, 1)
	object := open(t, h, h.NewSource(t, data), size)
	got, err := io.ReadAll(object.Body)
	if err != nil {
		t.Fatalf("reading: %v", err)
	}
	if !bytes.Equal(got, data) {
		t.Fatalf("read %d bytes that differ from the %d seeded", len(got), len(data))
	}
	if n, err := object.Body.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("Read after the end = %d, %v, want 0, EOF", n, err)
	}
}

// sourceSmallReads reads with buffers that never fit the content, so that a driver that looks ahead is caught when
// it hands out what it looked at.
func sourceSmallReads(t *testing.T, h Harness) {
	data := Data(1000, 1)
	for _, step := range []int{1, 3, 250, 999, 1000, 1001} {
		object := open(t, h, h.NewSource(t, data), len(data))
		var got []byte
		buffer := make([]byte, step)
		for {
			n, err := object.Body.Read(buffer)
			got = append(got, buffer[:n]...)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("reading %d bytes at a time: %v", step, err)
			}
		}
		if !bytes.Equal(got, data) {
			t.Errorf("reading %d bytes at a time gave %d bytes that differ from the %d seeded", step, len(got), len(data))
		}
	}
}

func sourceOpenedAgain(t *testing.T, h Harness) {
	data := Data(BufferSize+1, 1)
	source := h.NewSource(t, data)
	for attempt := range 3 {
		object := open(t, h, source, len(data))
		limit := int64(len(data))
		if attempt == 0 {
			limit = 100 // an attempt that broke off leaves no trace in the next one
		}
		got, err := io.ReadAll(io.LimitReader(object.Body, limit))
		if err != nil {
			t.Fatalf("attempt %d: %v", attempt, err)
		}
		if !bytes.Equal(got, data[:limit]) {
			t.Errorf("attempt %d read %d bytes that differ from those seeded", attempt, len(got))
		}
	}
}

func sourceClosedMidway(t *testing.T, h Harness) {
	object := open(t, h, h.NewSource(t, Data(1<<20, 1)), 1<<20)
	if _, err := io.ReadFull(object.Body, make([]byte, 10)); err != nil {
		t.Fatalf("reading: %v", err)
	}
	if err := object.Body.Close(); err != nil {
		t.Errorf("Close midway: %v", err)
	}
	_, err := io.Copy(io.Discard, object.Body)
	requireClassified(t, err)
}

func sourceCanceledBefore(t *testing.T, h Harness) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	object, err := h.NewSource(t, Data(10, 1)).Open(ctx)
	if err == nil {
		defer object.Body.Close()
		_, err = io.Copy(io.Discard, object.Body)
	}
	requireClassified(t, err)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v does not tell that the context was canceled", err)
	}
}

func sourceCanceledMidway(t *testing.T, h Harness) {
	// More than any socket buffer holds, so that no driver can have it all already.
	const size = 32 << 20
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	object, err := h.NewSource(t, Data(size, 1)).Open(ctx)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	defer object.Body.Close()
	if _, err := io.ReadFull(object.Body, make([]byte, 1000)); err != nil {
		t.Fatalf("reading: %v", err)
	}
	cancel()
	_, err = io.Copy(io.Discard, object.Body)
	requireClassified(t, err)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v does not tell that the context was canceled", err)
	}
}

func sourceMissing(t *testing.T, h Harness) {
	object, err := h.Missing(t).Open(t.Context())
	if err == nil {
		_ = object.Body.Close()
	}
	if e := requireClassified(t, err); e.Class != storage.NotFound {
		t.Errorf("class %d (code %s) for what does not exist, want NotFound", e.Class, e.Code)
	}
}

// open opens a source, checks what it tells about itself, and closes it at the end of the test.
func open(t *testing.T, h Harness, source storage.Source, size int) *storage.Object {
	t.Helper()
	object, err := source.Open(t.Context())
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { _ = object.Body.Close() })
	if object.Size != int64(size) && (!h.UnknownSize || object.Size != storage.UnknownSize) {
		t.Errorf("Object.Size is %d, want %d", object.Size, size)
	}
	return object
}

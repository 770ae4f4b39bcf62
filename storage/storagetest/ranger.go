package storagetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
)

func runRanger(t *testing.T, h Harness) {
	t.Run("Ranges", func(t *testing.T) { rangeEverywhere(t, h) })
	t.Run("Outside", func(t *testing.T) { rangeOutside(t, h) })
	t.Run("SmallReads", func(t *testing.T) { rangeSmallReads(t, h) })
	t.Run("AtOnce", func(t *testing.T) { rangesAtOnce(t, h) })
	t.Run("ClosedMidway", func(t *testing.T) { rangeClosedMidway(t, h) })
	t.Run("Changed", func(t *testing.T) { rangeChanged(t, h) })
	t.Run("ChangedMidway", func(t *testing.T) { rangeChangedMidway(t, h) })
	t.Run("Canceled", func(t *testing.T) { rangeCanceled(t, h) })
}

// ranger makes a source and returns the mark under which its parts belong together.
func ranger(t *testing.T, h Harness, data []byte) (source storage.Ranger, mark storage.Mark, change func([]byte)) {
	t.Helper()
	source, change = h.NewRanger(t, data)
	object, err := source.Open(t.Context())
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	if err := object.Body.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if mark = object.Mark(); !mark.Strong() || mark.Size != int64(len(data)) {
		t.Fatalf("the mark of %d bytes is %+v, want a strong one of that size", len(data), mark)
	}
	return source, mark, change
}

// openRange opens a range and closes it at the end of the test.
func openRange(t *testing.T, source storage.Ranger, mark storage.Mark, offset, length int64) io.Reader {
	t.Helper()
	object, err := source.OpenRange(t.Context(), mark, offset, length)
	if err != nil {
		t.Fatalf("OpenRange of %d at %d: %v", length, offset, err)
	}
	t.Cleanup(func() { _ = object.Body.Close() })
	want := mark.Size - offset
	if length != storage.UnknownSize {
		want = min(want, length)
	}
	if object.Size != want {
		t.Errorf("Object.Size of %d bytes at %d of %d is %d, want %d", length, offset, mark.Size, object.Size, want)
	}
	return object.Body
}

// rangeEverywhere reads every kind of range: none, one byte, over the edges of a buffer, to the end and beyond.
func rangeEverywhere(t *testing.T, h Harness) {
	for _, size := range []int64{0, 1, 5, 2*BufferSize + 5} {
		data := Data(int(size), 1)
		source, mark, _ := ranger(t, h, data)
		for _, offset := range []int64{0, 1, 4, BufferSize - 1, BufferSize, size - 1, size} {
			for _, length := range []int64{storage.UnknownSize, 0, 1, 3, BufferSize, BufferSize + 1, size, size + 10} {
				if offset < 0 || offset > size {
					continue
				}
				want := data[offset:]
				if length != storage.UnknownSize {
					want = want[:min(length, int64(len(want)))]
				}
				body := openRange(t, source, mark, offset, length)
				got, err := io.ReadAll(body)
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%d bytes at %d of %d: read %d, %v, want the %d that are there", length, offset, size, len(got), err, len(want))
				}
				if n, err := body.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
					t.Errorf("Read after the end = %d, %v, want 0, EOF", n, err)
				}
			}
		}
	}
}

func rangeOutside(t *testing.T, h Harness) {
	source, mark, _ := ranger(t, h, Data(100, 1))
	for _, offset := range []int64{-1, 101, 1 << 40} {
		object, err := source.OpenRange(t.Context(), mark, offset, 1)
		if err == nil {
			_ = object.Body.Close()
		}
		if e := requireClassified(t, err); e.Class != storage.Invalid {
			t.Errorf("class %d (code %s) for an offset of %d into 100 bytes, want Invalid", e.Class, e.Code, offset)
		}
	}
}

// rangeSmallReads reads with buffers that never fit, so that a driver that looks ahead is caught when it hands that out.
func rangeSmallReads(t *testing.T, h Harness) {
	data := Data(1000, 1)
	source, mark, _ := ranger(t, h, data)
	for _, step := range []int{1, 7, 499, 500, 501} {
		got, err := io.ReadAll(&stepReader{openRange(t, source, mark, 300, 500), step})
		if err != nil || !bytes.Equal(got, data[300:800]) {
			t.Errorf("reading %d bytes at a time gave %d bytes, %v, want the 500 at 300", step, len(got), err)
		}
	}
}

// stepReader asks for a few bytes at a time.
type stepReader struct {
	r    io.Reader
	step int
}

func (s *stepReader) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), s.step)]) }

// rangesAtOnce puts a source together from ranges that are read at the same time.
func rangesAtOnce(t *testing.T, h Harness) {
	const parts = 8
	data := Data(parts*100_000+17, 1)
	source, mark, _ := ranger(t, h, data)
	got := make([][]byte, parts+1)
	errs := make([]error, parts+1)
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() {
			object, err := source.OpenRange(t.Context(), mark, int64(i)*100_000, 100_000)
			if err != nil {
				errs[i] = err
				return
			}
			defer object.Body.Close()
			got[i], errs[i] = io.ReadAll(object.Body)
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil || !bytes.Equal(bytes.Join(got, nil), data) {
		t.Errorf("the ranges, joined, are not the %d bytes of the source: %v", len(data), err)
	}
}

func rangeClosedMidway(t *testing.T, h Harness) {
	source, mark, _ := ranger(t, h, Data(1<<20, 1))
	object, err := source.OpenRange(t.Context(), mark, 1000, 1<<19)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(object.Body, make([]byte, 10)); err != nil {
		t.Fatalf("reading: %v", err)
	}
	if err := object.Body.Close(); err != nil {
		t.Errorf("Close midway: %v", err)
	}
	_, err = io.Copy(io.Discard, object.Body)
	requireClassified(t, err)
}

// rangeChanged asks for parts of what is not there any more, be it shorter, longer or of the same length.
func rangeChanged(t *testing.T, h Harness) {
	for _, size := range []int{0, 1999, 2000, 2001} {
		source, mark, change := ranger(t, h, Data(2000, 1))
		change(Data(size, 2))
		for _, offset := range []int64{0, 1000, 2000} {
			object, err := source.OpenRange(t.Context(), mark, offset, storage.UnknownSize)
			if err == nil {
				_ = object.Body.Close()
			}
			if e := requireClassified(t, err); e.Code != storage.CodeSourceChanged || e.Class != storage.Corrupt {
				t.Errorf("class %d, code %s after 2000 bytes became %d, want %s", e.Class, e.Code, size, storage.CodeSourceChanged)
			}
		}
	}
}

// rangeChangedMidway lets the source change while a range of it is read: a range is of one state, or ends with an error.
func rangeChangedMidway(t *testing.T, h Harness) {
	const size = 32 << 20 // more than any socket buffer holds
	data := Data(size, 1)
	source, mark, change := ranger(t, h, data)
	body := openRange(t, source, mark, 1000, size-5000)
	first := make([]byte, 1000)
	if _, err := io.ReadFull(body, first); err != nil {
		t.Fatalf("reading: %v", err)
	}
	change(Data(size, 2))
	rest, err := io.ReadAll(body)
	if err != nil {
		requireClassified(t, err)
		return
	}
	if got := slices.Concat(first, rest); !bytes.Equal(got, data[1000:size-4000]) {
		t.Error("a range of a source that changed meanwhile ended well and is of neither state")
	}
}

func rangeCanceled(t *testing.T, h Harness) {
	const size = 32 << 20
	source, mark, _ := ranger(t, h, Data(size, 1))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	object, err := source.OpenRange(ctx, mark, 10, size-20)
	if err != nil {
		t.Fatal(err)
	}
	defer object.Body.Close()
	if _, err := io.ReadFull(object.Body, make([]byte, 1000)); err != nil {
		t.Fatalf("reading: %v", err)
	}
	cancel()
	_, err = io.Copy(io.Discard, object.Body)
	requireClassified(t, err)
	expectCause(t, err, context.Canceled)
	object, err = source.OpenRange(ctx, mark, 10, 10)
	if err == nil {
		_, err = io.Copy(io.Discard, object.Body)
		_ = object.Body.Close()
	}
	expectCause(t, err, context.Canceled)
}

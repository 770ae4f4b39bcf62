package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
)

func runDestination(t *testing.T, h Harness) {
	for _, size := range sizes {
		t.Run(fmt.Sprintf("Size%d", size), func(t *testing.T) { putWhole(t, h, size) })
	}
	t.Run("Overwrite", func(t *testing.T) { putOverwrite(t, h) })
	t.Run("HiddenUntilReady", func(t *testing.T) { putHiddenUntilReady(t, h) })
	t.Run("NilReady", func(t *testing.T) { putNilReady(t, h) })
	t.Run("Concurrent", func(t *testing.T) { putConcurrently(t, h) })
	if h.NamedTarget != nil {
		t.Run("Names", func(t *testing.T) { putNames(t, h) })
	}
	runRefusals(t, h)
}

// put writes and returns what Put and Ready saw.
func put(ctx context.Context, d storage.Destination, b *body, size int64, r *ready) (storage.Stored, error) {
	r.body = b
	return d.Put(ctx, storage.Content{Body: b, Size: size, ContentType: "application/octet-stream", Ready: r.call})
}

// announced lists the values of Content.Size under which n bytes may be put.
func announced(f Features, n int) []int64 {
	if f.NeedsSize {
		return []int64{int64(n)}
	}
	return []int64{int64(n), storage.UnknownSize}
}

func putWhole(t *testing.T, h Harness, size int) {
	data := Data(size, 1)
	for _, known := range announced(h.Features, size) {
		for _, step := range []int{0, 1000, 4096} {
			target := h.NewTarget(t)
			destination := target.Destination()
			if destination.NeedsSize() != h.NeedsSize {
				t.Fatalf("NeedsSize() is %t, the harness declares %t", destination.NeedsSize(), h.NeedsSize)
			}
			var r ready
			stored, err := put(t.Context(), destination, &body{data: data, step: step}, known, &r)
			if err != nil {
				t.Fatalf("Put with size %d: %v", known, err)
			}
			if stored.Bytes != int64(size) {
				t.Errorf("Stored.Bytes is %d, want %d", stored.Bytes, size)
			}
			r.verify(t, h.Features)
			target.expect(t, data)
		}
	}
}

// putOverwrite replaces longer by shorter content and the reverse: a driver that writes in place leaves a tail.
func putOverwrite(t *testing.T, h Harness) {
	target := h.NewTarget(t)
	for i, size := range []int{5000, 10, 0, BufferSize + 7} {
		data := Data(size, byte(i))
		var r ready
		if _, err := put(t.Context(), target.Destination(), &body{data: data}, int64(size), &r); err != nil {
			t.Fatalf("Put of %d bytes: %v", size, err)
		}
		r.verify(t, h.Features)
		target.expect(t, data)
	}
}

// putHiddenUntilReady looks at the place from inside Put, over nothing and over old content.
func putHiddenUntilReady(t *testing.T, h Harness) {
	for _, old := range [][]byte{nil, Data(3000, 1)} {
		target := h.NewTarget(t)
		target.seed(t, old)
		data := Data(BufferSize+9, 2)
		look := func() { target.expectUnchanged(t, old) }
		r := ready{during: look}
		b := &body{data: data, step: BufferSize / 2, after: func(int) { look() }}
		if _, err := put(t.Context(), target.Destination(), b, int64(len(data)), &r); err != nil {
			t.Fatalf("Put: %v", err)
		}
		target.expect(t, data)
	}
}

func putNilReady(t *testing.T, h Harness) {
	target, data := h.NewTarget(t), Data(100, 1)
	if _, err := target.Destination().Put(t.Context(), storage.Content{Body: bytes.NewReader(data), Size: 100}); err != nil {
		t.Fatalf("Put with a nil Ready: %v", err)
	}
	target.expect(t, data)
}

// putConcurrently lets writers of one place meet: each is in the middle of its content when all others are.
func putConcurrently(t *testing.T, h Harness) {
	const writers = 8
	target := h.NewTarget(t)
	var versions [writers][]byte
	var errs [writers]error
	var midway, done sync.WaitGroup
	midway.Add(writers)
	for i := range writers {
		versions[i] = Data(BufferSize+i, byte(i))
		var once sync.Once
		arrive := func() { once.Do(midway.Done) }
		b := &body{data: versions[i], step: 50_000, after: func(int) { arrive(); midway.Wait() }}
		done.Go(func() {
			defer arrive() // a writer that fails early must not keep the others waiting
			_, errs[i] = put(t.Context(), target.Destination(), b, int64(len(b.data)), &ready{})
		})
	}
	done.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("writer %d: %v", i, err)
		}
	}
	got, ok := target.Read(t)
	if !ok || !slices.ContainsFunc(versions[:], func(v []byte) bool { return bytes.Equal(v, got) }) {
		t.Errorf("%d bytes (there: %t) are visible after concurrent writes, want one of the versions whole", len(got), ok)
	}
	target.expectClean(t)
}

// seed makes old the content of the place; nil leaves it empty.
func (g Target) seed(t *testing.T, old []byte) {
	t.Helper()
	if old == nil {
		return
	}
	content := storage.Content{Body: bytes.NewReader(old), Size: int64(len(old))}
	if _, err := g.Destination().Put(t.Context(), content); err != nil {
		t.Fatalf("Put of the old content: %v", err)
	}
}

func (g Target) expect(t *testing.T, want []byte) {
	t.Helper()
	got, ok := g.Read(t)
	if !ok {
		t.Fatal("nothing is visible after a successful Put")
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes are visible and differ from the %d put", len(got), len(want))
	}
	g.expectClean(t)
}

// expectUnchanged reports a place that shows anything but old; nil is nothing.
func (g Target) expectUnchanged(t *testing.T, old []byte) {
	t.Helper()
	got, ok := g.Read(t)
	if ok != (old != nil) || !bytes.Equal(got, old) {
		t.Errorf("the place shows %d bytes (there: %t), want the %d bytes (there: %t) of before", len(got), ok, len(old), old != nil)
	}
}

func (g Target) expectClean(t *testing.T) {
	t.Helper()
	if g.Leftovers == nil {
		return
	}
	if left := g.Leftovers(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// expectRefused reports an unsuccessful Put that changed anything.
func (g Target) expectRefused(t *testing.T, err error, old []byte) *storage.Error {
	t.Helper()
	e := requireClassified(t, err)
	g.expectUnchanged(t, old)
	g.expectClean(t)
	return e
}

// expectCause reports an error that hides what the other side said.
func expectCause(t *testing.T, err, cause error) {
	t.Helper()
	if !errors.Is(err, cause) {
		t.Errorf("error %v does not wrap %v", err, cause)
	}
}

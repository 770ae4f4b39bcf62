package object_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/object"
	"github.com/copyfleet/copyfleet/storage/sandbox"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

// sandboxes keeps sandboxes below "boxes" in a bucket of its own.
func (e endpoint) sandboxes(t *testing.T) (s *object.Store, boxes *object.Sandboxes, bucket string) {
	t.Helper()
	s, bucket = e.store(t, nil), e.newBucket(t)
	boxes, err := s.Sandboxes(bucket, "boxes")
	if err != nil {
		t.Fatal(err)
	}
	return s, boxes, bucket
}

func TestSandboxesConformance(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		_, boxes, bucket := e.sandboxes(t)
		var next atomic.Int64
		newPath := func() string { return "/in/" + strconv.FormatInt(next.Add(1), 10) }
		target := func(path string) storagetest.Target {
			return storagetest.Target{
				Destination: func() storage.Destination {
					return boxes.Destination("ORG-a", "SBX-1", path, "temp", []string{"stale"})
				},
				Read:      func(t *testing.T) ([]byte, bool) { return e.peek(t, bucket, "boxes/ORG-a/SBX-1"+path) },
				Leftovers: func(t *testing.T) []string { return e.uploads(t, bucket) },
			}
		}
		storagetest.Run(t, storagetest.Harness{
			Features: storagetest.Features{Source: true, Ranges: true, Destination: true, OnlyNew: true},
			NewSource: func(t *testing.T, data []byte) storage.Source {
				path := newPath()
				e.seed(t, bucket, "boxes/ORG-a/SBX-1"+path, data)
				return boxes.Source("ORG-a", "SBX-1", path)
			},
			NewRanger: func(t *testing.T, data []byte) (storage.Ranger, func([]byte)) {
				path := newPath()
				e.seed(t, bucket, "boxes/ORG-a/SBX-1"+path, data)
				ranger, ok := boxes.Source("ORG-a", "SBX-1", path).(storage.Ranger)
				if !ok {
					t.Fatal("files cannot be read in ranges")
				}
				return ranger, func(data []byte) { e.seed(t, bucket, "boxes/ORG-a/SBX-1"+path, data) }
			},
			Missing:   func(*testing.T) storage.Source { return boxes.Source("ORG-a", "SBX-1", "/missing") },
			NewTarget: func(*testing.T) storagetest.Target { return target(newPath()) },
		})
	})
}

// TestSandboxRules asks for paths that are none. What is refused, and in which words, is what directories refuse.
func TestSandboxRules(t *testing.T) {
	t.Parallel()
	e := endpoint{embedded.URL(), embeddedAccessKey, embeddedSecretKey}
	_, boxes, _ := e.sandboxes(t)
	dirs, err := sandbox.Open(t.TempDir(), sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dirs.Close()
	for _, c := range []struct{ org, box, path string }{
		{"ORG-a", "SBX-1", ""}, {"ORG-a", "SBX-1", "/"}, {"ORG-a", "SBX-1", "relative"}, {"ORG-a", "SBX-1", "/a/../b"}, {"ORG-a", "SBX-1", "/a//b"},
		{"ORG-a", "SBX-1", "/../../ORG-b/SBX-1/x"}, {"ORG-a", "SBX-1", "/a/"}, {"ORG-a", "SBX-1", "/a/./b"}, {"ORG-a", "SBX-1", "/nul\x00"},
		{"ORG-a", "SBX-1", "/.copyfleet-x"}, {"ORG-a", "SBX-1", "/d/.COPYFLEET-x/f"}, {"ORG-a", "SBX-1", "/" + strings.Repeat("x/", 2050) + "y"},
		{"..", "SBX-1", "/x"}, {"ORG-a", "..", "/x"}, {"ORG-a/SBX-1", "x", "/x"}, {"", "SBX-1", "/x"}, {"ORG-a", "", "/x"}, {"ORG-a", "a/b", "/x"},
		{"ORG-a", "SBX-1", "/missing"}, {"ORG-a", "SBX-1", "/deeply/missing"}, {"ORG-a", "SBX-none", "/missing"},
	} {
		_, want := dirs.Source(c.org, c.box, c.path).Open(t.Context())
		_, got := boxes.Source(c.org, c.box, c.path).Open(t.Context())
		expectAlike(t, got, want)
		if c.path == "/missing" || c.path == "/deeply/missing" {
			continue
		}
		_, want = dirs.Destination(c.org, c.box, c.path, "temp", nil).Put(t.Context(), content("x"))
		_, got = boxes.Destination(c.org, c.box, c.path, "temp", nil).Put(t.Context(), content("x"))
		expectAlike(t, got, want)
	}
}

// expectAlike compares two errors as a caller sees them.
func expectAlike(t *testing.T, got, want error) {
	t.Helper()
	g, isError := errors.AsType[*storage.Error](got)
	w, _ := errors.AsType[*storage.Error](want)
	if !isError || w == nil || g.Class != w.Class || g.Code != w.Code || g.Message != w.Message || g.Subject != w.Subject || g.Status != w.Status {
		t.Errorf("got %+v, want %+v", g, w)
	}
	if got != nil && strings.Contains(got.Error(), "s3://") {
		t.Errorf("the error tells where the sandboxes are: %v", got)
	}
	expectNoSecret(t, got)
}

// TestSandboxesAreReserved goes for the files of a sandbox by every other way.
func TestSandboxesAreReserved(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, boxes, bucket := e.sandboxes(t)
		if _, err := boxes.Destination("ORG-a", "SBX-1", "/x", "", nil).Put(t.Context(), content("secret")); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"boxes/ORG-a/SBX-1/x", "/boxes/ORG-a/SBX-1/x", "//boxes/ORG-a/SBX-1/x", "/y/../boxes/ORG-a/SBX-1/x", "/./boxes/ORG-a/SBX-1/x", "boxes//ORG-a/SBX-1/x"} {
			if err := open(t, s, bucket, key); err == nil {
				t.Errorf("%q reads the file of a sandbox", key)
			}
			if _, err := s.Destination(bucket, key).Put(t.Context(), content("spoiled")); err == nil {
				t.Errorf("%q writes the file of a sandbox", key)
			}
			for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost} {
				if _, err := s.Presign(t.Context(), object.Request{Method: method, Bucket: bucket, Key: key, Expires: time.Minute}); err == nil {
					t.Errorf("%s of %q is presigned", method, key)
				}
			}
		}
		if got, _ := e.peek(t, bucket, "boxes/ORG-a/SBX-1/x"); string(got) != "secret" {
			t.Errorf("the file of the sandbox is %q", got)
		}
		for _, key := range []string{"boxes", "boxesx/y", "box/es"} {
			if err := write(t, s, bucket, key); err != nil && e.url != embedded.URL() {
				t.Errorf("%q is beside the sandboxes and refused: %v", key, err)
			}
		}
	})
}

// TestSandboxesCopy copies between a sandbox and a bucket, and between sandboxes, without reading.
func TestSandboxesCopy(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, boxes, bucket := e.sandboxes(t)
		e.seed(t, bucket, "in", []byte("content"))
		chain := []struct {
			source      storage.Source
			destination storage.Destination
		}{
			{s.Source(bucket, "in"), boxes.Destination("ORG-a", "SBX-1", "/x", "", nil)},
			{boxes.Source("ORG-a", "SBX-1", "/x"), boxes.Destination("ORG-a", "SBX-2", "/y/z", "", nil)},
			{boxes.Source("ORG-a", "SBX-2", "/y/z"), s.Destination(bucket, "out")},
		}
		for i, c := range chain {
			known, err := c.source.(storage.Digested).Digests(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			stored, took, err := c.destination.(storage.DirectCopier).CopyFrom(t.Context(), c.source, storage.DirectCopy{Mark: known.Mark})
			if err != nil || !took || !stored.Compared {
				t.Errorf("copy %d: took %t, %+v, %v", i, took, stored, err)
			}
		}
		if got, _ := e.peek(t, bucket, "out"); string(got) != "content" {
			t.Errorf("%q arrived", got)
		}
	})
}

// TestSandboxesInParts writes a file in parts, and reads it from the middle.
func TestSandboxesInParts(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		_, boxes, _ := e.sandboxes(t)
		data := storagetest.Data(5<<20+9, 1)
		destination := boxes.Destination("ORG-a", "SBX-1", "/x", "", nil).(storage.PartDestination)
		ask := storage.PartContent{Size: int64(len(data)), PartSize: 5 << 20}
		upload, err := destination.Begin(t.Context(), ask)
		if err != nil {
			t.Fatal(err)
		}
		var parts []storage.PartStored
		for number := 1; number <= ask.Count(); number++ {
			offset, size := ask.Span(number)
			part, err := destination.PutPart(t.Context(), upload, storage.Part{Number: number, Offset: offset, Size: size, Body: bytes.NewReader(data[offset : offset+size])})
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, part)
		}
		if stored, err := destination.Complete(t.Context(), upload, ask, parts, nil); err != nil || !stored.Compared {
			t.Fatalf("%+v, %v", stored, err)
		}
		source := boxes.Source("ORG-a", "SBX-1", "/x").(storage.Ranger)
		o, err := source.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		o.Body.Close()
		tail, err := source.OpenRange(t.Context(), o.Mark(), 5<<20, storage.UnknownSize)
		if err != nil {
			t.Fatal(err)
		}
		defer tail.Body.Close()
		if got, err := io.ReadAll(tail.Body); err != nil || !bytes.Equal(got, data[5<<20:]) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

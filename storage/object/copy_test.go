package object_test

import (
	"bytes"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/object"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

// copyOf asks the store for a copy of one key to another.
func copyOf(t *testing.T, s *object.Store, bucket, from, to string, change func(*storage.DirectCopy)) (storage.Stored, error) {
	t.Helper()
	source := s.Source(bucket, from)
	known, err := source.(storage.Digested).Digests(t.Context())
	if err != nil {
		t.Fatalf("digests of %s: %v", from, err)
	}
	ask := storage.DirectCopy{Mark: known.Mark}
	if change != nil {
		change(&ask)
	}
	stored, took, err := s.Destination(bucket, to).(storage.DirectCopier).CopyFrom(t.Context(), source, ask)
	if !took {
		t.Fatalf("the store does not copy within itself: %v", err)
	}
	return stored, err
}

func onlyNew(c *storage.DirectCopy) { c.OnlyNew = true }

// TestCopyByStore copies what has a type and metadata, of every size and in every way, and compares all of it.
func TestCopyByStore(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, bucket := e.store(t, nil), e.newBucket(t)
		object.LimitCopies(s, 6<<20, 5<<20)
		for name, size := range map[string]int{"empty": 0, "small": 5, "ümlaut &?#+%20": 3000, "whole": 6 << 20, "parts": 11<<20 + 1} {
			data := storagetest.Data(size, 1)
			opts := minio.PutObjectOptions{ContentType: "text/x-test", UserMetadata: map[string]string{"Color": "blue"}, CacheControl: "no-cache"}
			if _, err := e.raw(t).Client.PutObject(t.Context(), bucket, name, bytes.NewReader(data), int64(size), opts); err != nil {
				t.Fatal(err)
			}
			for way, change := range map[string]func(*storage.DirectCopy){"plain": nil, "only new": onlyNew} {
				to := name + " " + way
				stored, err := copyOf(t, s, bucket, name, to, change)
				if err != nil {
					t.Errorf("copy of %s, %s: %v", name, way, err)
					continue
				}
				got, _ := e.peek(t, bucket, to)
				if !bytes.Equal(got, data) || stored.Bytes != int64(size) || stored.ETag == "" {
					t.Errorf("%s, %s: %d bytes are there, told as %+v, want %d", name, way, len(got), stored, size)
				}
				if change == nil && size <= 6<<20 && !stored.Compared {
					t.Errorf("%s: a copy by one request is not compared", name)
				}
				e.expectSame(t, bucket, name, to, size > 0 || change == nil)
			}
		}
		if left := e.uploads(t, bucket); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
}

// expectSame compares what stands beside the content.
func (e endpoint) expectSame(t *testing.T, bucket, from, to string, metadata bool) {
	t.Helper()
	var infos [2]minio.ObjectInfo
	for i, key := range []string{from, to} {
		var err error
		if infos[i], err = e.raw(t).StatObject(t.Context(), bucket, key, minio.StatObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if infos[0].ContentType != infos[1].ContentType {
		t.Errorf("%s has type %q, its copy %q", from, infos[0].ContentType, infos[1].ContentType)
	}
	if a, b := infos[0], infos[1]; metadata &&
		(!maps.Equal(a.UserMetadata, b.UserMetadata) || a.Metadata.Get("Cache-Control") != b.Metadata.Get("Cache-Control")) {
		t.Errorf("%s has metadata %v, its copy %v", from, a.UserMetadata, b.UserMetadata)
	}
}

// TestCopyRefused asks for copies that may not be: nothing may change, and nothing may be left.
func TestCopyRefused(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, bucket := e.store(t, nil), e.newBucket(t)
		object.LimitCopies(s, 6<<20, 5<<20)
		e.seed(t, bucket, "small", []byte("small"))
		e.seed(t, bucket, "big", storagetest.Data(11<<20, 1))
		e.seed(t, bucket, "to", []byte("old"))
		refusal := storage.Errorf(storage.Conflict, "test_ready", "commit", "the test", "it may not become visible")
		for _, from := range []string{"small", "big"} {
			_, err := copyOf(t, s, bucket, from, "to", onlyNew)
			refused{storage.Conflict, storage.CodeDestinationExists}.check(t, err, bucket, "to")
			_, err = copyOf(t, s, bucket, from, "to", func(c *storage.DirectCopy) { c.Ready = func() error { return refusal } })
			if !errors.Is(err, refusal) {
				t.Errorf("the refusal of ready became %v", err)
			}
			_, err = copyOf(t, s, bucket, from, "to", func(c *storage.DirectCopy) { c.Mark.ETag = `"0123456789abcdef0123456789abcdef"` })
			refused{storage.Corrupt, storage.CodeSourceChanged}.check(t, err, bucket, from)
			_, err = copyOf(t, s, bucket, from, "to", func(c *storage.DirectCopy) {
				c.Ready = func() error { e.seed(t, bucket, from, storagetest.Data(12<<20, 9)); return nil } // after the last look
			})
			if from == "small" { // what is in parts has been copied by then
				refused{storage.Corrupt, storage.CodeSourceChanged}.check(t, err, bucket, from)
			}
		}
		if got, _ := e.peek(t, bucket, "to"); string(got) == "" || strings.HasPrefix(string(got), "small") {
			t.Errorf("a refused copy changed the destination to %d bytes", len(got))
		}
		if left := e.uploads(t, bucket); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
}

// TestCopyNotTaken asks for copies that the store cannot make by itself.
func TestCopyNotTaken(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, other, bucket := e.store(t, nil), e.store(t, nil), e.newBucket(t)
		e.seed(t, bucket, "k", []byte("x"))
		for name, source := range map[string]storage.Source{"another store": other.Source(bucket, "k"), "itself": s.Source(bucket, "k")} {
			_, took, err := s.Destination(bucket, "k").(storage.DirectCopier).CopyFrom(t.Context(), source, storage.DirectCopy{})
			if took || err != nil {
				t.Errorf("%s: took %t, %v", name, took, err)
			}
		}
	})
}

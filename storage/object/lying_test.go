package object_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/object"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

// says is the host of a server that answers everything with 200 and a text.
func says(t *testing.T, text string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		_, _ = io.WriteString(w, text)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// TestCopyThatFailsWith200 has the store report an error in the body of a success, as S3 does where a copy breaks off after its headers
// were sent. What stood there before must not be taken for the copy.
func TestCopyThatFailsWith200(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		bucket := e.newBucket(t)
		host := says(t, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>InternalError</Code><Message>try again</Message></Error>`)
		via := e.between(t, func(r *http.Request) {
			if r.Header.Get("X-Amz-Copy-Source") != "" {
				r.URL.Host = host
			}
		}, nil)
		s := via.store(t, nil)
		object.LimitCopies(s, 6<<20, 5<<20)
		for _, size := range []int{100, 11 << 20} {
			e.seed(t, bucket, "from", storagetest.Data(size, 1))
			e.seed(t, bucket, "to", storagetest.Data(100, 2))
			stored, err := copyOf(t, s, bucket, "from", "to", nil)
			if err == nil {
				t.Fatalf("%d bytes: told as %+v", size, stored)
			}
			refused{storage.Unavailable, "copy_broken_off"}.check(t, err, bucket, "to")
			if left := e.uploads(t, bucket); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		}
	})
}

// TestOneRefusedKeyKeepsChecksums writes first to a key that the store refuses: that says nothing about checksums.
func TestOneRefusedKeyKeepsChecksums(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, bucket := e.store(t, nil), e.newBucket(t)
		data := storagetest.Data(100_000, 1)
		put := func(key string) (storage.Stored, error) {
			return s.Destination(bucket, key).Put(t.Context(), storage.Content{Body: bytes.NewReader(data), Size: int64(len(data))})
		}
		if _, err := put(strings.Repeat("x", 300)); err == nil {
			t.Fatal("the store takes names that are too long")
		}
		if stored, err := put("fine"); err != nil || !stored.Compared {
			t.Errorf("%+v, %v, want what is compared", stored, err)
		}
	})
}

// parted stores two parts and returns what it needs to complete them.
func parted(t *testing.T, to storage.PartDestination) (upload string, content storage.PartContent, parts []storage.PartStored) {
	t.Helper()
	content = storage.PartContent{Size: 5<<20 + 3, PartSize: 5 << 20}
	upload, err := to.Begin(t.Context(), content)
	if err != nil {
		t.Fatal(err)
	}
	for number := 1; number <= 2; number++ {
		offset, size := content.Span(number)
		part, err := to.PutPart(t.Context(), upload, storage.Part{
			Number: number, Offset: offset, Size: size, Body: bytes.NewReader(storagetest.Data(int(size), 1)),
		})
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, part)
	}
	return upload, content, parts
}

func partDestination(t *testing.T, s *object.Store, bucket, key string) storage.PartDestination {
	t.Helper()
	to, ok := s.Destination(bucket, key).(storage.PartDestination)
	if !ok {
		t.Fatal("objects cannot be written in parts")
	}
	return to
}

// TestCompletedBeforeNeedsProof completes an upload that is gone, where another object of the same size stands, at a store that tells no
// ETags and no checksums: nothing shows that it is what the parts make.
func TestCompletedBeforeNeedsProof(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		bucket := e.newBucket(t)
		via := e.between(t, func(*http.Request) {}, func(resp *http.Response) error {
			if resp.Request.Method == http.MethodHead {
				resp.Header.Del("ETag")
				resp.Header.Del("X-Amz-Checksum-Crc64nvme")
			}
			return nil
		})
		to := partDestination(t, via.store(t, nil), bucket, "k")
		upload, content, parts := parted(t, to)
		if err := to.Abort(t.Context(), upload); err != nil {
			t.Fatal(err)
		}
		e.seed(t, bucket, "k", storagetest.Data(int(content.Size), 9))
		for i := range parts {
			parts[i].ETag, parts[i].Checksum = "opaque", ""
		}
		_, err := to.Complete(t.Context(), upload, content, parts, nil)
		refused{storage.Conflict, storage.CodeUploadGone}.check(t, err, bucket, "k")
	})
}

// TestReplacedPartBeginsAnew completes with a part that a second writer has replaced since it was told: what the parts are is not known any
// more, but all of it can be stored once more.
func TestReplacedPartBeginsAnew(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		bucket := e.newBucket(t)
		to := partDestination(t, e.store(t, nil), bucket, "k")
		upload, content, parts := parted(t, to)
		if _, err := to.PutPart(t.Context(), upload, storage.Part{Number: 2, Offset: 5 << 20, Size: 3, Body: strings.NewReader("abc")}); err != nil {
			t.Fatal(err)
		}
		_, err := to.Complete(t.Context(), upload, content, parts, nil)
		refused{storage.Conflict, storage.CodeUploadGone}.check(t, err, bucket, "k")
		if _, there := e.peek(t, bucket, "k"); there {
			t.Error("it is visible")
		}
		if err := to.Abort(t.Context(), upload); err != nil {
			t.Error(err)
		}
	})
}

// TestConflictingCompletionIsRetried has the store refuse the last step because somebody else writes the object just now.
func TestConflictingCompletionIsRetried(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		bucket := e.newBucket(t)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `<Error><Code>ConditionalRequestConflict</Code><Message>x</Message></Error>`)
		}))
		t.Cleanup(server.Close)
		var conflicts atomic.Bool
		via := e.between(t, func(r *http.Request) {
			if r.Method == http.MethodPost && r.URL.Query().Get("uploadId") != "" && conflicts.Load() {
				r.URL.Host = server.Listener.Addr().String()
			}
		}, nil)
		to := partDestination(t, via.store(t, nil), bucket, "k")
		upload, content, parts := parted(t, to)
		content.OnlyNew = true
		conflicts.Store(true)
		_, err := to.Complete(t.Context(), upload, content, parts, nil)
		refused{storage.Unavailable, "dest_changing"}.check(t, err, bucket, "k")
		conflicts.Store(false)
		if _, err := to.Complete(t.Context(), upload, content, parts, nil); err != nil {
			t.Errorf("once more: %v", err)
		}
	})
}

package object_test

import (
	"bytes"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/object"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

// trail is what an object's metadata say of the rules that it came through.
func (e endpoint) trail(t *testing.T, bucket, key string) string {
	t.Helper()
	info, err := e.raw(t).StatObject(t.Context(), bucket, key, minio.StatObjectOptions{})
	if err != nil {
		t.Errorf("look at %q: %v", key, err)
	}
	return info.Metadata.Get("X-Amz-Meta-Copyfleet-Trail")
}

// TestTrailOfCopies copies with and without a trail what has one and what has none. The rest of the metadata stays.
func TestTrailOfCopies(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, bucket := e.store(t, nil), e.newBucket(t)
		object.LimitCopies(s, 6<<20, 5<<20)
		for name, size := range map[string]int{"empty": 0, "small": 5, "parts": 11<<20 + 1} {
			for _, had := range []string{"", "OTHER/former"} {
				opts := minio.PutObjectOptions{
					ContentType: "text/x-test", CacheControl: "no-cache", ContentDisposition: "inline", UserMetadata: map[string]string{"Color": "blue"},
				}
				if had != "" {
					opts.UserMetadata["copyfleet-trail"] = had
				}
				from := name + " " + had
				data := storagetest.Data(size, 1)
				if _, err := e.raw(t).Client.PutObject(t.Context(), bucket, from, bytes.NewReader(data), int64(size), opts); err != nil {
					t.Fatal(err)
				}
				for _, trail := range []string{"", "ORG/rule", "OTHER/former"} {
					for _, fresh := range []bool{false, true} {
						to := from + " to " + trail
						if fresh {
							to += " fresh"
						}
						if _, err := copyOf(t, s, bucket, from, to, func(c *storage.DirectCopy) { c.Trail, c.OnlyNew = trail, fresh }); err != nil {
							t.Errorf("%s: %v", to, err)
							continue
						}
						e.expectCopy(t, bucket, from, to, trail, size > 0 || !fresh)
					}
				}
			}
		}
	})
}

func (e endpoint) expectCopy(t *testing.T, bucket, from, to, trail string, metadata bool) {
	t.Helper()
	want, _ := e.peek(t, bucket, from)
	if got, ok := e.peek(t, bucket, to); !ok || !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes, want %d", to, len(got), len(want))
	}
	if got := e.trail(t, bucket, to); got != trail {
		t.Errorf("%s has the trail %q, want %q", to, got, trail)
	}
	info, err := e.raw(t).StatObject(t.Context(), bucket, to, minio.StatObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if info.ContentType != "text/x-test" {
		t.Errorf("%s has type %q", to, info.ContentType)
	}
	if !metadata {
		return
	}
	for name, value := range map[string]string{"X-Amz-Meta-Color": "blue", "Cache-Control": "no-cache", "Content-Disposition": "inline"} {
		if got := info.Metadata.Get(name); got != value {
			t.Errorf("%s has %s %q, want %q", to, name, got, value)
		}
	}
}

// TestSandboxHasNoTrail writes a file of a sandbox: nobody sees its metadata, and its store may be anybody's.
func TestSandboxHasNoTrail(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, bucket := e.store(t, nil), e.newBucket(t)
		boxes, err := s.Sandboxes(bucket, "")
		if err != nil {
			t.Fatal(err)
		}
		c := content("x")
		c.Trail = "ORG/rule"
		if _, err := boxes.Destination("ORG", "SBX", "/f", "", nil).Put(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if got := e.trail(t, bucket, "ORG/SBX/f"); got != "" {
			t.Errorf("the file of a sandbox has the trail %q", got)
		}
	})
}

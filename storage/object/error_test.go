package object_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/object"
)

// write writes a key, and tells how many bytes were taken before it failed.
func write(t *testing.T, s *object.Store, bucket, key string) error {
	t.Helper()
	_, err := s.Destination(bucket, key).Put(t.Context(), content("content"))
	return err
}

func TestErrors(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		plain, bucket, missing := e.store(t, nil), e.newBucket(t), newName()
		strangers := e.store(t, func(cfg *object.Config) { cfg.SecretKey += "x" })
		unknown := e.store(t, func(cfg *object.Config) { cfg.AccessKey = "nobody" })
		for _, c := range []struct {
			name   string
			store  *object.Store
			bucket string
			key    string
			do     func(*testing.T, *object.Store, string, string) error
			want   refused
		}{
			{"missing object", plain, bucket, "missing", open, refused{storage.NotFound, "source_object_not_found"}},
			{"read from a missing bucket", plain, missing, "k", open, refused{storage.NotFound, "bucket_not_found"}},
			{"write to a missing bucket", plain, missing, "k", write, refused{storage.NotFound, "bucket_not_found"}},
			{"read with a wrong secret", strangers, bucket, "k", open, refused{storage.Denied, "source_http_403"}},
			{"write with a wrong secret", strangers, bucket, "k", write, refused{storage.Denied, "dest_http_403"}},
			{"read with an unknown key", unknown, bucket, "k", open, refused{storage.Denied, ""}},
			{"write with an unknown key", unknown, bucket, "k", write, refused{storage.Denied, ""}},
			{"read from a bad bucket name", plain, "No_Bucket", "k", open, refused{storage.Invalid, "invalid_bucket"}},
			{"write to a bad bucket name", plain, "No_Bucket", "k", write, refused{storage.Invalid, "invalid_bucket"}},
			{"read no key", plain, bucket, "", open, refused{storage.Invalid, "invalid_key"}},
			{"write no key", plain, bucket, "", write, refused{storage.Invalid, "invalid_key"}},
			{"write a key that is too long", plain, bucket, strings.Repeat("k/", 513), write, refused{storage.Invalid, "invalid_key"}},
			{"write a key that is no text", plain, bucket, "k\xff", write, refused{storage.Invalid, "invalid_key"}},
		} {
			t.Run(c.name, func(t *testing.T) {
				err := c.do(t, c.store, c.bucket, c.key)
				got := c.want.check(t, err, c.bucket, c.key)
				if c.want.code == "bucket_not_found" && !strings.Contains(got.Hint, missing) {
					t.Errorf("the hint %q does not name the bucket", got.Hint)
				}
			})
		}
		if _, ok := e.peek(t, bucket, "k"); ok {
			t.Error("a refused write is visible")
		}
	})
}

// TestClockOfTheWorker has a worker whose clock is wrong write: another worker may succeed, so the refusal is not for good.
func TestClockOfTheWorker(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		bucket := e.newBucket(t)
		via := e.between(t, func(r *http.Request) {
			if r.Header.Get("X-Amz-Date") != "" {
				r.Header.Set("X-Amz-Date", time.Now().UTC().Add(-time.Hour).Format("20060102T150405Z"))
			}
		}, nil)
		s := via.store(t, nil)
		for name, err := range map[string]error{"write": write(t, s, bucket, "k"), "begin": begin(t, s, bucket, "k"), "check": s.Check(t.Context())} {
			got, ok := errors.AsType[*storage.Error](err)
			if !ok || got.Class != storage.Unavailable || !strings.Contains(got.Message, "clock") || got.Hint == "" {
				t.Errorf("%s: %+v", name, err)
			}
			expectNoSecret(t, err)
		}
	})
}

func begin(t *testing.T, s *object.Store, bucket, key string) error {
	t.Helper()
	to, ok := s.Destination(bucket, key).(storage.PartDestination)
	if !ok {
		t.Fatal("it cannot be written in parts")
	}
	_, err := to.Begin(t.Context(), storage.PartContent{Size: 100 << 20})
	return err
}

func TestEndpointDown(t *testing.T) {
	t.Parallel()
	// A socket that does not listen: nobody else gets its port.
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	e := endpoint{fmt.Sprintf("http://127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port), "access-key", "secret-key"}
	for _, s := range []*object.Store{e.store(t, nil), e.store(t, autoBuckets)} {
		for name, err := range map[string]error{
			"open": open(t, s, "bucket", "k"), "write": write(t, s, "bucket", "k"), "check": s.Check(t.Context()),
		} {
			if e, ok := errors.AsType[*storage.Error](err); !ok || e.Class != storage.Unavailable {
				t.Errorf("%s at an endpoint that is down: %v, want class Unavailable", name, err)
			}
			expectNoSecret(t, err)
		}
	}
}

// untouched is content that must not be read.
type untouched struct{ t *testing.T }

func (u untouched) Read([]byte) (int, error) {
	u.t.Error("a byte was taken of content that is refused for its size")
	return 0, io.EOF
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, bucket := e.store(t, autoBuckets), newName()
		_, err := s.Destination(bucket, "k").Put(t.Context(), storage.Content{Body: untouched{t}, Size: 5<<40 + 1})
		refused{storage.TooLarge, "object_too_large"}.check(t, err, bucket, "k")
		if exists, err := e.raw(t).BucketExists(t.Context(), bucket); err != nil || exists {
			t.Errorf("a refused write made a bucket: %t, %v", exists, err)
		}
	})
}

func TestAutoBuckets(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		bucket := newName()
		var writers sync.WaitGroup
		for i := range 8 {
			s := e.store(t, autoBuckets) // each with a memory of its own, as workers have
			writers.Go(func() {
				if _, err := s.Destination(bucket, string(rune('a'+i))).Put(t.Context(), content("content")); err != nil {
					t.Errorf("writer %d: %v", i, err)
				}
			})
		}
		writers.Wait()
		if got, ok := e.peek(t, bucket, "h"); !ok || string(got) != "content" {
			t.Errorf("the object holds %q (%t)", got, ok)
		}
		err := open(t, e.store(t, autoBuckets), newName(), "k")
		if got := storage.ClassOf(err); got != storage.NotFound {
			t.Errorf("reading made the bucket, or fails with class %d: %v", got, err)
		}
	})
}

// TestBucketRemovedBetweenUses removes a bucket that the store remembers.
func TestBucketRemovedBetweenUses(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		for name, c := range map[string]struct {
			auto bool
			want refused
		}{
			"stays away":        {false, refused{storage.NotFound, "bucket_not_found"}},
			"is made once more": {true, refused{storage.Unavailable, "bucket_vanished"}},
		} {
			t.Run(name, func(t *testing.T) {
				bucket := e.newBucket(t)
				s := e.store(t, func(cfg *object.Config) { cfg.AutoBuckets = c.auto })
				if exists, err := s.BucketExists(t.Context(), bucket); err != nil || !exists {
					t.Fatalf("BucketExists: %t, %v", exists, err)
				}
				if err := e.raw(t).RemoveBucket(t.Context(), bucket); err != nil {
					t.Fatal(err)
				}
				c.want.check(t, write(t, s, bucket, "k"), bucket, "k")
				if exists, err := s.BucketExists(t.Context(), bucket); err != nil || exists {
					t.Errorf("the store still remembers the bucket: %t, %v", exists, err)
				}
				err := write(t, s, bucket, "k") // the next attempt
				if c.auto && err != nil {
					t.Errorf("the next attempt did not make the bucket: %v", err)
				} else if !c.auto {
					c.want.check(t, err, bucket, "k")
				}
			})
		}
	})
}

func TestCheck(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		if err := e.store(t, nil).Check(t.Context()); err != nil {
			t.Errorf("with the right keys: %v", err)
		}
		for name, change := range map[string]func(*object.Config){
			"a wrong secret key":    func(cfg *object.Config) { cfg.SecretKey += "x" },
			"an unknown access key": func(cfg *object.Config) { cfg.AccessKey = "nobody" },
		} {
			err := e.store(t, change).Check(t.Context())
			if got := storage.ClassOf(err); err == nil || got != storage.Denied {
				t.Errorf("with %s: %v (class %d), want class Denied", name, err, got)
			}
			expectNoSecret(t, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := e.store(t, nil).Check(ctx); !errors.Is(err, context.Canceled) || storage.ClassOf(err) != storage.Interrupted {
			t.Errorf("canceled: %v (class %d), want class Interrupted", err, storage.ClassOf(err))
		}
	})
}

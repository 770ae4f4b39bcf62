package object_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/internal/testkit/nulls3"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/object"
)

// measured is a client for requests that are measured. change may be nil.
func (e endpoint) measured(t *testing.T, change func(*object.RawConfig)) *object.Raw {
	t.Helper()
	cfg := object.RawConfig{Endpoint: e.url, AccessKey: e.accessKey, SecretKey: e.secretKey, Connections: 8}
	if change != nil {
		change(&cfg)
	}
	r, err := object.NewRaw(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func onNull(t *testing.T, change func(*object.RawConfig)) (*object.Raw, *nulls3.Server) {
	t.Helper()
	server := nulls3.Start(t, nulls3.Options{Object: 100 << 10})
	return endpoint{server.Endpoint, "a", "a-secret-of-the-null-server"}.measured(t, change), server
}

var oddKeys = []string{"plain", "a b+c%41&=?#", "ä/ö/雪", "(1)~._-!*'", "//double//", "end/", strings.Repeat("k", 200)}

// What is written is there, whatever its size and key, and each request means what its name says.
func TestRawRequests(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		bucket, r := e.newBucket(t), e.measured(t, nil)
		keys := oddKeys[:4]
		if e.url != embedded.URL() { // whose keys are paths of files
			keys = []string{oddKeys[0], oddKeys[1], oddKeys[2], oddKeys[3], oddKeys[6]}
		}
		for i, size := range []int{0, 1, 4 << 10, 64 << 10, 64<<10 + 1, 3 << 20} {
			key, text := keys[i%len(keys)], bytes.Repeat([]byte("0123456789abcde"), size/15+1)[:size]
			if err := r.Put(t.Context(), bucket, key, bytes.NewReader(text), int64(size)); err != nil {
				t.Fatalf("write %q: %v", key, err)
			}
			if got, ok := e.peek(t, bucket, key); !ok || !bytes.Equal(got, text) {
				t.Errorf("%q has %d bytes, and %d were written", key, len(got), size)
			}
			if got, err := r.Stat(t.Context(), bucket, key); err != nil || got != int64(size) {
				t.Errorf("look at %q: %d bytes, %v", key, got, err)
			}
			body, got, err := r.Get(t.Context(), bucket, key)
			if err != nil {
				t.Fatalf("read %q: %v", key, err)
			}
			read, err := io.ReadAll(body)
			body.Close()
			if err != nil || got != int64(size) || !bytes.Equal(read, text) {
				t.Errorf("read %q: %d bytes of %d, %v", key, len(read), got, err)
			}
		}
		for _, key := range keys {
			if err := r.Delete(t.Context(), bucket, key); err != nil {
				t.Errorf("remove %q: %v", key, err)
			}
			if _, ok := e.peek(t, bucket, key); ok {
				t.Errorf("%q is still there", key)
			}
		}
		if err := r.Put(t.Context(), bucket, "k", strings.NewReader("four"), 5); storage.ClassOf(err) != storage.Invalid {
			t.Errorf("content that is too short: %v", err)
		}
	})
}

func TestRawListsAPage(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		bucket, r := e.newBucket(t), e.measured(t, nil)
		for i := range 30 {
			e.seed(t, bucket, "p/"+strings.Repeat("k", 20+i), nil) // entries of many lengths lie across the ends of reads
		}
		e.seed(t, bucket, "q/<Contents>&", nil)
		for _, c := range []struct {
			prefix, after string
			most, want    int
		}{
			{"p/", "", 1000, 30},
			{"p/", "", 7, 7},
			{"p/", "p/" + strings.Repeat("k", 44), 1000, 5},
			{"none/", "", 1000, 0},
			{"q/", "", 1000, 1},
		} {
			if n, err := r.List(t.Context(), bucket, c.prefix, c.after, c.most); n != c.want || err != nil {
				t.Errorf("%+v: %d, %v", c, n, err)
			}
		}
	})
}

// Refusals are classified as those of all other calls are, and say nothing that is secret.
func TestRawErrors(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		plain, bucket, missing := e.measured(t, nil), e.newBucket(t), newName()
		stranger := e.measured(t, func(cfg *object.RawConfig) { cfg.SecretKey += "x" })
		unknown := e.measured(t, func(cfg *object.RawConfig) { cfg.AccessKey = "nobody" })
		write := func(ctx context.Context, r *object.Raw, bucket, key string) error {
			return r.Put(ctx, bucket, key, strings.NewReader("text"), 4)
		}
		read := func(ctx context.Context, r *object.Raw, bucket, key string) error {
			body, _, err := r.Get(ctx, bucket, key)
			if err == nil {
				body.Close()
			}
			return err
		}
		stat := func(ctx context.Context, r *object.Raw, bucket, key string) error {
			_, err := r.Stat(ctx, bucket, key)
			return err
		}
		list := func(ctx context.Context, r *object.Raw, bucket, key string) error {
			_, err := r.List(ctx, bucket, key, "", 10)
			return err
		}
		for _, c := range []struct {
			name   string
			raw    *object.Raw
			bucket string
			key    string
			do     func(context.Context, *object.Raw, string, string) error
			want   refused
		}{
			{"read a missing object", plain, bucket, "missing", read, refused{storage.NotFound, "s3_NoSuchKey"}},
			{"look at a missing object", plain, bucket, "missing", stat, refused{storage.NotFound, "s3_NoSuchKey"}},
			{"write to a missing bucket", plain, missing, "k", write, refused{storage.NotFound, "s3_NoSuchBucket"}},
			{"read from a missing bucket", plain, missing, "k", read, refused{storage.NotFound, "s3_NoSuchBucket"}},
			{"list a missing bucket", plain, missing, "k", list, refused{storage.NotFound, "s3_NoSuchBucket"}},
			{"write with a wrong secret", stranger, bucket, "k", write, refused{storage.Denied, "s3_SignatureDoesNotMatch"}},
			{"look with a wrong secret", stranger, bucket, "k", stat, refused{storage.Denied, ""}},
			{"list with a wrong secret", stranger, bucket, "k", list, refused{storage.Denied, "s3_SignatureDoesNotMatch"}},
			{"write with an unknown key", unknown, bucket, "k", write, refused{storage.Denied, ""}},
			{"read with an unknown key", unknown, bucket, "k", read, refused{storage.Denied, ""}},
			{"write no key", plain, bucket, "", write, refused{storage.Invalid, "invalid_key"}},
			{"read no key", plain, bucket, "", read, refused{storage.Invalid, "invalid_key"}},
			{"write to a bad bucket name", plain, "No_Bucket", "k", write, refused{storage.Invalid, "invalid_bucket"}},
		} {
			t.Run(c.name, func(t *testing.T) { c.want.check(t, c.do(t.Context(), c.raw, c.bucket, c.key), c.bucket, c.key) })
		}
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		refused{storage.Interrupted, "s3_canceled"}.check(t, write(canceled, plain, bucket, "k"), bucket, "k")
	})
}

// A store that does not keep to the protocol makes errors, each of one request.
func TestRawOnABadStore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		mood nulls3.Mood
		want refused
	}{
		{"busy", nulls3.Busy, refused{storage.Throttled, "s3_SlowDown"}},
		{"garbage", nulls3.Garbage, refused{storage.Unavailable, "s3_unavailable"}},
		{"cut", nulls3.Cut, refused{storage.Unavailable, "s3_unavailable"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, server := onNull(t, nil)
			for _, size := range []int64{10, 1 << 20} {
				server.Turn(nulls3.Fine)
				if err := r.Put(t.Context(), "bucket", "k", bytes.NewReader(make([]byte, size)), size); err != nil {
					t.Fatal(err)
				}
				server.Turn(c.mood)
				before := server.Counts().Put
				c.want.check(t, r.Put(t.Context(), "bucket", "k", bytes.NewReader(make([]byte, size)), size), "bucket", "k")
				if n := server.Counts().Put - before; n != 1 {
					t.Errorf("%d requests were made", n)
				}
			}
			_, err := r.Stat(t.Context(), "bucket", "k")
			if c.mood != nulls3.Busy { // a HEAD has no body that says so
				c.want.check(t, err, "bucket", "k")
			} else if storage.ClassOf(err) != storage.Throttled {
				t.Error(err)
			}
			_, err = r.List(t.Context(), "bucket", "p/", "", 10)
			c.want.check(t, err, "bucket", "p/")
		})
	}
	t.Run("half an object", func(t *testing.T) {
		t.Parallel()
		r, server := onNull(t, nil)
		server.Turn(nulls3.Half)
		body, size, err := r.Get(t.Context(), "bucket", "k")
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		if text, err := io.ReadAll(body); !errors.Is(err, io.ErrUnexpectedEOF) || len(text) != 50<<10 || size != 100<<10 {
			t.Errorf("%d of %d, %v", len(text), size, err)
		}
	})
	t.Run("no answer", func(t *testing.T) {
		t.Parallel()
		r, server := onNull(t, func(cfg *object.RawConfig) { cfg.Answer = 50 * time.Millisecond })
		server.Stall(time.Hour)
		refused{storage.Timeout, "s3_timeout"}.check(t, r.Delete(t.Context(), "bucket", "k"), "bucket", "k")
	})
	t.Run("answered early", func(t *testing.T) {
		t.Parallel()
		e := endpoint{url: answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), accessKey: "a", secretKey: "a-secret"}
		never, end := io.Pipe()
		defer end.Close()
		err := e.measured(t, nil).Put(t.Context(), "bucket", "k", never, 1<<20)
		refused{storage.Unavailable, "s3_answered_early"}.check(t, err, "bucket", "k")
	})
	t.Run("a listing that breaks off", func(t *testing.T) {
		t.Parallel()
		text := "<ListBucketResult><Contents><Key>a</Key></Contents><Con"
		e := endpoint{url: answering(t, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"+text), accessKey: "a", secretKey: "a-secret"}
		_, err := e.measured(t, nil).List(t.Context(), "bucket", "p/", "", 10)
		refused{storage.Unavailable, "invalid_listing"}.check(t, err, "bucket", "p/")
	})
	t.Run("elsewhere", func(t *testing.T) {
		t.Parallel()
		e := endpoint{url: answering(t, "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"), accessKey: "a", secretKey: "a-secret"}
		_, err := e.measured(t, nil).Stat(t.Context(), "bucket", "k")
		if e := (refused{storage.Invalid, ""}).check(t, err, "bucket", "k"); e.Status != http.StatusTemporaryRedirect {
			t.Error(err)
		}
	})
}

// answering is a store that gives one answer to whatever it is asked, as soon as it is asked something.
func answering(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1))
			_, _ = io.WriteString(c, answer)
			if strings.Contains(answer, "close") {
				_ = c.(*net.TCPConn).CloseWrite()
			}
			t.Cleanup(func() { c.Close() })
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return "http://" + l.Addr().String()
}

func TestRawFindsKeysOfOthers(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		r := e.measured(t, nil)
		for _, c := range []struct {
			keys   []string
			prefix string
			want   bool
		}{
			{nil, "own/", false},
			{[]string{"own/1", "own/2/3"}, "own/", false},
			{[]string{"own/1", "other"}, "own/", true},
			{[]string{"a/1", "own/1"}, "own/", true},
			{[]string{"own/1", "z/1"}, "own/", true},
			{[]string{"own-too/1"}, "own/", true},
			{[]string{"own"}, "own/", true},
			{[]string{"a/b/1", "a/b/c/2"}, "a/b/", false},
			{[]string{"a/b/1", "a/c/1"}, "a/b/", true},
			{[]string{"a/b/1", "a/bc"}, "a/b/", true},
			{[]string{"a/b"}, "a/b/", true},
			{[]string{"a/b/1", "c"}, "a/b/", true},
			{[]string{"b/1"}, "a/b/", true},
		} {
			bucket := e.newBucket(t)
			for _, key := range c.keys {
				e.seed(t, bucket, key, []byte("x"))
			}
			if got, err := r.Others(t.Context(), bucket, c.prefix); got != c.want || err != nil {
				t.Errorf("%v beside %q: %v, %v", c.keys, c.prefix, got, err)
			}
		}
		missing := newName()
		_, err := r.Others(t.Context(), missing, "own/")
		if e := (refused{storage.NotFound, "bucket_not_found"}).check(t, err, "", ""); !strings.Contains(e.Hint, missing) {
			t.Errorf("the hint %q does not name the bucket", e.Hint)
		}
		for _, prefix := range []string{"", "own"} {
			_, err := r.Others(t.Context(), missing, prefix)
			refused{storage.Invalid, "invalid_key"}.check(t, err, missing, prefix)
		}
	})
}

func TestRawClearsItsPrefixOnly(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		bucket, r := e.newBucket(t), e.measured(t, nil)
		others := []string{"own-too", "ow/n", "before", "zz/own/1"}
		for _, key := range append([]string{"own/1", "own/a/b/2", "own/a b"}, others...) {
			e.seed(t, bucket, key, []byte("x"))
		}
		for _, prefix := range []string{"", "own", "o"} {
			_, err := r.Clear(t.Context(), bucket, prefix)
			refused{storage.Invalid, "invalid_key"}.check(t, err, bucket, prefix)
		}
		if n, err := r.Clear(t.Context(), bucket, "own/"); n != 3 || err != nil {
			t.Errorf("%d removed, %v", n, err)
		}
		if n, err := r.Clear(t.Context(), bucket, "own/"); n != 0 || err != nil {
			t.Errorf("%d were left, %v", n, err)
		}
		for _, key := range others {
			if _, ok := e.peek(t, bucket, key); !ok {
				t.Errorf("%q is gone", key)
			}
		}
		_, err := r.Clear(t.Context(), newName(), "own/")
		refused{storage.NotFound, "bucket_not_found"}.check(t, err, "", "")
		_, err = e.measured(t, func(cfg *object.RawConfig) { cfg.SecretKey += "x" }).Clear(t.Context(), bucket, "own/")
		refused{storage.Denied, ""}.check(t, err, bucket, "own/")
	})
}

// A call removes a thousand objects at most, and a listing has as many.
func TestRawClearsMoreThanOnePage(t *testing.T) {
	t.Parallel()
	e := minioEndpoint(t)
	bucket, r := e.newBucket(t), e.measured(t, nil)
	const objects = 2100
	for i := range objects {
		if err := r.Put(t.Context(), bucket, "own/"+strings.Repeat("k", i%7)+time.Duration(i).String(), strings.NewReader(""), 0); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := r.Clear(t.Context(), bucket, "own/"); n != objects || err != nil {
		t.Errorf("%d removed, %v", n, err)
	}
	if n, err := r.List(t.Context(), bucket, "own/", "", 10); n != 0 || err != nil {
		t.Errorf("%d are left, %v", n, err)
	}
}

// Where the store keeps versions, nothing of a load test stays behind, and nothing of others changes.
func TestRawClearsVersions(t *testing.T) {
	t.Parallel()
	e := minioEndpoint(t)
	bucket, r, look := e.newBucket(t), e.measured(t, nil), e.raw(t)
	if err := look.EnableVersioning(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for _, key := range []string{"own/1", "own/2", "own/removed", "others/1"} {
			e.seed(t, bucket, key, []byte("x"))
		}
	}
	for _, key := range []string{"own/removed", "others/1"} {
		if err := r.Delete(t.Context(), bucket, key); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := r.Clear(t.Context(), bucket, "own/"); n != 2 || err != nil {
		t.Errorf("%d removed, %v", n, err)
	}
	left := 0
	for v := range look.ListObjectsIter(t.Context(), bucket, minio.ListObjectsOptions{Recursive: true, WithVersions: true}) {
		if left++; v.Err != nil || v.Key != "others/1" {
			t.Errorf("%s %s is left, %v", v.Key, v.VersionID, v.Err)
		}
	}
	if left != 4 {
		t.Errorf("others had three versions and that it is removed, and have %d", left)
	}
}

// Uploads that a generator which was killed has left are ended where the store lists them.
func TestRawEndsUploads(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		bucket, r, look := e.newBucket(t), e.measured(t, nil), e.raw(t)
		open := func(key string) string {
			id, err := look.NewMultipartUpload(t.Context(), bucket, key, minio.PutObjectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
		mine, theirs := open("own/1"), open("others/1")
		if n, err := r.Clear(t.Context(), bucket, "own/"); n != 0 || err != nil {
			t.Errorf("%d removed, %v", n, err)
		}
		if _, err := look.ListObjectParts(t.Context(), bucket, "others/1", theirs, 0, 1); err != nil {
			t.Errorf("the upload of others: %v", err)
		}
		_, err := look.ListObjectParts(t.Context(), bucket, "own/1", mine, 0, 1)
		if gone := minio.ToErrorResponse(err).Code == minio.NoSuchUpload; gone != (e.url == embedded.URL()) {
			t.Errorf("the own upload: %v", err) // MinIO lists uploads by whole keys, and none below a directory
		}
	})
}

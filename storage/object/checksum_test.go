package object_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

// between puts a proxy before an endpoint that may change what passes. Signatures stay valid, since the name of the host is passed on.
func (e endpoint) between(t *testing.T, change func(*http.Request), answer func(*http.Response) error) endpoint {
	t.Helper()
	to, err := url.Parse(e.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = to.Scheme, to.Host, r.In.Host
			change(r.Out)
		},
		ModifyResponse: answer, Transport: oneRequest(),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	return endpoint{server.URL, e.accessKey, e.secretKey}
}

// spoiled is a body with one byte changed, in the middle of what is content.
type spoiled struct {
	io.ReadCloser
	at int64
}

func (s *spoiled) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if 0 <= s.at && s.at < int64(n) {
		p[s.at] ^= 0x20
	}
	s.at -= int64(n)
	return n, err
}

// TestSpoiledOnTheWay changes a byte between the worker and the store. The store must refuse it, and nothing may become visible.
func TestSpoiledOnTheWay(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		bucket := e.newBucket(t)
		e.seed(t, bucket, "k", []byte("old"))
		var spoil, done atomic.Bool
		via := e.between(t, func(r *http.Request) {
			if r.Method == http.MethodPut && spoil.Load() && r.ContentLength > 100 {
				done.Store(true)
				r.Body = &spoiled{r.Body, r.ContentLength / 2}
			}
		}, nil)
		s := via.store(t, nil)
		for _, size := range []int{1000, 64 << 10, 64<<10 + 1, 3 << 20} {
			data := storagetest.Data(size, 1)
			for _, known := range []int64{int64(size), storage.UnknownSize} {
				spoil.Store(false)
				stored, err := s.Destination(bucket, "fine").Put(t.Context(), storage.Content{Body: bytes.NewReader(data), Size: known})
				if err != nil || !stored.Compared {
					t.Errorf("%d bytes: %+v, %v, want what is compared", size, stored, err)
				}
				spoil.Store(true)
				_, err = s.Destination(bucket, "k").Put(t.Context(), storage.Content{Body: bytes.NewReader(data), Size: known})
				refused{storage.Corrupt, "checksum_mismatch"}.check(t, err, bucket, "k")
			}
		}
		spoil.Store(false)
		parts := s.Destination(bucket, "k").(storage.PartDestination)
		upload, err := parts.Begin(t.Context(), storage.PartContent{Size: 3000, PartSize: 3000})
		if err != nil {
			t.Fatal(err)
		}
		spoil.Store(true)
		_, err = parts.PutPart(t.Context(), upload, storage.Part{Number: 1, Size: 3000, Body: bytes.NewReader(make([]byte, 3000))})
		refused{storage.Corrupt, "checksum_mismatch"}.check(t, err, bucket, "k")
		if err := parts.Abort(t.Context(), upload); err != nil {
			t.Error(err)
		}
		if got, _ := e.peek(t, bucket, "k"); string(got) != "old" || !done.Load() {
			t.Errorf("spoiled content is visible: %d bytes (spoiled at all: %t)", len(got), done.Load())
		}
	})
}

// TestWithoutChecksums writes to a store that knows none, in the two ways in which stores do not: it ignores them, or it refuses what asks
// for them.
func TestWithoutChecksums(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		for name, answer := range map[string]int{
			"ignores": 0, "refuses": http.StatusNotImplemented, "does not understand": http.StatusBadRequest,
		} {
			var framed atomic.Int64
			var asked atomic.Int64
			bucket := e.newBucket(t)
			via := e.between(t, func(r *http.Request) {
				if r.Header.Get("X-Amz-Trailer") != "" {
					framed.Add(1)
				}
				if r.Header.Get("X-Amz-Checksum-Algorithm") == "" {
					return
				}
				asked.Add(1)
				if answer != 0 {
					r.URL.Host = refuser(t, answer)
				}
			}, func(resp *http.Response) error {
				resp.Header.Del("X-Amz-Checksum-Crc64nvme")
				return nil
			})
			s := via.store(t, nil)
			for _, size := range []int{10, 100_000, 6 << 20} {
				data := storagetest.Data(size, 1)
				stored, err := s.Destination(bucket, "k").Put(t.Context(), storage.Content{Body: bytes.NewReader(data), Size: int64(size)})
				if err != nil || stored.Compared || stored.Bytes != int64(size) {
					t.Errorf("%s, %d bytes: %+v, %v, want what is not compared", name, size, stored, err)
				}
				if got, _ := e.peek(t, bucket, "k"); !bytes.Equal(got, data) {
					t.Errorf("%s: %d bytes are there, want %d: were frames stored with the content?", name, len(got), size)
				}
			}
			if asked.Load() != 1 || framed.Load() > 2 {
				t.Errorf("%s: the store was asked %d times, and sent frames %d times", name, asked.Load(), framed.Load())
			}
		}
	})
}

// refuser is the host of a server that refuses everything.
func refuser(t *testing.T, status int) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	t.Cleanup(server.Close)
	return server.Listener.Addr().(*net.TCPAddr).String()
}

// TestLostAnswer completes an upload whose first completion was answered to nobody.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		bucket := e.newBucket(t)
		var lose atomic.Bool
		via := e.between(t, func(*http.Request) {}, func(resp *http.Response) error {
			if resp.Request.Method == http.MethodPost && resp.Request.URL.Query().Has("uploadId") && lose.CompareAndSwap(true, false) {
				return io.ErrUnexpectedEOF // after the store did it: the client sees 502, and asks again
			}
			return nil
		})
		s := via.store(t, nil)
		data := storagetest.Data(5<<20+100, 1)
		lose.Store(true)
		// What may replace nothing goes in parts, and finds itself there.
		content := storage.Content{Body: bytes.NewReader(data), Size: int64(len(data)), OnlyNew: true}
		stored, err := s.Destination(bucket, "k").Put(t.Context(), content)
		if err != nil || stored.Bytes != int64(len(data)) || lose.Load() {
			t.Errorf("%+v, %v (the answer was not lost: %t)", stored, err, lose.Load())
		}
		if got, _ := e.peek(t, bucket, "k"); !bytes.Equal(got, data) {
			t.Errorf("%d bytes are there", len(got))
		}
	})
}

// TestUnknownLength writes content of unknown length in several parts, and breaks it off in every one of them.
func TestUnknownLength(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, bucket := e.store(t, nil), e.newBucket(t)
		const part = 16 << 20
		data := storagetest.Data(2*part+5, 1)
		for _, size := range []int{part - 1, part, part + 1, 2*part + 5} {
			stored, err := s.Destination(bucket, "k").Put(t.Context(), storage.Content{
				Body: bytes.NewReader(data[:size]), Size: storage.UnknownSize, ContentType: "text/x-test",
			})
			if err != nil || stored.Bytes != int64(size) || !stored.Compared {
				t.Errorf("%d bytes: %+v, %v", size, stored, err)
			}
			info, err := e.raw(t).StatObject(t.Context(), bucket, "k", minio.StatObjectOptions{})
			if got, _ := e.peek(t, bucket, "k"); err != nil || !bytes.Equal(got, data[:size]) || info.ContentType != "text/x-test" {
				t.Errorf("%d of %d bytes of type %q, %v", len(got), size, info.ContentType, err)
			}
		}
		for _, size := range []int{0, 100, 1 << 20, part, part + 1} {
			cause := storage.Errorf(storage.Throttled, "test_body", "read", "the test", "it breaks off")
			_, err := s.Destination(bucket, "broken").Put(t.Context(), storage.Content{
				Body: failing{bytes.NewReader(data[:size]), cause}, Size: storage.UnknownSize,
			})
			if class := storage.ClassOf(err); class != storage.Throttled || !strings.Contains(err.Error(), "it breaks off") {
				t.Errorf("after %d bytes the error is %v", size, err)
			}
		}
		if _, ok := e.peek(t, bucket, "broken"); ok {
			t.Error("what broke off is visible")
		}
		if left := e.uploads(t, bucket); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
}

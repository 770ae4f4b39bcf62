package httpstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/hostilehttp"
	"github.com/copyfleet/copyfleet/storage"
)

// content is what a test uploads.
func content(data string, ready func() error) storage.Content {
	return storage.Content{Body: strings.NewReader(data), Size: int64(len(data)), Ready: ready}
}

// zeros is content of n bytes that takes no memory.
func zeros(n int64) storage.Content { return storage.Content{Body: io.LimitReader(zero{}, n), Size: n} }

type zero struct{}

func (zero) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// An answer that was sent before the receiver hung up is told, although sending the body fails.
func TestPutPrefersAnswerToBrokenPipe(t *testing.T) {
	t.Parallel()
	url := hostile(t, func(p *hostilehttp.Peer) {
		p.Request()
		p.Say("HTTP/1.1 100 Continue\r\n\r\n")
		io.CopyN(io.Discard, p.R, 64<<10)
		p.Say("%s", hostilehttp.Answer("413 Content Too Large", "Connection: close"))
		// The script ends with unread bytes: the system resets the connection.
	})
	client := testClient(t, nil)
	for range 50 {
		_, err := client.Put(url+query, nil).Put(t.Context(), zeros(8<<20))
		failure{storage.TooLarge, "dest_http_413", "the server answered 413", 413}.check(t, err)
		if t.Failed() {
			break
		}
	}
}

func TestPutStatus(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status int
		class  storage.Class
		code   string
	}{
		{200, -1, ""}, {201, -1, ""}, {202, -1, ""}, {204, -1, ""}, {299, -1, ""},
		{300, storage.Invalid, "http_redirect"}, {301, storage.Invalid, "http_redirect"},
		{302, storage.Invalid, "http_redirect"}, {303, storage.Invalid, "http_redirect"},
		{304, storage.Invalid, "http_redirect"}, {307, storage.Invalid, "http_redirect"},
		{308, storage.Invalid, "http_redirect"},
		{400, storage.Invalid, "dest_http_400"}, {401, storage.Denied, "dest_http_401"},
		{403, storage.Denied, "dest_http_403"}, {404, storage.NotFound, "dest_http_404"},
		{405, storage.Invalid, "dest_http_405"}, {407, storage.Denied, "dest_http_407"},
		{408, storage.Timeout, "dest_http_408"}, {409, storage.Conflict, "dest_http_409"},
		{410, storage.NotFound, "dest_http_410"}, {411, storage.Invalid, "dest_http_411"},
		{412, storage.Invalid, "dest_http_412"}, {413, storage.TooLarge, "dest_http_413"},
		{416, storage.Invalid, "dest_http_416"}, {425, storage.Throttled, "dest_http_425"},
		{429, storage.Throttled, "dest_http_429"}, {500, storage.Unavailable, "dest_http_500"},
		{502, storage.Unavailable, "dest_http_502"}, {503, storage.Unavailable, "dest_http_503"},
		{504, storage.Unavailable, "dest_http_504"}, {507, storage.NoSpace, "dest_http_507"},
	}
	url := hostile(t, func(p *hostilehttp.Peer) {
		for {
			req := p.Request()
			if req.URL == nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			p.Say("%s", hostilehttp.Answer(req.Header.Get("Want")+" X", "Retry-After: 7", "ETag: e", "Location: "+query))
		}
	})
	client := testClient(t, nil)
	for _, tt := range tests {
		stored, err := client.Put(url+query, map[string]string{"Want": fmt.Sprint(tt.status)}).Put(t.Context(), content("data", nil))
		if tt.class < 0 {
			if err != nil || stored != (storage.Stored{Bytes: 4, ETag: "e", Status: tt.status}) {
				t.Errorf("%d: %+v, %v", tt.status, stored, err)
			}
			continue
		}
		e := failure{tt.class, tt.code, "the server answered", tt.status}.check(t, err)
		if want := 7 * time.Second; (tt.status >= 400) != (e.RetryAfter == want) {
			t.Errorf("%d: retry after %v", tt.status, e.RetryAfter)
		}
		if e.StatusText != http.StatusText(tt.status) {
			t.Errorf("%d: status text is %q", tt.status, e.StatusText)
		}
	}
}

// received is a request as a receiver saw it.
type received struct {
	*http.Request
	body []byte
	err  error // what ended the body, if not its proper end
}

// receiver answers 200 to every whole request and tells about all of them.
func receiver(t *testing.T) (url string, seen <-chan received) {
	t.Helper()
	requests := make(chan received, 10)
	return hostile(t, func(p *hostilehttp.Peer) {
		for {
			req := p.Request()
			if req.URL == nil {
				return
			}
			if req.Header.Get("Expect") != "" {
				p.Say("HTTP/1.1 100 Continue\r\n\r\n")
			}
			body, err := io.ReadAll(req.Body)
			requests <- received{req, body, err}
			if err != nil {
				return
			}
			p.Say("%s", hostilehttp.Answer("200 OK"))
		}
	}), requests
}

func TestPutRequest(t *testing.T) {
	t.Parallel()
	url, seen := receiver(t)
	client := testClient(t, nil)
	tests := []struct {
		size        int64
		headers     map[string]string
		contentType string
		wantType    []string
	}{
		{0, nil, "", nil},
		{1, nil, "", nil},
		{5, nil, "text/x", []string{"text/x"}},
		{5, map[string]string{"content-type": "a/b"}, "text/x", []string{"a/b"}},
		{5, map[string]string{"Content-Type": ""}, "text/x", []string{""}},
		{5, nil, "text/x\r\nX-Injected: 1", nil},
		{bufferSize - 1, nil, "", nil}, {bufferSize, nil, "", nil}, {bufferSize + 1, nil, "", nil},
		{continueAbove, nil, "", nil}, {continueAbove + 1, nil, "", nil},
	}
	for _, tt := range tests {
		c := zeros(tt.size)
		c.ContentType = tt.contentType
		if _, err := client.Put(url+"/p", tt.headers).Put(t.Context(), c); err != nil {
			t.Fatalf("%d bytes: %v", tt.size, err)
		}
		got := <-seen
		if got.ContentLength != tt.size || got.Header.Get("Content-Length") != fmt.Sprint(tt.size) || got.TransferEncoding != nil || int64(len(got.body)) != tt.size {
			t.Errorf("%d bytes: length %q, encoding %v, body of %d", tt.size, got.Header.Get("Content-Length"), got.TransferEncoding, len(got.body))
		}
		if types := got.Header["Content-Type"]; fmt.Sprint(types) != fmt.Sprint(tt.wantType) {
			t.Errorf("%d bytes, headers %v, type %q: Content-Type is %q, want %q", tt.size, tt.headers, tt.contentType, types, tt.wantType)
		}
		if asked := got.Header.Get("Expect") == "100-continue"; asked != (tt.size > continueAbove) {
			t.Errorf("%d bytes: Expect is %q", tt.size, got.Header.Get("Expect"))
		}
		if got.Method != http.MethodPut || got.Header.Get("X-Injected") != "" {
			t.Errorf("method %s, headers %v", got.Method, got.Header)
		}
	}
}

// Whatever stops an upload on our side, the receiver is left with less than it was promised: of a short one with nothing.
func TestAbortedUploadIsShort(t *testing.T) {
	t.Parallel()
	refuse := errors.New("not now")
	digits := func() io.Reader { return strings.NewReader("0123456789") }
	tests := []struct {
		name  string
		body  func() io.Reader
		size  int64
		ready error
		cause error
		code  string
	}{
		{"body fails", func() io.Reader { return io.MultiReader(digits(), iotest.ErrReader(refuse)) }, 11, nil, refuse, "dest_content"},
		{"body fails after its last byte", func() io.Reader { return io.MultiReader(digits(), iotest.ErrReader(refuse)) }, 10, nil, refuse, "dest_content"},
		{"body fails with its last byte", func() io.Reader { return &lastGasp{refuse} }, 10, nil, refuse, "dest_content"},
		{"not ready", digits, 10, refuse, refuse, "dest_content"},
		{"one byte not ready", func() io.Reader { return strings.NewReader("0") }, 1, refuse, refuse, "dest_content"},
		{"too short", digits, 11, nil, nil, "source_short"},
		{"too long", digits, 9, nil, nil, "source_long"},
		{"stuck", func() io.Reader { return stuck{} }, 9, nil, io.ErrNoProgress, "dest_content"},
	}
	for _, tt := range tests {
		for _, method := range []string{"PUT", "POST"} {
			for _, before := range []int64{0, 2 * shortBody} {
				t.Run(fmt.Sprintf("%s %s %d", method, tt.name, before), func(t *testing.T) {
					url, seen := receiver(t)
					client := testClient(t, nil)
					destination := client.Put(url+query, nil)
					if method == "POST" {
						destination = client.PostForm(url+query, nil, "", "", nil)
					}
					body := io.MultiReader(io.LimitReader(zero{}, before), tt.body())
					_, err := destination.Put(t.Context(), storage.Content{Size: before + tt.size, Body: body, Ready: func() error { return tt.ready }})
					e, ok := errors.AsType[*storage.Error](err)
					if !ok || e.Code != tt.code || tt.cause != nil && !errors.Is(err, tt.cause) {
						t.Errorf("error is %v, want code %s and cause %v", err, tt.code, tt.cause)
					}
					checkDiscreet(t, err)
					if before == 0 {
						if _, err := client.Put(url, nil).Put(t.Context(), content("next", nil)); err != nil {
							t.Fatal(err)
						}
					}
					switch got := <-seen; {
					case before == 0 && string(got.body) != "next":
						t.Errorf("the receiver got a request before the next one: %q", got.body)
					case before > 0 && got.err == nil:
						t.Errorf("the receiver got a whole body of %d bytes", len(got.body))
					}
				})
			}
		}
	}
}

// lastGasp gives ten bytes and an error at once.
type lastGasp struct{ err error }

func (l *lastGasp) Read(p []byte) (int, error) { return copy(p, "0123456789"), l.err }

// stuck gives neither bytes nor an error.
type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

// Nothing is sent for an empty upload before it is ready.
func TestEmptyUploadAsksFirst(t *testing.T) {
	t.Parallel()
	url, seen := receiver(t)
	put := testClient(t, nil).Put(url, nil)
	refuse := errors.New("no")
	_, err := put.Put(t.Context(), content("", func() error { return refuse }))
	if !errors.Is(err, refuse) || len(seen) != 0 {
		t.Errorf("error is %v, %d requests were seen", err, len(seen))
	}
	if _, err = put.Put(t.Context(), content("", func() error {
		if len(seen) != 0 {
			t.Error("the request was sent before Ready was asked")
		}
		return nil
	})); err != nil {
		t.Error(err)
	}
	if got := <-seen; got.Header.Get("Content-Length") != "0" {
		t.Errorf("Content-Length is %q", got.Header.Get("Content-Length"))
	}
	_, err = put.Put(t.Context(), storage.Content{Body: strings.NewReader("x")})
	failure{storage.Corrupt, "source_long", "the content is longer than the 0 bytes", 0}.check(t, err)
}

func TestPutNeedsSize(t *testing.T) {
	t.Parallel()
	put := testClient(t, nil).Put("http://127.0.0.1:1/", nil)
	if !put.NeedsSize() {
		t.Error("NeedsSize is false")
	}
	_, err := put.Put(t.Context(), storage.Content{Body: strings.NewReader("x"), Size: storage.UnknownSize})
	failure{storage.Invalid, "dest_needs_size", "", 0}.check(t, err)
	_, err = testClient(t, nil).PostForm("http://127.0.0.1:1/", nil, "", "", nil).
		Put(t.Context(), storage.Content{Body: strings.NewReader("x"), Size: 1<<63 - 1})
	failure{storage.Invalid, "dest_needs_size", "", 0}.check(t, err)
}

// A panic of the content meets the recover of who called Put, and the upload is aborted.
func TestPutPanics(t *testing.T) {
	t.Parallel()
	url, seen := receiver(t)
	put := testClient(t, nil).Put(url, nil)
	for _, c := range []storage.Content{
		content("0123456789", func() error { panic("ready") }),
		{Body: io.MultiReader(io.LimitReader(zero{}, 200_000), throws{}), Size: 300_000},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			put.Put(t.Context(), c)
		}()
	}
	if got := <-seen; got.err == nil {
		t.Errorf("the receiver got a whole body of %d", len(got.body))
	}
}

type throws struct{}

func (throws) Read([]byte) (int, error) { panic("read") }

func TestPutCanceled(t *testing.T) {
	t.Parallel()
	why := errors.New("the user changed his mind")
	waiting := make(chan struct{}, 1)
	url := hostile(t, func(p *hostilehttp.Peer) {
		io.Copy(io.Discard, p.Request().Body)
		waiting <- struct{}{}
		p.Hang()
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-waiting; cancel(why) }()
	_, err := testClient(t, nil).Put(url+query, nil).Put(ctx, content("data", nil))
	failure{storage.Interrupted, "dest_canceled", "it was canceled", 0}.check(t, err)
	if !errors.Is(err, why) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not wrap the cause of the cancellation", err)
	}

	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	_, err = testClient(t, nil).Put(url+query, nil).Put(ctx, content("data", nil))
	failure{storage.Timeout, "dest_deadline", "Network timeout: the time given", 0}.check(t, err)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v does not wrap the deadline", err)
	}
}

// The answer to a success may be as long and slow as it likes; it is the status that counts.
func TestPutIgnoresAnswerBody(t *testing.T) {
	t.Parallel()
	url := hostile(t, func(p *hostilehttp.Peer) {
		io.Copy(io.Discard, p.Request().Body)
		p.Say("HTTP/1.1 201 Created\r\n\r\n")
		for p.Say("%s", bytes.Repeat([]byte("x"), 1000)) {
		}
	})
	if stored, err := testClient(t, nil).Put(url, nil).Put(t.Context(), content("data", nil)); err != nil || stored.Bytes != 4 {
		t.Errorf("%+v, %v", stored, err)
	}
}

func TestPutReusesConnections(t *testing.T) {
	t.Parallel()
	var accepted atomic.Int64
	url := hostile(t, func(p *hostilehttp.Peer) {
		accepted.Add(1)
		for {
			req := p.Request()
			if req.URL == nil {
				return
			}
			if req.Header.Get("Expect") != "" {
				p.Say("HTTP/1.1 100 Continue\r\n\r\n")
			}
			io.Copy(io.Discard, req.Body)
			p.Say("HTTP/1.1 %s X\r\nContent-Length: 20\r\n\r\n01234567890123456789", strings.TrimPrefix(req.URL.Path, "/"))
		}
	})
	client := testClient(t, nil)
	for _, size := range []int64{0, 10, 100_000, 2 << 20} {
		for _, status := range []string{"200", "403", "500"} {
			if !reused(&accepted, func() {
				_, err := client.Put(url+"/"+status, nil).Put(t.Context(), zeros(size))
				if (status == "200") != (err == nil) {
					t.Errorf("%d bytes, %s: %v", size, status, err)
				}
			}) {
				t.Errorf("the connection is not used again after %d bytes that are answered with %s", size, status)
			}
		}
	}
}

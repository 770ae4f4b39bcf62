package httpstore

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/hostilehttp"
	"github.com/copyfleet/copyfleet/storage"
)

// A peer that is slow but not silent passes, however long it takes in all, if any byte is enough.
func TestGetFromDrippingServer(t *testing.T) {
	t.Parallel()
	const n = 45
	url := hostile(t, func(p *hostilehttp.Peer) {
		p.Request()
		p.Say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", n)
		for range n {
			<-time.After(200 * time.Millisecond)
			p.Say(".")
		}
	})
	client := testClient(t, func(o *Options) { o.IdleTimeout, o.MinProgress = 8*time.Second, 1 })
	got, _, err := readAll(t, client.Get(url, nil))
	if err != nil || len(got) != n {
		t.Errorf("got %d bytes, error %v, want %d", len(got), err, n)
	}
}

// The idle clock does not run while the reader is busy elsewhere.
func TestGetBySlowReader(t *testing.T) {
	t.Parallel()
	url := hostile(t, func(p *hostilehttp.Peer) { p.Request(); p.Say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345") })
	object, err := testClient(t, func(o *Options) { o.IdleTimeout = 200 * time.Millisecond }).Get(url, nil).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer object.Body.Close()
	<-time.After(400 * time.Millisecond)
	if got, err := io.ReadAll(iotest.OneByteReader(object.Body)); err != nil || string(got) != "12345" {
		t.Errorf("got %q, error %v", got, err)
	}
}

func TestGetMetadata(t *testing.T) {
	t.Parallel()
	url := hostile(t, func(p *hostilehttp.Peer) {
		p.Request()
		p.Say("%s", hostilehttp.Answer("200 OK", `ETag: "abc"`, "Content-Type: text/x", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"))
	})
	_, object, err := readAll(t, testClient(t, nil).Get(url, nil))
	if err != nil {
		t.Fatal(err)
	}
	want := time.Date(1994, 11, 6, 8, 49, 37, 0, time.UTC)
	if object.ETag != `"abc"` || object.ContentType != "text/x" || !object.Modified.Equal(want) {
		t.Errorf("got %q, %q, %v", object.ETag, object.ContentType, object.Modified)
	}
}

func TestGetRequest(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 2)
	url := hostile(t, func(p *hostilehttp.Peer) {
		req := p.Request()
		seen <- req.RequestURI
		seen <- strings.Join([]string{req.Host, req.UserAgent(), req.Header.Get("Accept-Encoding"), req.Header.Get("Accept"),
			req.Header.Get("X-Key"), req.Header.Get("Referer")}, "|")
		p.Say("%s", hostilehttp.Answer("200 OK"))
	})
	client := testClient(t, func(o *Options) { o.UserAgent = "ours" })
	if _, _, err := readAll(t, client.Get(url+"/a%2Fb%20c?x=1&y=%2F#fragment", map[string]string{"accept": "*/*", "x-key": "k"})); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; got != "/a%2Fb%20c?x=1&y=%2F" {
		t.Errorf("request URI is %q", got)
	}
	if got, want := <-seen, strings.TrimPrefix(url, "http://")+"|ours|identity|*/*|k|"; got != want {
		t.Errorf("headers are %q, want %q", got, want)
	}
}

func TestGetClosedDuringRead(t *testing.T) {
	t.Parallel()
	url := hostile(t, func(p *hostilehttp.Peer) {
		p.Request()
		p.Say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1")
		p.Hang()
	})
	object, err := testClient(t, nil).Get(url, nil).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan struct{})
	ended := make(chan error)
	go func() {
		_, _ = io.ReadFull(object.Body, make([]byte, 1))
		close(first)
		_, err := object.Body.Read(make([]byte, 1))
		ended <- err
	}()
	<-first
	if err := object.Body.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	failure{storage.Interrupted, "source_closed_here", "the body was closed", 0}.check(t, <-ended)
	if err := object.Body.Close(); err != nil {
		t.Errorf("second Close = %v", err)
	}
}

// Connections are used again after success and after failures whose answer is short.
func TestGetReusesConnections(t *testing.T) {
	t.Parallel()
	var accepted atomic.Int64
	url := hostile(t, func(p *hostilehttp.Peer) {
		accepted.Add(1)
		for {
			req := p.Request()
			if req.URL == nil {
				return
			}
			status := strings.TrimPrefix(req.URL.Path, "/")
			p.Say("HTTP/1.1 %s X\r\nContent-Length: 5\r\nLocation: /200\r\n\r\n12345", status)
		}
	})
	client := testClient(t, nil)
	for _, status := range []string{"200", "404", "503", "302", "206", "200"} {
		if !reused(&accepted, func() {
			_, _, err := readAll(t, client.Get(url+"/"+status, nil))
			if ok := status == "200" || status == "302"; ok != (err == nil) {
				t.Errorf("GET of %s = %v", status, err)
			}
		}) {
			t.Errorf("the connection is not used again after %s", status)
		}
	}
}

// reused reports whether what makes requests is ever served over the connection that it left. Not each time: the transport gives a connection
// up when its writer is not scheduled for 50 ms.
func reused(accepted *atomic.Int64, request func()) bool {
	request()
	for range 30 {
		before := accepted.Load()
		if request(); accepted.Load() == before {
			return true
		}
	}
	return false
}

func TestGetRefusesBeforeDialling(t *testing.T) {
	t.Parallel()
	client := testClient(t, nil)
	tests := []struct {
		url     string
		headers map[string]string
		code    string
	}{
		{"http://user:" + secret + "@127.0.0.1/", nil, "source_invalid_url"},
		{"file:///etc/passwd" + query, nil, "source_invalid_url"},
		{"http://[::1%25lo]/" + query, nil, "source_invalid_url"},
		{"http://%zz/" + query, nil, "source_invalid_url"},
		{"http://127.1/" + query, nil, "source_invalid_url"},
		{"http://127.0.0.1/\n" + query, nil, "source_invalid_url"},
		{"http://127.0.0.1/" + query, map[string]string{"Host": secret}, "source_invalid_header"},
		{"http://127.0.0.1/" + query, map[string]string{"A": secret + "\r\nB: c"}, "source_invalid_header"},
	}
	for _, tt := range tests {
		_, err := client.Get(tt.url, tt.headers).Open(t.Context())
		failure{class: storage.Invalid, code: tt.code}.check(t, err)
		tt.code = strings.Replace(tt.code, "source", "dest", 1)
		_, err = client.Put(tt.url, tt.headers).Put(t.Context(), storage.Content{Body: iotest.ErrReader(errors.New("read"))})
		failure{class: storage.Invalid, code: tt.code}.check(t, err)
	}
}

package httpstore

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/copyfleet/copyfleet/storage"
)

func TestGetFromHostileServer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		script func(p *peer)
		edit   func(o *Options)
		want   failure
	}{
		{"body ends early", func(p *peer) {
			p.request()
			p.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
		}, nil, failure{storage.Interrupted, "source_short", "the body ended after 5 of 10 bytes", 0}},
		{"body never begins", func(p *peer) {
			p.request()
			p.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
		}, nil, failure{storage.Interrupted, "source_short", "the body ended after 0 of 10", 0}},
		{"chunked body ends early", func(p *peer) {
			p.request()
			p.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n")
		}, nil, failure{storage.Interrupted, "source_short", "the body ended after 5 bytes, before its end", 0}},
		{"chunk ends early", func(p *peer) {
			p.request()
			p.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n12345")
		}, nil, failure{storage.Interrupted, "source_short", "the body ended after", 0}},
		{"chunk length is nonsense", func(p *peer) {
			p.request()
			p.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n12345", secret)
		}, nil, failure{storage.Interrupted, "source_broken", "the body could not be decoded", 0}},
		{"body is reset", func(p *peer) {
			p.request()
			p.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
			p.reset()
		}, nil, failure{storage.Interrupted, "source_reset", "the connection was reset after", 0}},
		{"body stalls", func(p *peer) {
			p.request()
			p.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
			p.hang()
		}, short, failure{storage.Timeout, "source_idle_timeout", "Network timeout: no bytes arrived within 150ms", 0}},
		{"body drips below the minimum", func(p *peer) {
			p.request()
			p.say("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
			for p.say(".") {
				<-time.After(time.Millisecond)
			}
		}, func(o *Options) { short(o); o.MinProgress = 1 << 20 },
			failure{storage.Timeout, "source_idle_timeout", "Network timeout: too few bytes arrived within", 0}},
		{"no answer", func(p *peer) { p.request(); p.hang() }, short,
			failure{storage.Timeout, "source_header_timeout", "Network timeout: no answer within 150ms", 0}},
		{"half an answer", func(p *peer) {
			p.request()
			p.say("HTTP/1.1 200 OK\r\nContent-")
			p.hang()
		}, short, failure{storage.Timeout, "source_header_timeout", "Network timeout: no answer", 0}},
		{"dripping headers", func(p *peer) {
			p.request()
			p.say("HTTP/1.1 200 OK\r\n")
			for p.say("X-A: 1\r\n") {
				<-time.After(5 * time.Millisecond)
			}
		}, short, failure{storage.Timeout, "source_header_timeout", "Network timeout: no answer", 0}},
		{"endless headers", func(p *peer) {
			p.request()
			p.say("HTTP/1.1 200 OK\r\n")
			for p.say("X-%s: %s\r\n", secret, strings.Repeat("a", 1000)) {
			}
		}, nil, failure{storage.Unavailable, "source_bad_answer", "the answer is not valid HTTP/1.1, or its headers", 0}},
		{"one endless header", func(p *peer) {
			p.request()
			p.say("HTTP/1.1 200 OK\r\nX-A: ")
			for p.say("%s", strings.Repeat("a", 1000)) {
			}
		}, nil, failure{storage.Unavailable, "source_bad_answer", "the answer is not valid HTTP/1.1, or its headers", 0}},
		{"endless 1xx", func(p *peer) {
			p.request()
			for p.say("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n") {
			}
		}, nil, failure{storage.Unavailable, "source_bad_answer", "the answer is not valid HTTP/1.1, or its headers", 0}},
		{"closed at once", func(*peer) {}, nil,
			failure{storage.Unavailable, "source_", "the connection was", 0}},
		{"closed after the request", func(p *peer) { p.request() }, nil,
			failure{storage.Unavailable, "source_closed", "the connection was closed before the answer", 0}},
		{"closed in the headers", func(p *peer) { p.request(); p.say("HTTP/1.1 200 OK\r\nA: b\r\n") }, nil,
			failure{storage.Unavailable, "source_closed", "the connection was closed before the answer", 0}},
		{"reset in the request", func(p *peer) { p.r.ReadByte(); p.reset() }, nil,
			failure{storage.Unavailable, "source_reset", "the connection was reset before the answer", 0}},
		{"reset after the request", func(p *peer) { p.request(); p.reset() }, nil,
			failure{storage.Unavailable, "source_reset", "the connection was reset before the answer", 0}},
		{"reset in the headers", func(p *peer) { p.request(); p.say("HTTP/1.1 200 OK\r\nA:"); p.reset() }, nil,
			failure{storage.Unavailable, "source_", "the connection was", 0}},
		{"not HTTP", func(p *peer) { p.request(); p.say("%s\r\n\r\n", secret) }, nil,
			failure{storage.Unavailable, "source_bad_answer", "the answer is not valid HTTP/1.1", 0}},
		{"echo of the request", func(p *peer) { req := p.request(); p.say("%s\r\n", req.RequestURI) }, nil,
			failure{storage.Unavailable, "source_bad_answer", "the answer is not valid HTTP/1.1", 0}},
		{"two lengths", func(p *peer) {
			p.request()
			p.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345")
		}, nil, failure{storage.Unavailable, "source_bad_answer", "the answer is not valid HTTP/1.1", 0}},
		{"length is nonsense", func(p *peer) {
			p.request()
			p.say("HTTP/1.1 200 OK\r\nContent-Length: -%s\r\n\r\n12345", secret)
		}, nil, failure{storage.Unavailable, "source_bad_answer", "the answer is not valid HTTP/1.1", 0}},
		{"unknown transfer encoding", func(p *peer) {
			p.request()
			p.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n12345")
		}, nil, failure{storage.Unavailable, "source_bad_answer", "the answer is not valid HTTP/1.1", 0}},
		{"206 to a plain GET", func(p *peer) {
			p.request()
			p.say("HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 0-4/10\r\n\r\n12345")
		}, nil, failure{storage.Invalid, "http_unexpected_status", "the server answered 206 Partial Content", 206}},
		{"204", func(p *peer) { p.request(); p.say("HTTP/1.1 204 No Content\r\n\r\n") }, nil,
			failure{storage.Invalid, "http_unexpected_status", "the server answered 204 No Content", 204}},
		{"304", func(p *peer) { p.request(); p.say("HTTP/1.1 304 Not Modified\r\n\r\n") }, nil,
			failure{storage.Invalid, "http_unexpected_status", "the server answered 304 Not Modified", 304}},
		{"300", func(p *peer) { p.request(); p.say("%s", answer("300 Multiple Choices", "Location: /x")) }, nil,
			failure{storage.Invalid, "http_unexpected_status", "the server answered 300 Multiple Choices", 300}},
		{"101", func(p *peer) {
			p.request()
			p.say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
			p.hang()
		}, nil, failure{storage.Invalid, "http_unexpected_status", "the server answered 101 Switching Protocols", 101}},
		{"status with a body that never ends", func(p *peer) {
			p.request()
			p.say("HTTP/1.1 404 Not Found\r\n\r\n")
			for p.say("%s", strings.Repeat(secret, 1000)) {
			}
		}, nil, failure{storage.NotFound, "source_http_404", "the server answered 404 Not Found", 404}},
		{"status with a phrase of its own", func(p *peer) { p.request(); p.say("%s", answer("404 "+secret)) }, nil,
			failure{storage.NotFound, "source_http_404", "the server answered 404 Not Found", 404}},
		{"unknown status", func(p *peer) { p.request(); p.say("%s", answer("599 "+secret)) }, nil,
			failure{storage.Unavailable, "source_http_599", "the server answered 599", 599}},
		{"status out of range", func(p *peer) { p.request(); p.say("%s", answer("999 Denied")) }, nil,
			failure{storage.Invalid, "http_unexpected_status", "the server answered 999", 999}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := hostile(t, tt.script) + "/path" + query
			client := testClient(t, tt.edit)
			_, _, err := readAll(t, client.Get(url, map[string]string{"Authorization": secret}))
			e := tt.want.check(t, err)
			if !strings.HasSuffix(e.Subject, "/path") {
				t.Errorf("subject is %q, want the URL up to its path", e.Subject)
			}
		})
	}
}

func TestGetReturnsWhatWasSent(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		response string
		want     string
		size     int64
	}{
		{"with a length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345", "12345", 5},
		{"bytes beyond the length", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n12345", "123", 3},
		{"empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", 0},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n123\r\n2\r\n45\r\n0\r\n\r\n", "12345", storage.UnknownSize},
		{"until the connection ends", "HTTP/1.0 200 OK\r\n\r\n12345", "12345", storage.UnknownSize},
		{"gzip is not unpacked", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n\x1f\x8b\x08\x00\x00", "\x1f\x8b\x08\x00\x00", 5},
		{"after some 1xx", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1", "1", 1},
		{"no phrase", "HTTP/1.1 200\r\nContent-Length: 1\r\n\r\n1", "1", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := hostile(t, func(p *peer) { p.request(); p.say("%s", tt.response) })
			got, object, err := readAll(t, testClient(t, nil).Get(url, nil))
			if err != nil || got != tt.want || object.Size != tt.size {
				t.Errorf("got %q, size %d, error %v, want %q, %d", got, object.Size, err, tt.want, tt.size)
			}
		})
	}
}

// A peer that is slow but not silent passes, however long it takes in all.
func TestGetFromDrippingServer(t *testing.T) {
	t.Parallel()
	const n = 40
	url := hostile(t, func(p *peer) {
		p.request()
		p.say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", n)
		for range n {
			<-time.After(10 * time.Millisecond)
			p.say(".")
		}
	})
	client := testClient(t, func(o *Options) { o.IdleTimeout = 300 * time.Millisecond })
	got, _, err := readAll(t, client.Get(url, nil))
	if err != nil || len(got) != n {
		t.Errorf("got %d bytes, error %v, want %d", len(got), err, n)
	}
}

// The idle clock does not run while the reader is busy elsewhere.
func TestGetBySlowReader(t *testing.T) {
	t.Parallel()
	url := hostile(t, func(p *peer) { p.request(); p.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345") })
	object, err := testClient(t, func(o *Options) { o.IdleTimeout = 50 * time.Millisecond }).Get(url, nil).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer object.Body.Close()
	<-time.After(200 * time.Millisecond)
	if got, err := io.ReadAll(iotest.OneByteReader(object.Body)); err != nil || string(got) != "12345" {
		t.Errorf("got %q, error %v", got, err)
	}
}

func TestGetMetadata(t *testing.T) {
	t.Parallel()
	url := hostile(t, func(p *peer) {
		p.request()
		p.say("%s", answer("200 OK", `ETag: "abc"`, "Content-Type: text/x", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"))
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
	url := hostile(t, func(p *peer) {
		req := p.request()
		seen <- req.RequestURI
		seen <- strings.Join([]string{req.Host, req.UserAgent(), req.Header.Get("Accept-Encoding"), req.Header.Get("Accept"),
			req.Header.Get("X-Key"), req.Header.Get("Referer")}, "|")
		p.say("%s", answer("200 OK"))
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
	url := hostile(t, func(p *peer) {
		p.request()
		p.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1")
		p.hang()
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
	accepted := make(chan struct{}, 10)
	url := hostile(t, func(p *peer) {
		accepted <- struct{}{}
		for {
			req := p.request()
			if req.URL == nil {
				return
			}
			status := strings.TrimPrefix(req.URL.Path, "/")
			p.say("HTTP/1.1 %s X\r\nContent-Length: 5\r\nLocation: /200\r\n\r\n12345", status)
		}
	})
	client := testClient(t, nil)
	for _, status := range []string{"200", "404", "503", "302", "206", "200"} {
		_, _, err := readAll(t, client.Get(url+"/"+status, nil))
		if ok := status == "200" || status == "302"; ok != (err == nil) {
			t.Errorf("GET of %s = %v", status, err)
		}
	}
	// The transport gives a connection up when its writer is not scheduled for 50 ms, so one is not certain.
	if n := len(accepted); n > 3 {
		t.Errorf("%d connections were made for 7 requests, want 1, at most 3", n)
	}
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

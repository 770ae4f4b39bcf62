package producer

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/producer/uploads"
)

// send writes the head of a part and the beginning of its body, and returns the connection.
func (d *dock) send(path, header, begin string) net.Conn {
	d.Helper()
	conn, err := (&net.Dialer{}).DialContext(d.Context(), "tcp", strings.TrimPrefix(d.url, "http://"))
	if err != nil {
		d.Fatal(err)
	}
	d.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n%s\r\n\r\n%s", path, d.keys["one/copy"], header, begin)
	if err != nil {
		d.Fatal(err)
	}
	return conn
}

func (d *dock) status(conn net.Conn) int {
	d.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodPut})
	if err != nil {
		d.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// TestBrokenPartsLeaveNothing sends parts that stall, end early, come in chunks, or ask first.
func TestBrokenPartsLeaveNothing(t *testing.T) {
	t.Parallel()
	d := newDock(t, Config{}, uploads.Config{})
	d.server.uploadPatience = 300 * time.Millisecond
	s := d.create("k", 10, "")
	part := s.path("/parts/0")
	if got := d.status(d.send(part, "Transfer-Encoding: chunked", "5\r\nxxxxx\r\n0\r\n\r\n")); got != http.StatusLengthRequired {
		t.Errorf("chunked: %d", got)
	}
	if got := d.status(d.send(part, "X-A: no length", "")); got != http.StatusLengthRequired {
		t.Errorf("no length: %d", got)
	}
	if got := d.status(d.send(part, "Content-Length: 10", "xxxxx")); got != http.StatusBadRequest {
		t.Errorf("stalled: %d", got)
	}
	half := d.send(part, "Content-Length: 10", "xxxxx")
	if err := half.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := d.status(half); got != http.StatusBadRequest {
		t.Errorf("ended early: %d", got)
	}
	// Who asks is told the refusal, not to go on.
	if got := d.status(d.send(part, "Content-Length: 9\r\nExpect: 100-continue", "")); got != http.StatusBadRequest {
		t.Errorf("asked with a wrong length: %d", got)
	}
	if got := d.status(d.send(part, "Content-Length: 10\r\nExpect: 100-continue", "")); got != http.StatusContinue {
		t.Errorf("asked: %d", got)
	}
	if now := decode[sessionView](d.call("one/read", "GET", s.path(""), "").want(200, "")); now.Status != "created" || now.Accepted != 0 {
		t.Errorf("something is there: %+v", now)
	}
	if got := d.status(d.send(part, "Content-Length: 10", "xxxxxxxxxx")); got != http.StatusOK {
		t.Errorf("whole: %d", got)
	}
}

// TestPartsAtOnceAreBounded refuses parts beyond what a process receives at once, and takes them when others are done.
func TestPartsAtOnceAreBounded(t *testing.T) {
	t.Parallel()
	d := newDock(t, Config{MaxParts: 1}, uploads.Config{})
	s := d.create("k", 10, "")
	part := s.path("/parts/0")
	held := d.send(part, "Content-Length: 10", "xxxxx")
	d.until("a part is being received", func() bool {
		d.server.partsAtOnce.mu.Lock()
		defer d.server.partsAtOnce.mu.Unlock()
		return d.server.partsAtOnce.used == 1
	})

	if a := d.call("one/copy", "PUT", part, "xxxxxxxxxx").want(503, CodeBusy); a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if _, err := held.Write([]byte("xxxxx")); err != nil {
		t.Fatal(err)
	}
	if got := d.status(held); got != http.StatusOK {
		t.Errorf("held: %d", got)
	}
	d.call("one/copy", "PUT", part, "xxxxxxxxxx").want(200, "")
}

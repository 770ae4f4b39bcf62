package httpstore

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/egress"
)

// secret stands in every query, userinfo and header value of these tests; no error may show it.
const secret = "hunter2-signature"

// query is what the URLs of the tests end in.
const query = "?X-Amz-Signature=" + secret

// peer is one connection of a hostile server, in the hands of a script.
type peer struct {
	net.Conn
	r    *bufio.Reader
	done <-chan struct{} // closed when the test ends
}

// hostile runs a server that lets script do what it wants with each connection, and returns its URL. The
// connection is closed when the script returns or the test ends.
func hostile(t *testing.T, script func(p *peer)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu    sync.Mutex
		conns []net.Conn
		wg    sync.WaitGroup
	)
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				script(&peer{Conn: c, r: bufio.NewReader(c), done: t.Context().Done()})
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return "http://" + ln.Addr().String()
}

// request reads the head of a request; its body is left on the connection.
func (p *peer) request() *http.Request {
	req, err := http.ReadRequest(p.r)
	if err != nil {
		return &http.Request{Header: http.Header{}, Body: http.NoBody}
	}
	return req
}

// say sends text and reports whether the other side is still there.
func (p *peer) say(format string, args ...any) bool {
	_, err := fmt.Fprintf(p, format, args...)
	return err == nil
}

// reset closes the connection with RST.
func (p *peer) reset() {
	p.Conn.(*net.TCPConn).SetLinger(0)
	p.Close()
}

// hang does nothing until the test ends.
func (p *peer) hang() { <-p.done }

// answer is a complete response.
func answer(status string, headers ...string) string {
	return "HTTP/1.1 " + status + "\r\nContent-Length: 0\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
}

// testClient returns a client that may dial loopback. Waits that a test expects to pass are set by edit.
func testClient(t *testing.T, edit func(o *Options)) *Client {
	t.Helper()
	o := Options{
		Guard:          egress.New([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}),
		ConnectTimeout: 20 * time.Second, TLSTimeout: 20 * time.Second,
		HeaderTimeout: 20 * time.Second, IdleTimeout: 20 * time.Second,
	}
	if edit != nil {
		edit(&o)
	}
	c := NewClient(o)
	t.Cleanup(c.Close)
	return c
}

// short are waits that a test expects to pass.
func short(o *Options) { o.HeaderTimeout, o.IdleTimeout = 150*time.Millisecond, 150*time.Millisecond }

// failure is what an error should be.
type failure struct {
	class   storage.Class
	code    string // "source_" stands for closed or reset: the system decides which of them is seen first
	message string // what the message begins with
	status  int
}

// check reports an error that is not what it should be, or that shows a secret.
func (want failure) check(t *testing.T, err error) *storage.Error {
	t.Helper()
	e, ok := errors.AsType[*storage.Error](err)
	if !ok {
		t.Fatalf("error is %v (%T), want a *storage.Error", err, err)
	}
	if want.code == e.Code[:strings.IndexByte(e.Code, '_')+1] && (strings.HasSuffix(e.Code, "_closed") || strings.HasSuffix(e.Code, "_reset")) {
		want.code = e.Code
	}
	if e.Class != want.class || e.Code != want.code || e.Status != want.status {
		t.Errorf("class %d, code %q, status %d, want %d, %q, %d; it says: %v",
			e.Class, e.Code, e.Status, want.class, want.code, want.status, err)
	}
	if !strings.HasPrefix(e.Message, want.message) {
		t.Errorf("message is %q, want it to begin with %q", e.Message, want.message)
	}
	checkDiscreet(t, err)
	return e
}

// checkDiscreet looks for the secret in every form that an error and its causes can be printed in.
func checkDiscreet(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
		if strings.Contains(text, secret) {
			t.Errorf("the error shows the secret: %s", text)
		}
	}
	switch u := err.(type) { //nolint:errorlint // walks the tree itself, a layer at a time
	case interface{ Unwrap() error }:
		checkDiscreet(t, u.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range u.Unwrap() {
			checkDiscreet(t, inner)
		}
	}
}

// readAll opens a source and reads it to its end.
func readAll(t *testing.T, s storage.Source) (string, *storage.Object, error) {
	t.Helper()
	object, err := s.Open(t.Context())
	if err != nil {
		return "", nil, err
	}
	defer object.Body.Close()
	data, err := io.ReadAll(object.Body)
	return string(data), object, err
}

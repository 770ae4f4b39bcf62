package hostilehttp

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// Peer is one connection of a server, in the hands of a script.
type Peer struct {
	net.Conn

	R    *bufio.Reader
	done <-chan struct{} // closed when the test ends
}

// Serve runs a server on loopback that lets script do what it wants with each connection, and returns its host and port. A connection is
// closed when its script returns or the test ends.
func Serve(t testing.TB, script func(p *Peer)) string {
	t.Helper()
	return ServeAt(t, "127.0.0.1:0", script)
}

// ServeAt is [Serve] at an address of the caller's choice.
func ServeAt(t testing.TB, address string, script func(p *Peer)) string {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu    sync.Mutex
		conns []net.Conn
		all   sync.WaitGroup
	)
	done := make(chan struct{})
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			all.Go(func() {
				defer c.Close()
				script(&Peer{Conn: c, R: bufio.NewReader(c), done: done})
			})
		}
	})
	t.Cleanup(func() {
		close(done)
		ln.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return ln.Addr().String()
}

// Request reads the head of a request; its body is left on the connection. After the last one its URL is nil.
func (p *Peer) Request() *http.Request {
	req, err := http.ReadRequest(p.R)
	if err != nil {
		return &http.Request{Header: http.Header{}, Body: http.NoBody}
	}
	return req
}

// Whole reads a request with its body.
func (p *Peer) Whole() *http.Request {
	req := p.Request()
	if req.Header.Get("Expect") != "" {
		p.Say("HTTP/1.1 100 Continue\r\n\r\n")
	}
	_, _ = io.Copy(io.Discard, req.Body)
	return req
}

// Say sends text and reports whether the other side is still there.
func (p *Peer) Say(format string, args ...any) bool {
	_, err := fmt.Fprintf(p, format, args...)
	return err == nil
}

// Flood sends text until the other side has enough.
func (p *Peer) Flood(text string) {
	for p.Say("%s", text) {
	}
}

// Drip sends text at a pace until the other side has enough.
func (p *Peer) Drip(text string, pace time.Duration) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for p.Say("%s", text) {
		select {
		case <-tick.C:
		case <-p.done:
			return
		}
	}
}

// Take reads n bytes of a body.
func (p *Peer) Take(n int64) { _, _ = io.CopyN(io.Discard, p.R, n) }

// Reset closes the connection with RST.
func (p *Peer) Reset() {
	if tcp, ok := p.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	p.Close()
}

// Hang does nothing until the test ends.
func (p *Peer) Hang() { <-p.done }

// Linger reads what still comes, so that an answer that was sent is not lost to a reset.
func (p *Peer) Linger() { _, _ = io.Copy(io.Discard, p.R) }

// Answer is a complete response.
func Answer(status string, headers ...string) string {
	return "HTTP/1.1 " + status + "\r\nContent-Length: 0\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
}

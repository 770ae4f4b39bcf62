package httpstore

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// exchange is one attempt at a request, or at a chain of redirects: what its errors say, what ends it, and
// what was seen of its connection.
type exchange struct {
	call
	client *Client
	ctx    context.Context // ends with the caller's, and with the first wait that passed its limit
	cancel context.CancelCauseFunc
	dog    *watchdog

	method string // of a request that reads
	part   string // the Range that it asks for; "": all of it
	state  string // the If-Range that goes with it; "": whatever state there is

	conn   atomic.Pointer[conn] // of the latest request; nil before it had one
	spoken atomic.Bool          // the peer has answered the latest request with at least one byte
	reused bool                 // the connection of the latest request had served another one
	alone  bool                 // the next request goes over a connection of its own
}

// newExchange begins an exchange. The caller calls cancel when nothing of it is used any more.
func (c *Client) newExchange(ctx context.Context, what call) *exchange {
	ctx, cancel := context.WithCancelCause(ctx)
	return &exchange{call: what, client: c, ctx: ctx, cancel: cancel, dog: newWatchdog(cancel), method: http.MethodGet}
}

// roundTrip sends a request and returns the final answer, whatever its status. Once there is a connection it
// begins the wait patience; who calls roundTrip stops it.
func (x *exchange) roundTrip(req *http.Request, patience *wait) (*http.Response, error) {
	return x.traced(req, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		x.conn.Store(connOf(info.Conn))
		x.dog.start(patience)
	}})
}

// traced is roundTrip whose caller is told of the connection, and keeps it.
func (x *exchange) traced(req *http.Request, trace *httptrace.ClientTrace) (*http.Response, error) {
	x.conn.Store(nil)
	x.spoken.Store(false)
	got := trace.GotConn
	trace.GotConn = func(info httptrace.GotConnInfo) { // on this goroutine
		x.reused = info.Reused
		if c := connOf(info.Conn); info.Reused && c != nil {
			c.reuse(x.ctx)
		}
		got(info)
	}
	trace.GotFirstResponseByte = func() { x.spoken.Store(true) }
	transport := x.client.transport
	if x.alone {
		transport = x.client.unshared
	}
	return transport.RoundTrip(req.WithContext(httptrace.WithClientTrace(x.ctx, trace)))
}

// unansweredWith returns the error for what roundTrip returned instead of an answer.
func (x *exchange) unansweredWith(err error) error {
	// The system tells of a reset once, to a read or to a write, and the transport prefers what the other one
	// found afterwards: a mere end, or the connection closed by the transport itself.
	c := x.conn.Load()
	if reset := c.reset(); reset != nil {
		err = reset
	} else if errors.Is(err, net.ErrClosed) && c != nil && c.ended.Load() {
		err = io.EOF // the end was read, and writing went on until the transport had closed its side
	}
	return x.unanswered(x.ctx, err, x.spoken.Load())
}

// headerWait is the wait for an answer.
func (x *exchange) headerWait() *wait {
	return &wait{name: "header_timeout", what: "no answer", limit: x.client.opts.HeaderTimeout}
}

// discard reads the rest of an answer that nobody wants, so that its connection can be used again, and
// closes it. A long or slow rest costs the connection instead.
func discard(resp *http.Response) {
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols || resp.ContentLength > maxDrain || resp.ContentLength == 0 {
		return
	}
	timer := time.AfterFunc(drainLimit, func() { resp.Body.Close() })
	defer timer.Stop()
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrain+1) // whatever it was, the status has been told
}

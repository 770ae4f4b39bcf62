package httpstore

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
)

// conn is a TCP connection on which a peer that hung up is heard out first.
//
// A receiver may answer 413 and close while the body is still being sent. The answer then lies in our receive
// buffer, but the next write fails, and the transport would report that. So a write that fails because the
// peer is gone pretends to have worked, and the failure is left to the read side, which the transport always
// has pending: it finds either the answer or the end of the connection, at once in both cases.
type conn struct {
	net.Conn
	dropped atomic.Bool    // bytes were dropped: whatever the peer answered, it has not got all
	ended   atomic.Bool    // the peer closed it; over TLS: without having said so (close_notify), or nobody would have read on
	broken  atomic.Uintptr // the syscall.Errno by which a read or a write learnt of a reset; 0 if none did

	reading atomic.Bool   // a Read waits for the peer
	closed  atomic.Bool   // on our side
	quiet   atomic.Bool   // it was used before, and no byte of the next request has been sent: nothing can come that is asked for
	moved   chan struct{} // holds a token after reading or closed became true
}

func newConn(nc net.Conn) *conn { return &conn{Conn: nc, moved: make(chan struct{}, 1)} }

// errSurplus is why a connection is not used again.
var errSurplus = errors.New("bytes came that nothing had asked for")

// reuse is called before a request goes out on a connection that has served another one. What is left of the answer to that, because its
// server sent more than it had announced, would be taken for the answer to this one.
//
// Between two requests the transport reads ahead, and closes a connection on which it finds something. But it offers the connection before
// it has looked. So this waits until it has: until it waits for the peer itself, with nothing in its buffers, or has closed the
// connection. What comes from then on, until the request is sent, is an error of the connection; the transport sends a request that
// reads once more on another one.
func (c *conn) reuse(ctx context.Context) {
	c.quiet.Store(true)
	for !c.reading.Load() && !c.closed.Load() {
		select {
		case <-c.moved:
		case <-ctx.Done():
			return
		}
	}
}

func (c *conn) tell(what *atomic.Bool) {
	what.Store(true)
	select {
	case c.moved <- struct{}{}:
	default: // there is one already
	}
}

// Close closes.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.tell(&c.closed)
	return err //nolint:wrapcheck // the transport's own
}

// Read reads.
func (c *conn) Read(p []byte) (int, error) {
	c.tell(&c.reading)
	n, err := c.Conn.Read(p)
	c.reading.Store(false)
	if n > 0 && c.quiet.Load() {
		return 0, errSurplus
	}
	if !c.note(err) && errors.Is(err, io.EOF) {
		c.ended.Store(true)
	}
	return n, err
}

// Write sends p, or drops it if the peer is gone.
func (c *conn) Write(p []byte) (int, error) {
	c.quiet.Store(false)
	n, err := c.Conn.Write(p)
	if !c.note(err) {
		return n, err // also when the connection was closed on our side
	}
	c.dropped.Store(true)
	return len(p), nil
}

// ReadFrom writes what r gives, in large pieces. The transport has only small ones, and each costs it a write and a
// change of goroutines.
func (c *conn) ReadFrom(r io.Reader) (n int64, err error) {
	pooled, _ := buffers.Get().(*[]byte) // nothing else is ever put
	defer buffers.Put(pooled)
	n, err = io.CopyBuffer(struct{ io.Writer }{c}, r, (*pooled)[:pieceSize])
	return n, err //nolint:wrapcheck // the transport looks at it
}

// note keeps the first reset in mind and reports whether err is one.
func (c *conn) note(err error) bool {
	if err == nil || !isReset(err) {
		return false
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		c.broken.CompareAndSwap(0, uintptr(errno))
	}
	return true
}

// reset returns the error by which the peer broke the connection off, or nil if it did not.
func (c *conn) reset() error {
	if c == nil || c.broken.Load() == 0 {
		return nil
	}
	return syscall.Errno(c.broken.Load())
}

// connOf returns the conn below a connection of the transport.
func connOf(nc net.Conn) *conn {
	if secured, ok := nc.(*tls.Conn); ok {
		nc = secured.NetConn()
	}
	c, _ := nc.(*conn)
	return c
}

// acknowledged returns how many bytes the peer's system has taken, or 0 if this system does not tell.
func (c *conn) acknowledged() int64 {
	if c == nil {
		return 0
	}
	sys, ok := c.Conn.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return 0
	}
	var acked int64
	if raw.Control(func(fd uintptr) { acked = bytesAcked(fd) }) != nil {
		return 0
	}
	return acked
}

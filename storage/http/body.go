package httpstore

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/copyfleet/copyfleet/storage"
)

// errClosed is the cause of a Read after Close.
var errClosed = errors.New("the body was closed")

// body reads the body of an answer. It ends the exchange when it is closed.
//
// The idle clock runs only while a Read waits for the peer: a reader that takes its time between two reads
// does not make the peer late. It starts anew when MinProgress bytes have arrived.
type body struct {
	exchange *exchange
	what     call
	raw      io.ReadCloser
	size     int64 // bytes, or storage.UnknownSize
	closes   *conn // whose end is that of the body, and which can be told from a cut (TLS); nil: it is not so

	read  int64         // bytes handed on
	fresh int64         // bytes since the clock last started anew
	left  time.Duration // what is left on the clock
	idle  *wait
	quiet wait  // for what is left on the clock; changed while nothing is waited for
	err   error // what every further Read returns

	closed atomic.Bool // by Close, which may run during a Read
}

// newBody returns the body of an answer that belongs to x.
func newBody(x *exchange, what call, raw io.ReadCloser, size int64) *body {
	idle := &wait{name: "idle_timeout", what: "no bytes arrived", limit: x.client.opts.IdleTimeout}
	idle.slow = idle.tooSlow(x.client.opts.MinProgress, "arrived")
	return &body{exchange: x, what: what, raw: raw, size: size, idle: idle, left: idle.limit}
}

// Read returns bytes as they were sent, io.EOF after the last one, or a [*storage.Error].
func (b *body) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, b.closedHere()
	}
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	b.exchange.dog.resume(b.late(), b.left, nil, 0)
	n, err := b.raw.Read(p)
	b.left = b.exchange.dog.stop()
	if b.read += int64(n); b.size != storage.UnknownSize && b.read > b.size {
		n, b.read = n-int(b.read-b.size), b.size
		err = errTooLong
	}
	if b.fresh += int64(n); b.fresh >= b.exchange.client.opts.MinProgress {
		b.fresh, b.left = 0, b.idle.limit
	}
	if err != nil {
		b.err = b.ended(err)
	}
	return n, b.err
}

// late is what the clock means when it runs out: that the peer is silent, or that what came was too little. A peer that was silent for more than
// half of the time is told as that.
func (b *body) late() *wait {
	if b.fresh > 0 && b.left < b.idle.limit/2 {
		return b.idle.slow
	}
	b.quiet = *b.idle
	if b.fresh > 0 {
		b.quiet.limit = b.left.Round(time.Millisecond)
	}
	return &b.quiet
}

// errTooLong ends a body that is longer than it should be. Where there is a Content-Length the transport sees to it; a chunked answer to
// a request for a range may be of any length.
var errTooLong = errors.New("the body is longer than what was asked for")

// ended turns what the transport returned at the end into what Read returns.
func (b *body) ended(err error) error {
	if err == io.EOF && (b.size == storage.UnknownSize || b.read == b.size) { //nolint:errorlint // what wraps io.EOF is a broken connection
		if b.closes == nil || !b.closes.ended.Load() {
			return io.EOF
		}
		err = io.ErrUnexpectedEOF // crypto/tls lets it pass, between two records
	}
	if b.closed.Load() {
		return b.closedHere()
	}
	if errors.Is(err, errTooLong) {
		return b.what.fail(storage.Corrupt, "range_wrong", fmt.Sprintf("the server sent more than the %d bytes that were asked for", b.size))
	}
	return b.what.brokenOff(b.exchange.ctx, err, b.read, b.size)
}

// closedHere is what a Read returns after or during Close.
func (b *body) closedHere() error {
	e := b.what.fail(storage.Interrupted, "closed_here", "the body was closed while it was read")
	e.Err = errClosed
	return e
}

// Close ends the exchange. It waits for no byte of the peer, may be called during a Read and more than once,
// and returns nil: whether the body was whole is for Read to say.
func (b *body) Close() error {
	b.closed.Store(true)
	_ = b.raw.Close()
	b.exchange.cancel(nil)
	return nil
}

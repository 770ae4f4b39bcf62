package httpstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/copyfleet/copyfleet/storage"
)

// side is the end of the copy that an error is about; it begins the error's code.
type side string

const (
	source side = "source"
	dest   side = "dest"
	notice side = "webhook"
)

// call is what the errors of an operation say about it.
type call struct {
	side    side
	op      string
	subject string // a redacted URL
}

// fail returns an error of this call. name is the code without the side.
func (c call) fail(class storage.Class, name, message string) *storage.Error {
	return storage.Errorf(class, string(c.side)+"_"+name, c.op, c.subject, "%s", message)
}

// ended returns why an exchange was ended from our side: by a wait that passed its limit, or by the caller.
func (c call) ended(ctx context.Context) *storage.Error {
	cause := context.Cause(ctx)
	if w, ok := errors.AsType[*wait](cause); ok {
		e := c.fail(storage.Timeout, w.name, w.Error())
		e.Hint = w.hint
		return e
	}
	var e *storage.Error
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		e = c.fail(storage.Timeout, "deadline", "Network timeout: the time given for all of it has passed")
	} else {
		e = c.fail(storage.Interrupted, "canceled", "it was canceled")
	}
	e.Err = cause
	if !errors.Is(cause, ctx.Err()) {
		e.Err = fmt.Errorf("%w: %w", ctx.Err(), cause)
	}
	return e
}

// unanswered classifies what the transport returned instead of an answer; spoken tells whether a part of one
// had arrived.
//
// What the transport says about malformed answers has no type and quotes them, so it is dropped.
func (c call) unanswered(ctx context.Context, err error, spoken bool) *storage.Error {
	if ctx.Err() != nil {
		return c.ended(ctx)
	}
	if d, ok := errors.AsType[*dialError](err); ok {
		return c.dialed(d)
	}
	var e *storage.Error
	switch {
	case isReset(err):
		e = c.fail(storage.Unavailable, "reset", "the connection was reset before the answer")
	case errors.Is(err, syscall.ETIMEDOUT):
		e = c.fail(storage.Timeout, "lost", "Network timeout: the peer does not acknowledge what it is sent")
	case !spoken, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e = c.fail(storage.Unavailable, "closed", "the connection was closed before the answer")
	default:
		e = c.fail(storage.Unavailable, "bad_answer", "the answer is not valid HTTP/1.1, or its headers are larger than 64 KiB")
	}
	e.Err = presentable(err)
	return e
}

// dialed returns the error for a connection that could not be made.
func (c call) dialed(d *dialError) *storage.Error {
	e := c.fail(d.class, d.name, d.message)
	if d.class == storage.ForbiddenAddress {
		e.Code = d.name // whose address it was makes no difference
	}
	e.Hint, e.Err = d.hint, d.err
	return e
}

// brokenOff classifies the end of a body that is not its proper end.
func (c call) brokenOff(ctx context.Context, err error, read, size int64) *storage.Error {
	if ctx.Err() != nil {
		return c.ended(ctx)
	}
	var e *storage.Error
	switch {
	case isReset(err):
		e = c.fail(storage.Interrupted, "reset", "the connection was reset "+progress(read, size))
	case errors.Is(err, syscall.ETIMEDOUT):
		e = c.fail(storage.Timeout, "lost", "Network timeout: the peer was lost "+progress(read, size))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e = c.fail(storage.Interrupted, "short", "the body ended "+progress(read, size))
	default:
		e = c.fail(storage.Interrupted, "broken", "the body could not be decoded "+progress(read, size))
	}
	e.Err = presentable(err)
	return e
}

// progress says how far a body came.
func progress(read, size int64) string {
	if size == storage.UnknownSize {
		return fmt.Sprintf("after %d bytes, before its end", read)
	}
	return fmt.Sprintf("after %d of %d bytes", read, size)
}

// isReset reports whether the peer broke the connection off.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// presentable returns the part of a cause that may be shown: of the types that are known to quote neither
// URLs nor what a peer sent, nil if there is none.
func presentable(err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return &net.DNSError{
			Err: dns.Err, Name: dns.Name, // not the server that was asked: it is ours
			IsTimeout: dns.IsTimeout, IsTemporary: dns.IsTemporary, IsNotFound: dns.IsNotFound,
		}
	}
	if cert, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return cert.Err
	}
	if alert, ok := errors.AsType[tls.AlertError](err); ok {
		return alert
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return io.ErrUnexpectedEOF
	}
	return nil
}

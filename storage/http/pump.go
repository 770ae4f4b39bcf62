package httpstore

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/copyfleet/copyfleet/storage"
)

// maxEmptyReads is how many reads in a row may return neither bytes nor an error.
const maxEmptyReads = 100

// buffers hold the bytes between a content and its connection. One byte more than a piece: the last one is held back, and
// with less room beside it than a connection's buffer every second read would be of a single byte.
var buffers = sync.Pool{New: func() any { b := make([]byte, pieceSize+1); return &b }}

// pump feeds the body to the transport. The last byte of the content and what follows it wait until the
// content turned out whole and ready. Nothing is read before the receiver is ready for the body.
func (t *transfer) pump() error {
	select {
	case <-t.answered:
		return errUnwanted
	case <-t.wanted:
		t.dog.stop()
	}
	if err := t.write(t.prefix); err != nil {
		return err
	}
	pooled, _ := buffers.Get().(*[]byte) // nothing else is ever put
	defer buffers.Put(pooled)
	last, err := t.copyAllButLast(*pooled)
	if err != nil {
		return err
	}
	if err := t.write(last); err != nil {
		return err
	}
	return t.write(t.suffix)
}

// copyAllButLast hands all of the content to the transport except its last byte, which it returns as a part
// of buf once the content has been concluded.
func (t *transfer) copyAllButLast(buf []byte) (last []byte, err error) {
	var total int64
	held := 0 // bytes at the start of buf that were read and not written: one, except at first
	for {
		n, err := t.read(buf[held:])
		if total += int64(n); total > t.content.Size {
			return nil, t.wrongLength(total)
		}
		if err != nil && err != io.EOF { //nolint:errorlint // an error that wraps io.EOF is a broken connection, not the end
			return nil, t.unreadable(err)
		}
		if have := held + n; have > 0 {
			if err := t.write(buf[:have-1]); err != nil {
				return nil, err
			}
			buf[0], held = buf[have-1], 1
		}
		if err != nil {
			return buf[:held], t.conclude(total)
		}
	}
}

// conclude is the last point at which an upload can be prevented: it checks the length and asks Ready.
func (t *transfer) conclude(total int64) error {
	if total != t.content.Size {
		return t.wrongLength(total)
	}
	return t.ask()
}

// ask asks Ready, unless nobody waits for the upload any more.
func (t *transfer) ask() error {
	if t.ctx.Err() != nil {
		return errUnwanted
	}
	if t.content.Ready == nil {
		return nil
	}
	if err := t.content.Ready(); err != nil {
		return t.unreadable(err)
	}
	return nil
}

// read reads from the content until there is a byte or an error.
func (t *transfer) read(p []byte) (int, error) {
	for range maxEmptyReads {
		if n, err := t.content.Body.Read(p); n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

// write hands bytes to the transport, which takes them when the connection took the ones before.
func (t *transfer) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	select {
	case <-t.answered:
		return errUnwanted
	default:
	}
	t.dog.startWhile(t.idleWait(), t.acknowledged, t.client.opts.MinProgress)
	_, err := t.pipe.Write(p)
	t.dog.stop()
	if err != nil {
		return errUnwanted
	}
	return nil
}

// acknowledged returns how many bytes the receiver's system has taken on the connection.
func (t *transfer) acknowledged() int64 { return t.conn.Load().acknowledged() }

// idleWait is the wait for the receiver to take bytes.
func (t *transfer) idleWait() *wait {
	w := &wait{name: "idle_timeout", what: "the receiver took no bytes", limit: t.client.opts.IdleTimeout}
	w.slow = w.tooSlow(t.client.opts.MinProgress, "were taken")
	return w
}

// wrongLength returns the error for content that has not the length it was announced with. It is the fault of
// the source, and its code says so.
func (t *transfer) wrongLength(total int64) error {
	from := t.call
	from.side = source
	if total > t.content.Size {
		return from.fail(storage.Corrupt, "long",
			fmt.Sprintf("the content is longer than the %d bytes announced", t.content.Size))
	}
	return from.fail(storage.Interrupted, "short",
		fmt.Sprintf("the content ended after %d of %d bytes", total, t.content.Size))
}

// unreadable wraps an error that Content.Body or Content.Ready returned. A class that it has stays, for it
// decides what happens next.
func (t *transfer) unreadable(err error) error {
	if _, ok := errors.AsType[*storage.Error](err); ok {
		return fmt.Errorf("%s %s: %w", t.op, t.subject, err)
	}
	if t.ctx.Err() != nil {
		e := t.ended(t.ctx)
		e.Err = fmt.Errorf("%w: %w", t.ctx.Err(), err)
		return e
	}
	e := t.fail(storage.Internal, "content", "what should be sent could not be read, or was held back")
	e.Err = err
	return e
}

package httpstore

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/conc/panics"
)

// shortBody is the size in bytes up to which a body is read before its request is sent. Then the transport needs no other goroutine to
// give it the bytes, and writes them with the headers: most of what a small upload costs is changes of threads.
const shortBody = 64 << 10

// settleLimit is how long an answer waits for the transport to tell what became of the body.
const settleLimit = 5 * time.Second

var shortBuffers = sync.Pool{New: func() any { return new([shortBody]byte) }}

// sendShort sends a request whose body is short, on the goroutine of the caller.
//
// Ready is asked when there is a connection, and the transport has no byte of the body before that: without it, it has nothing to
// send, notices that, and closes the connection.
func (t *transfer) sendShort(req *http.Request) (*http.Response, error) {
	buffer, _ := shortBuffers.Get().(*[shortBody]byte) // nothing else is ever put
	body, err := t.whole(buffer[:0])
	if err != nil {
		shortBuffers.Put(buffer)
		return nil, err
	}
	var (
		offered  bytes.Reader // what the transport sends; nothing until it is allowed
		asked    bool
		refusal  error
		thrown   panics.Catcher
		taken    atomic.Bool              // the transport has taken the last byte
		released = make(chan struct{}, 1) // told when it does not touch the body any more
	)
	trace := &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { // on this goroutine
			t.conn.Store(connOf(info.Conn))
			asked, refusal = true, errUnwanted
			thrown.Try(func() { refusal = t.ask() })
			if refusal == nil {
				offered.Reset(body)
				t.dog.startWhile(t.headerWait(), t.acknowledged, t.client.opts.MinProgress)
			}
		},
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			taken.Store(info.Err == nil)
			select {
			case released <- struct{}{}:
			default:
			}
		},
	}
	req.Body = io.NopCloser(&offered) // the transport knows that this is in memory; of others it sends the headers by themselves
	resp, err := t.traced(req, trace)
	t.dog.stop()
	if free := t.settled(released, resp); free || !asked {
		shortBuffers.Put(buffer)
	}
	t.sent = taken.Load()
	if refusal != nil && resp != nil { // to nothing
		resp.Body.Close()
	}
	thrown.Repanic()
	switch {
	case errors.Is(refusal, errUnwanted):
		return nil, t.ended(t.ctx)
	case refusal != nil:
		return nil, refusal
	case err != nil:
		return nil, t.unansweredWith(err)
	}
	return resp, nil
}

// settled reports whether the transport has done with the body. A receiver may answer before it says so: the end of a body that did not fit beside
// the headers is on its way before that, and the answer is early only if the rest is not taken in time either.
func (t *transfer) settled(released <-chan struct{}, resp *http.Response) bool {
	select {
	case <-released:
		return true
	default:
	}
	if resp == nil || resp.StatusCode > 299 {
		return false
	}
	timer := time.NewTimer(settleLimit)
	defer timer.Stop()
	select {
	case <-released:
		return true
	case <-timer.C:
	case <-t.ctx.Done():
	}
	return false
}

// whole appends the body of the request to an empty buffer that has room for it.
func (t *transfer) whole(buffer []byte) ([]byte, error) {
	buffer = append(buffer, t.prefix...)
	begin := len(buffer)
	end := begin + int(t.content.Size)
	var extra [1]byte // where what is too long shows
	for err := error(nil); err == nil; {
		into := buffer[len(buffer):end]
		if len(into) == 0 {
			into = extra[:]
		}
		var n int
		n, err = t.read(into)
		if err != nil && err != io.EOF { //nolint:errorlint // an error that wraps io.EOF is a broken connection, not the end
			return nil, t.unreadable(err)
		}
		if len(buffer) == end && n > 0 {
			return nil, t.wrongLength(t.content.Size + int64(n))
		}
		buffer = buffer[:len(buffer)+n]
	}
	if len(buffer) < end {
		return nil, t.wrongLength(int64(len(buffer) - begin))
	}
	return append(buffer, t.suffix...), nil
}

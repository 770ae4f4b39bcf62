package httpstore

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/copyfleet/copyfleet/storage"
)

var (
	// errAborted is what the transport reads in place of the rest of a body; it makes it close the connection.
	errAborted = errors.New("the upload was aborted")
	// errUnwanted ends the pump when the transport takes no more. The reason is in what RoundTrip returned.
	errUnwanted = errors.New("the rest of the body is not wanted")
)

// transfer is an upload under way.
//
// Two goroutines share the work. The transport runs on one of ours, which send waits for; it reads the body
// from a pipe. The other end of the pipe is fed by the goroutine that called Put, so that a panic in
// Content.Body or Content.Ready meets the caller's own recover, and so that neither is touched after Put.
// What is short needs neither goroutine nor pipe (short.go).
type transfer struct {
	*exchange
	content        storage.Content
	prefix, suffix []byte

	pipe     *io.PipeWriter
	wanted   chan struct{} // closed when the transport first reads the body: the receiver is ready for it
	answered chan struct{} // closed when RoundTrip has returned; then resp or err is set
	resp     *http.Response
	err      error
	sent     bool // the transport has taken the last byte
}

// send sends the request with its body and returns the answer. The error is that of the content, if it has
// one: then the upload was aborted for it.
func (t *transfer) send(req *http.Request) (*http.Response, error) {
	if t.ctx.Err() != nil {
		return nil, t.ended(t.ctx)
	}
	if req.ContentLength == 0 {
		return t.sendEmpty(req)
	}
	if req.ContentLength <= shortBody {
		return t.sendShort(req)
	}
	patience := t.idleWait()
	patience.limit += continueLimit // the transport may wait that long before it offers the body
	defer t.start(req, patience)()
	if err := t.pump(); err == nil {
		t.sent = true
	} else if !errors.Is(err, errUnwanted) {
		return nil, err
	}
	t.dog.startWhile(t.headerWait(), t.acknowledged, t.client.opts.MinProgress)
	return t.answer()
}

// sendEmpty sends a request without a body. The receiver may act upon it at once, so all that could prevent it
// comes first.
func (t *transfer) sendEmpty(req *http.Request) (*http.Response, error) {
	n, err := t.read(make([]byte, 1))
	if n == 0 && err != io.EOF { //nolint:errorlint // an error that wraps io.EOF is a broken connection, not the end
		return nil, t.unreadable(err)
	}
	if err := t.conclude(int64(n)); errors.Is(err, errUnwanted) {
		return nil, t.ended(t.ctx)
	} else if err != nil {
		return nil, err
	}
	t.sent = true
	defer t.start(req, t.headerWait())()
	return t.answer()
}

// answer waits for the transport. Its wait has been started.
func (t *transfer) answer() (*http.Response, error) {
	<-t.answered
	t.dog.stop()
	if t.err != nil {
		return nil, t.unansweredWith(t.err)
	}
	resp := t.resp
	t.resp = nil // the caller's now
	return resp, nil
}

// start runs the transport on a goroutine of its own. The function it returns ends it and must be called.
func (t *transfer) start(req *http.Request, patience *wait) (end func()) {
	t.wanted, t.answered = make(chan struct{}), make(chan struct{})
	reader, writer := io.Pipe()
	t.pipe = writer
	if req.ContentLength > 0 {
		req.Body = &pipedBody{PipeReader: reader, left: req.ContentLength, wanted: t.wanted}
	}
	go func() {
		defer close(t.answered)
		defer reader.CloseWithError(errUnwanted) // a pump that waits for the receiver need not any more
		t.resp, t.err = t.roundTrip(req, patience)
	}()
	// The transport does not return while it waits for the body, nor does a canceled context wake the pump.
	unhook := context.AfterFunc(t.ctx, func() { reader.CloseWithError(errUnwanted) })
	return func() {
		t.abort()
		unhook()
	}
}

// abort ends the exchange so that the receiver is left with a short body, and waits for the transport. Once
// there is an answer it does nothing, except to end a body that was still being sent.
func (t *transfer) abort() {
	t.pipe.CloseWithError(errAborted)
	select {
	case <-t.answered:
	default:
		t.cancel(errAborted)
		<-t.answered
	}
	if t.resp != nil {
		t.resp.Body.Close()
	}
}

// pipedBody is the body of a request, read from a pipe. It tells when it is first read, and it knows its end by
// itself: with its last byte the receiver may answer, and what is then done to the pipe must not look to the
// transport like an upload that broke off.
type pipedBody struct {
	*io.PipeReader
	left   int64 // bytes until the end
	once   sync.Once
	wanted chan struct{}
}

// Read reads from the pipe.
func (b *pipedBody) Read(p []byte) (int, error) {
	b.once.Do(func() { close(b.wanted) })
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.PipeReader.Read(p)
	b.left -= int64(n)
	return n, err
}

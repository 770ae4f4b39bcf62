package resume

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/storage"
)

const (
	maxFailures = 3                      // in a row, without a new byte
	maxTimeouts = 1                      // without worth between them: each cost the whole of a limit, in a slot
	worth       = 1 << 20                // bytes after which a timeout is forgotten
	maxResumes  = 1000                   // of one body
	firstWait   = 100 * time.Millisecond // before the first try to go on; twice as long before each further one
	longestWait = 5 * time.Second        // that a source may ask for; if it wants more, the item waits without a slot
)

// Options say who is told.
type Options struct {
	// Resumed is called when a body goes on, with the offset in the source and with what had broken it off. It runs on the
	// goroutine that reads. nil: nobody is told.
	Resumed func(offset int64, cause error)
}

// Open opens a source. Its body goes on by itself where that is possible.
func Open(ctx context.Context, source storage.Source, opts Options) (*storage.Object, error) {
	object, err := source.Open(ctx)
	if err != nil {
		return nil, err
	}
	ranger, ok := source.(storage.Ranger)
	if mark := object.Mark(); ok && mark.Strong() {
		object.Body = newBody(ctx, ranger, mark, opts, object.Body, 0, mark.Size)
	}
	return object, nil
}

// OpenRange opens a part of a source, as [storage.Ranger] does. Its body goes on by itself.
func OpenRange(ctx context.Context, source storage.Ranger, mark storage.Mark, offset, length int64, opts Options) (*storage.Object, error) {
	object, err := source.OpenRange(ctx, mark, offset, length)
	if err != nil {
		return nil, err
	}
	if mark.Strong() {
		object.Body = newBody(ctx, source, mark, opts, object.Body, offset, offset+object.Size)
	}
	return object, nil
}

// body is a body that goes on.
type body struct {
	ctx    context.Context // ends with the caller's, and with Close
	cancel context.CancelFunc
	source storage.Ranger
	mark   storage.Mark
	opts   Options

	// Owned by the goroutine that reads.
	at, end  int64 // offsets in the source
	broken   error // what broke the open body off; nil: nothing
	failed   error // what every further Read returns
	failures int   // in a row, without a new byte
	timeouts int   // in a row, without worth
	since    int64 // bytes since the last failure
	resumes  int

	mu     sync.Mutex // Close may come from another goroutine
	open   io.ReadCloser
	closed bool
}

func newBody(ctx context.Context, source storage.Ranger, mark storage.Mark, opts Options, open io.ReadCloser, at, end int64) *body {
	ctx, cancel := context.WithCancel(ctx)
	return &body{ctx: ctx, cancel: cancel, source: source, mark: mark, opts: opts, open: open, at: at, end: end}
}

// Read returns the bytes of the source, each once.
func (b *body) Read(p []byte) (int, error) {
	if b.failed != nil {
		return 0, b.failed
	}
	for {
		if b.broken != nil {
			if b.failed = b.resume(); b.failed != nil {
				return 0, b.failed
			}
		}
		b.mu.Lock()
		open := b.open
		b.mu.Unlock()
		n, err := open.Read(p)
		b.arrived(int64(n))
		if err == nil || err == io.EOF { // not what wraps io.EOF: that is a body that broke off
			return n, err
		}
		b.broken = err
		if n > 0 {
			return n, nil
		}
	}
}

// arrived notes new bytes.
func (b *body) arrived(n int64) {
	if n == 0 {
		return
	}
	b.at, b.failures = b.at+n, 0
	if b.since += n; b.since >= worth {
		b.timeouts = 0
	}
}

// resume opens the rest. It returns why that is not to be, or cannot be.
func (b *body) resume() error {
	cause := b.broken
	if b.at == b.end {
		return io.EOF // nothing is missing but the end
	}
	for err := cause; ; {
		if b.isClosed() || b.ctx.Err() != nil {
			return err // of the body or the source, which say whose end it was
		}
		wait, again := b.again(err)
		if !again {
			return err
		}
		b.pause(wait)
		object, failed := b.source.OpenRange(b.ctx, b.mark, b.at, b.end-b.at)
		if failed == nil {
			return b.continued(object.Body, cause)
		}
		e, ok := errors.AsType[*storage.Error](failed)
		if ok && (e.Class == storage.Corrupt || e.Class == storage.Invalid || e.Code == storage.CodeSourceShort) {
			return lasting(cause, e)
		}
		err = failed
	}
}

// lasting returns the error for a body that broke off and cannot be continued, because the source is in another state, has no more, or does
// not give parts. Another attempt may read all of it, so the class is that of what broke it off.
func lasting(cause error, e *storage.Error) error {
	told := *e
	told.Op, told.Err = "read", nil
	if first, ok := errors.AsType[*storage.Error](cause); ok {
		told.Class, told.Err = first.Class, first.Err
		told.Message = first.Message + ", and it could not be continued there: " + e.Message
	}
	return &told
}

// again reports whether a failure is one that may pass, and how long to wait for that.
func (b *body) again(err error) (wait time.Duration, again bool) {
	e, ok := errors.AsType[*storage.Error](err)
	if !ok || b.resumes >= maxResumes {
		return 0, false
	}
	switch e.Class {
	case storage.Timeout:
		b.timeouts++
	case storage.Interrupted, storage.Unavailable, storage.Throttled:
	case storage.Internal, storage.NotFound, storage.Denied, storage.Invalid, storage.Conflict, storage.TooLarge, storage.NoSpace,
		storage.ForbiddenAddress, storage.Corrupt:
		return 0, false
	}
	b.failures, b.since = b.failures+1, 0
	if b.failures > maxFailures || b.timeouts > maxTimeouts || e.RetryAfter > longestWait {
		return 0, false
	}
	limit := firstWait << (b.failures - 1)
	wait = limit/2 + rand.N(limit/2) //nolint:gosec // jitter needs no secrecy
	return max(wait, e.RetryAfter), true
}

// pause waits, unless the context ends or Close is called.
func (b *body) pause(wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.ctx.Done():
	}
}

// continued puts the rest in the place of what broke off.
func (b *body) continued(rest io.ReadCloser, cause error) error {
	b.mu.Lock()
	former := b.open
	if !b.closed {
		b.open = rest
	}
	closed := b.closed
	b.mu.Unlock()
	if closed {
		rest.Close()
		e := storage.Errorf(storage.Interrupted, "source_closed_here", "read", "source", "the body was closed while it was read")
		e.Err = os.ErrClosed
		return e
	}
	former.Close() // nothing more can be had of it
	b.broken = nil
	b.resumes++
	if b.opts.Resumed != nil {
		b.opts.Resumed(b.at, cause)
	}
	return nil
}

func (b *body) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// Close ends what is under way. It may be called during a Read and more than once.
func (b *body) Close() error {
	b.mu.Lock()
	b.closed = true
	open := b.open
	b.mu.Unlock()
	b.cancel()
	return open.Close()
}

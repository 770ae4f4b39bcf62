// Package limited holds sources and destinations to a number of bytes a second, which many of them may share.
//
// What is read passes in pieces no larger than a burst, and waits for each as long as it must; memory does not grow, and no byte is read
// ahead of its turn but one piece. Waits end with the context. Over seconds the rate holds; within a burst, a tenth of a second at the
// rate but no less than 4 KiB, it does not. A copy by the store itself passes no byte here and is not limited. A file that the system could
// copy by itself is read, so that it can be held back.
package limited

import (
	"context"
	"io"

	"golang.org/x/time/rate"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/decorate"
)

// Limits of a burst, in bytes: a smaller one costs a timer for little, a larger one is a number of its own.
const (
	leastBurst = 4 << 10
	mostBurst  = 1 << 30
	burstShare = 10 // of a second
)

// New returns a limiter of bytes a second, which many may share; nil, which limits nothing, for 0 and less.
func New(bytes float64) *rate.Limiter {
	if bytes <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(bytes), int(min(max(bytes/burstShare, leastBurst), mostBurst)))
}

// Source limits what is read of a source, by each of the limiters; a nil one limits nothing.
func Source(inner storage.Source, limiters ...*rate.Limiter) storage.Source {
	if !some(limiters) {
		return inner
	}
	return decorate.Source(inner, hooks(limiters))
}

// Destination limits what is written to a destination, by each of the limiters; a nil one limits nothing.
func Destination(inner storage.Destination, limiters ...*rate.Limiter) storage.Destination {
	if !some(limiters) {
		return inner
	}
	return decorate.Destination(inner, hooks(limiters))
}

// Reader limits what is read of a reader, by each of the limiters; a nil one limits nothing.
func Reader(ctx context.Context, inner io.Reader, limiters ...*rate.Limiter) io.Reader {
	if !some(limiters) {
		return inner
	}
	return &reader{ctx: ctx, inner: inner, limiters: limiters}
}

func hooks(limiters []*rate.Limiter) decorate.Hooks {
	return decorate.Hooks{Body: func(ctx context.Context, op decorate.Op, body io.Reader) io.Reader {
		if op == decorate.OpenUpload {
			return body // it comes from no peer
		}
		return Reader(ctx, body, limiters...)
	}}
}

func some(limiters []*rate.Limiter) bool {
	for _, l := range limiters {
		if l != nil {
			return true
		}
	}
	return false
}

// reader pays for what it read before it hands it out: what a Read will give is not known before.
type reader struct {
	ctx      context.Context
	inner    io.Reader
	limiters []*rate.Limiter
}

// Read reads at most a burst.
func (r *reader) Read(p []byte) (int, error) {
	for _, l := range r.limiters {
		if l != nil {
			p = p[:min(len(p), l.Burst())]
		}
	}
	n, err := r.inner.Read(p)
	for _, l := range r.limiters {
		if l == nil || n == 0 {
			continue
		}
		if waited := r.wait(l, n); waited != nil {
			return 0, waited
		}
	}
	return n, err
}

// wait lets n bytes pass. A burst that was made smaller meanwhile takes them piece by piece.
func (r *reader) wait(l *rate.Limiter, n int) error {
	for n > 0 {
		piece := min(n, max(1, l.Burst()))
		if err := l.WaitN(r.ctx, piece); err != nil {
			return &storage.Error{
				Class: storage.Interrupted, Code: "interrupted", Op: "read", Subject: "limited",
				Message: "it was stopped while it waited for its turn", Err: cause(r.ctx, err),
			}
		}
		n -= piece
	}
	return nil
}

// cause is why a wait ended: a limiter gives up early on a deadline that it would miss.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

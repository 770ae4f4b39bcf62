package worker

import (
	"context"
	"errors"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/resume"
)

// readBack digests an object that others wrote parts of. It is for the receipt only: the object is visible, and its store has compared the
// parts. So an item that cannot be read back has come to its destination all the same, and its receipt has no digest. etag is what
// the store said of the object; "": nothing.
func (o *owner) readBack(ctx context.Context, etag string) error {
	if o.chain.idle() || o.chain.at == o.plan.Size {
		return nil
	}
	for try := 1; ; try++ {
		err := o.readOnce(ctx, etag)
		if err == nil {
			return nil
		}
		o.chain.reset()
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, errStopped): // too late
		case cause != nil:
			return cause //nolint:wrapcheck // says whose wish it was; the next owner reads it
		case isCode(err, codeDestinationSize):
			return err
		default:
			if failure, retryAfter := explain(err); decide(failure.Class, try, partTries) == retry {
				o.w.pause(ctx, min(backoff(try, retryAfter), partBackoff))
				continue
			}
		}
		o.w.cfg.Logger.Warn("an object was not read back; its receipt has no digest", "batch", o.j.work.Batch, "index", o.j.work.Index, "error", err)
		return nil
	}
}

const codeDestinationSize = "destination_size_mismatch"

func isCode(err error, code string) bool {
	e, ok := errors.AsType[*storage.Error](err)
	return ok && e.Code == code
}

func (o *owner) readOnce(ctx context.Context, etag string) error {
	object, err := resume.Open(ctx, o.w.copier.source(transfer{org: o.t.org, src: o.t.dest, visit: o.t.visit}), resume.Options{})
	if err != nil {
		return err //nolint:wrapcheck // of the destination
	}
	defer func() { _ = object.Body.Close() }() // only read
	if etag != "" && object.ETag != "" && object.ETag != etag {
		return storage.Errorf(storage.Conflict, "destination_replaced", "verify", o.t.dest.Redacted(), "it was replaced by somebody else right away")
	}
	o.chain.reset()
	got, err := o.chain.copy(stopping{ctx, object.Body})
	if err != nil {
		return err //nolint:wrapcheck // of the destination
	}
	if got != o.plan.Size {
		return storage.Errorf(storage.Corrupt, codeDestinationSize, "verify", o.t.dest.Redacted(), "it has %d bytes, %d were written", got, o.plan.Size)
	}
	return nil
}

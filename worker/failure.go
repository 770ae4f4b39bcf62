package worker

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// failureError is an error that says itself what the receipt is to show.
type failureError struct{ failure protocol.Failure }

func (e *failureError) Error() string { return e.failure.Message }

var classes = map[storage.Class]protocol.Class{
	storage.Internal:         protocol.Internal,
	storage.NotFound:         protocol.NotFound,
	storage.Denied:           protocol.Denied,
	storage.Invalid:          protocol.Invalid,
	storage.Conflict:         protocol.Conflict,
	storage.TooLarge:         protocol.TooLarge,
	storage.NoSpace:          protocol.NoSpace,
	storage.ForbiddenAddress: protocol.ForbiddenAddress,
	storage.Corrupt:          protocol.Corrupt,
	storage.Throttled:        protocol.Throttled,
	storage.Unavailable:      protocol.Unavailable,
	storage.Timeout:          protocol.Timeout,
	storage.Interrupted:      protocol.Interrupted,
}

// explain turns an error of a copy into what the receipt shows. The texts are those of the published page
// where it has one: "Failed to download file: 404 Not Found", "Failed to upload file: 403 Forbidden",
// "File not found in sandbox: /path", "Network timeout …".
func explain(err error) (*protocol.Failure, time.Duration) {
	failure, retryAfter := describe(err)
	clipped := failure.Clipped()
	return &clipped, retryAfter
}

// placedError is an error with the place that it happened at.
type placedError struct {
	host string
	hint string // that fits the item better than that of the code; ""
	err  error
}

func (e *placedError) Error() string { return e.err.Error() }
func (e *placedError) Unwrap() error { return e.err }

// partError is an error of one part of an item.
type partError struct {
	number int
	err    error
}

func ofPart(number int, err error) error { return &partError{number: number, err: err} }

func (e *partError) Error() string { return e.err.Error() }
func (e *partError) Unwrap() error { return e.err }

// blame notes whose failure an error of a copy is.
func blame(t transfer, err error) error {
	place := t.dest
	if source, fromSource := errors.AsType[*sourceError](err); fromSource {
		place = t.src
		if t.src.Type == protocol.StagedUpload {
			err = &sourceError{ofOwnStore(source.err)}
		}
	}
	hint := ""
	if t.src.Type == protocol.StagedUpload && isExists(err) { // sessions have policies of their own
		hint = hintUploadExists
	}
	return &placedError{host: hostOf(place), hint: hint, err: err}
}

// ofOwnStore is an error of the fleet's own store. That it refuses this worker is no fault of the upload, and passes when somebody mends it, or at
// another worker: nothing that was staged is given up for it.
func ofOwnStore(err error) error {
	e, ok := errors.AsType[*storage.Error](err)
	if !ok || e.Class != storage.Denied {
		return err
	}
	passing := *e
	passing.Class = storage.Unavailable
	passing.Hint = "The worker's S3 key must be able to read and write the staging bucket."
	return &passing
}

// hostOf names the side that failed, for people who look for what failures have in common. It holds no credential.
func hostOf(place protocol.Location) string {
	switch place.Type {
	case protocol.SandboxFile, protocol.SandboxTree:
		return "sandbox " + string(place.Sandbox)
	case protocol.StagedUpload:
		return "staged uploads"
	case protocol.Object:
		return "s3://" + place.Bucket
	case protocol.HTTPGet, protocol.HTTPPut, protocol.HTTPPostForm:
	}
	return place.Host()
}

func describe(err error) (*protocol.Failure, time.Duration) {
	failure, retryAfter := classify(err)
	if placed, ok := errors.AsType[*placedError](err); ok {
		failure.Host = orDefault(failure.Host, placed.host) // that of a part names the side that failed there
		failure.Hint = orDefault(failure.Hint, placed.hint)
	}
	if part, ok := errors.AsType[*partError](err); ok && failure.Part == 0 {
		failure.Part = part.number
	}
	failure.Hint = orDefault(failure.Hint, hintFor(err, failure))
	return failure, retryAfter
}

func classify(err error) (*protocol.Failure, time.Duration) {
	if own, ok := errors.AsType[*failureError](err); ok {
		return &own.failure, 0
	}
	source, fromSource := errors.AsType[*sourceError](err)
	if fromSource {
		err = source.err // a destination wraps what its source did; the source's own words count
	}
	e, ok := errors.AsType[*storage.Error](err)
	if !ok {
		if errors.Is(err, context.DeadlineExceeded) {
			return &protocol.Failure{Class: protocol.Timeout, Code: "timeout", Message: "Network timeout", Cause: err.Error()}, 0
		}
		return &protocol.Failure{Class: protocol.Internal, Code: "internal", Message: prefix(fromSource, "") + "internal error", Cause: err.Error()}, 0
	}
	f := &protocol.Failure{Class: classes[e.Class], Code: e.Code, Status: e.Status, Hint: e.Hint, Cause: e.Error()}
	switch {
	case e.Status != 0:
		f.Message = prefix(fromSource, e.Op) + statusLine(e)
	case e.Code == "sandbox_file_not_found", strings.HasPrefix(e.Message, "Network timeout"):
		f.Message = e.Message
	case e.Subject != "" && !strings.Contains(e.Message, e.Subject):
		f.Message = prefix(fromSource, e.Op) + e.Subject + ": " + e.Message
	default:
		f.Message = prefix(fromSource, e.Op) + e.Message
	}
	return f, e.RetryAfter
}

func prefix(fromSource bool, op string) string {
	switch {
	case fromSource:
		return "Failed to download file: "
	case op == "notify":
		return "Webhook not delivered: "
	}
	return "Failed to upload file: "
}

func statusLine(e *storage.Error) string {
	if strings.HasPrefix(e.StatusText, strconv.Itoa(e.Status)) {
		return e.StatusText
	}
	return strings.TrimSpace(strconv.Itoa(e.Status) + " " + e.StatusText)
}

// Package decorate puts something around each use of a source or a destination, once for all decorators, so that each of them is its
// own few lines and none forgets a way in.
//
// What the inner one can do, the decorated one can: a storage.Ranger, a storage.Digested, a storage.PartDestination with or without
// storage.UploadReader stay so, and are told by a type assertion as before. Of what has an answer for "I cannot" the decorated one has the
// method always: Stat and Look, CopyFrom, Discard and DiscardUploads, the last two without hooks. Whoever looks at a source from beside, as a
// copy by the store does, gets the inner one from [Inner].
package decorate

import (
	"context"
	"io"

	"github.com/copyfleet/copyfleet/storage"
)

// Op names a method.
type Op string

// The methods that hooks are put around. Read and Close of a body are not among them.
const (
	Open       Op = "open"
	OpenRange  Op = "open_range"
	Stat       Op = "stat"
	Digests    Op = "digests"
	Put        Op = "put"
	Look       Op = "look"
	Begin      Op = "begin"
	PutPart    Op = "put_part"
	Complete   Op = "complete"
	Abort      Op = "abort"
	OpenUpload Op = "open_upload"
	CopyFrom   Op = "copy_from"
)

// Ops lists all methods.
var Ops = []Op{Open, OpenRange, Stat, Digests, Put, Look, Begin, PutPart, Complete, Abort, OpenUpload, CopyFrom}

// Hooks are what is put around. Each may be nil.
type Hooks struct {
	// Call is called in place of each method, and calls it by call. It may change the error, and may not call it twice: a body is
	// read once.
	Call func(ctx context.Context, op Op, call func() error) error
	// Body is what is read in place of a body: that of a source, or what a destination is given. ctx is the method's.
	Body func(ctx context.Context, op Op, body io.Reader) io.Reader
}

func (h Hooks) call(ctx context.Context, op Op, call func() error) error {
	if h.Call == nil {
		return call()
	}
	return h.Call(ctx, op, call)
}

func (h Hooks) body(ctx context.Context, op Op, body io.Reader) io.Reader {
	if h.Body == nil {
		return body
	}
	return h.Body(ctx, op, body)
}

// closer puts a hook around what is read of a body, which is closed as before.
type closer struct {
	io.Reader
	io.Closer
}

// sendCloser is one of a file that the system can copy by itself: what Body gave in its place can do so too, or is the file itself.
type sendCloser struct {
	storage.FileSender
	io.Closer
}

func (h Hooks) closing(ctx context.Context, op Op, body io.ReadCloser) io.ReadCloser {
	if h.Body == nil {
		return body
	}
	read := h.body(ctx, op, body)
	if sender, ok := read.(storage.FileSender); ok {
		return sendCloser{sender, body}
	}
	return closer{read, body}
}

// Inner returns what was decorated, be it several times, and v itself if nothing was.
func Inner(v any) any {
	for {
		d, ok := v.(interface{ inner() any })
		if !ok {
			return v
		}
		v = d.inner()
	}
}

// unsupported is the answer where the inner one has not the method, and no answer that says so.
func unsupported(op Op) error {
	return storage.Errorf(storage.Invalid, "unsupported", string(op), "storage", "this driver cannot")
}

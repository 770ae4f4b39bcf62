package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/copyfleet/copyfleet/storage"
)

// smallContent is the size in bytes up to which content is read before it is sent, so that its checksum can stand in a header.
const smallContent = 64 << 10

var smallBuffers = sync.Pool{New: func() any { return new([smallContent]byte) }}

type destination struct{ place }

// NeedsSize implements storage.Destination. S3 takes no PUT without a length, but parts of content whose length is not known.
func (o *destination) NeedsSize() bool { return false }

// Put implements storage.Destination.
func (o *destination) Put(ctx context.Context, content storage.Content) (storage.Stored, error) {
	if err := o.acceptable(content.Size, content.Trail); err != nil {
		return storage.Stored{}, err
	}
	// Before the first byte is taken from the content: it cannot be sent a second time.
	if err := o.prepareBucket(ctx); err != nil {
		return storage.Stored{}, err
	}
	switch {
	case content.Size < 0:
		return o.putUnknown(ctx, content)
	case content.Size > maxPut, content.OnlyNew && content.Size > smallContent:
		// MinIO looks for what is there when a PUT begins, and keeps everybody else from the key until it ends; of parts it looks
		// when they are completed.
		return o.putInParts(ctx, content)
	}
	stored, err := o.send(ctx, upload{contentType: content.ContentType, onlyNew: content.OnlyNew, trail: o.shown(content.Trail)}, content)
	if err != nil {
		return storage.Stored{}, o.refusal(ctx, err)
	}
	return stored, nil
}

// acceptable refuses what could not be written, before a byte is taken or a bucket is made.
func (o *destination) acceptable(size int64, trail string) error {
	if err := o.check("write"); err != nil {
		return err
	}
	if err := o.checkTrail(trail); err != nil {
		return err
	}
	if size <= maxObject {
		return nil
	}
	err := storage.Errorf(storage.TooLarge, "object_too_large", "write", o.subject(),
		"the content has %d bytes, an object at most %d", size, int64(maxObject))
	err.Hint = "Split the content, or write it to a sandbox."
	return err
}

// prepareBucket makes a missing bucket, if that is wanted. A key that may write objects and may not look at buckets
// goes on: whether there is one, its PUT will tell.
func (o *destination) prepareBucket(ctx context.Context) error {
	if !o.makesBucket() {
		return nil
	}
	err := o.store.EnsureBucket(ctx, o.bucket)
	if e, ok := errors.AsType[*storage.Error](err); ok && e.Code == accessDenied {
		return nil
	}
	return err
}

// send makes one PUT of content of known size, with a checksum where the store compares it. An error of the content is an *ownError,
// one of the transport names a URL.
func (o *destination) send(ctx context.Context, u upload, content storage.Content) (storage.Stored, error) {
	if content.Size <= smallContent {
		stored, _, err := o.sendSmall(ctx, u, content)
		return stored, err
	}
	compares, err := o.compares(ctx)
	if err != nil {
		return storage.Stored{}, err
	}
	if !compares {
		return o.sendPlain(ctx, u, content)
	}
	stored, _, err := o.sendFramed(ctx, u, content)
	return stored, err
}

// sendPlain makes a PUT without a checksum.
func (o *destination) sendPlain(ctx context.Context, u upload, content storage.Content) (storage.Stored, error) {
	url, headers := o.sealed(u, "")
	seen := &observed{Content: content}
	stored, err := o.store.cfg.Transport.Put(url, headers).Put(ctx, seen.content())
	return stored, o.own(seen, err)
}

// sendFramed makes a PUT whose checksum follows the content.
func (o *destination) sendFramed(ctx context.Context, u upload, content storage.Content) (storage.Stored, string, error) {
	seen := &observed{Content: content}
	sent := seen.content()
	frames := newFramed(sent.Body, content.Size, o.subject())
	sent.Body, sent.Size = frames, framedLength(content.Size)
	url, headers := o.framed(u, content.Size)
	stored, err := o.store.cfg.Transport.Put(url, headers).Put(ctx, sent)
	if err != nil {
		return storage.Stored{}, "", o.own(seen, err)
	}
	stored.Bytes = content.Size
	stored, err = o.compare(stored, frames.sum.encoded())
	return stored, frames.sum.encoded(), err
}

// sendSmall makes a PUT of content that is had in memory.
func (o *destination) sendSmall(ctx context.Context, u upload, content storage.Content) (storage.Stored, string, error) {
	buffer, _ := smallBuffers.Get().(*[smallContent]byte)
	defer smallBuffers.Put(buffer)
	seen := &observed{Content: content}
	sent := seen.content()
	n, err := fill(buffer[:content.Size], sent.Body)
	if err == nil {
		err = expectEnd(sent.Body, o.subject(), content.Size)
	}
	checksum := ""
	if err == nil {
		s := newSum()
		_, _ = s.Write(buffer[:n])
		checksum = s.encoded()
		sent.Body = bytes.NewReader(buffer[:n])
	} else {
		sent.Body = io.MultiReader(bytes.NewReader(buffer[:n]), broken{err}) // the transport says what that means
	}
	if u.onlyNew && err == nil && sent.Ready != nil {
		// MinIO keeps everybody else from the key while such a PUT is under way.
		if err := sent.Ready(); err != nil {
			return storage.Stored{}, "", &ownError{o.refused(ctx, err)}
		}
		sent.Ready = nil
	}
	url, headers := o.sealed(u, checksum)
	stored, err := o.store.cfg.Transport.Put(url, headers).Put(ctx, sent)
	if err != nil {
		return storage.Stored{}, "", o.own(seen, err)
	}
	stored, err = o.compare(stored, checksum)
	return stored, checksum, err
}

// refused gives what Content.Ready answered the form that the transport would give it.
func (o *destination) refused(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*storage.Error](err); ok {
		return fmt.Errorf("write %s: %w", o.subject(), err)
	}
	e := storage.Errorf(storage.Internal, "dest_content", "write", o.subject(), "what should be sent was held back")
	if ctx.Err() != nil {
		e.Class, e.Code, e.Message = storage.Interrupted, "dest_canceled", "it was canceled"
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	e.Err = err
	return e
}

// fill reads until p is full. The end of the content before that is io.EOF.
func fill(p []byte, body io.Reader) (n int, err error) {
	for idle := 0; n < len(p) && err == nil; idle++ {
		var m int
		if m, err = body.Read(p[n:]); m > 0 {
			n, idle = n+m, 0
		}
		if err == nil && idle == maxEmptyReads {
			err = io.ErrNoProgress
		}
	}
	if n == len(p) {
		err = nil
	}
	return n, err
}

// broken is the rest of content that could not be had as it was announced.
type broken struct{ err error }

// Read implements io.Reader.
func (b broken) Read([]byte) (int, error) { return 0, b.err }

// compare holds what the store tells of its checksum to that of the content; "": it was not computed.
func (o *destination) compare(stored storage.Stored, checksum string) (storage.Stored, error) {
	if checksum == "" || stored.Checksum == "" {
		return stored, nil
	}
	if stored.Checksum != checksumName+checksum {
		return storage.Stored{}, o.mismatch()
	}
	stored.Compared = true
	return stored, nil
}

func (o *destination) mismatch() *storage.Error {
	e := storage.Errorf(storage.Corrupt, "checksum_mismatch", "write", o.subject(), "the store received other bytes than were sent")
	e.Hint = "Something between the worker and the store changes bytes: memory, a network card, a proxy."
	return e
}

// own returns the error of a PUT, which may be that of the content. It is an *ownError then, so that it is not taken for an
// answer of the store.
func (o *destination) own(seen *observed, err error) error {
	if err != nil && seen.caused(err) {
		return &ownError{fmt.Errorf("write %s: %w", o.subject(), seen.err)}
	}
	return err
}

// ownError is an error of the content.
type ownError struct{ error }

// Unwrap returns the content's error.
func (e *ownError) Unwrap() error { return e.error }

// refusal says what it means that the store did not take an object.
func (o *destination) refusal(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*ownError](err); ok {
		return err
	}
	e, ok := errors.AsType[*storage.Error](err)
	if !ok {
		return err
	}
	switch {
	case e.Status == http.StatusPreconditionFailed:
		return o.exists()
	case isMismatch(e):
		return o.mismatch()
	case e.Status == http.StatusConflict && e.Reason == conditionalConflict:
		return o.changing()
	}
	return o.explain(ctx, err, "dest")
}

// conditionalConflict is what S3 answers to a conditional write besides another one.
const conditionalConflict = "ConditionalRequestConflict"

func (o *destination) changing() *storage.Error {
	e := storage.Errorf(storage.Unavailable, "dest_changing", "write", o.subject(), "something else writes the object at this moment")
	e.Status, e.StatusText = http.StatusConflict, http.StatusText(http.StatusConflict)
	return e
}

// isMismatch reports whether a store refused content for its checksum.
func isMismatch(e *storage.Error) bool {
	return e.Status == http.StatusBadRequest && (e.Reason == "BadDigest" || strings.HasPrefix(e.Reason, "XAmzContentChecksum"))
}

func (o *destination) exists() *storage.Error {
	return storage.Errorf(storage.Conflict, storage.CodeDestinationExists, "write", o.subject(), "the object exists, and nothing may be replaced")
}

// observed is content that remembers its own error, which may look like one of the transport.
type observed struct {
	storage.Content
	err error
}

// content is what the transport gets.
func (o *observed) content() storage.Content {
	c := o.Content
	c.Body = o
	c.OnlyNew = false // a header says it
	if c.Ready != nil {
		c.Ready = func() error {
			o.err = o.Ready()
			return o.err
		}
	}
	return c
}

// Read implements io.Reader.
func (o *observed) Read(p []byte) (int, error) {
	n, err := o.Body.Read(p)
	if err != nil && err != io.EOF { // an error that wraps io.EOF is not the end
		o.err = err
	}
	return n, err
}

// caused reports whether the class of err is that of the content's own error.
func (o *observed) caused(err error) bool {
	own, ok := errors.AsType[*storage.Error](o.err)
	first, _ := errors.AsType[*storage.Error](err)
	return ok && own == first
}

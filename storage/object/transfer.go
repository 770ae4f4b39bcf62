package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/copyfleet/copyfleet/storage"
)

// Source returns an object to read. Its URL is made at each Open.
func (s *Store) Source(bucket, key string) storage.Source { return &source{place{s, bucket, key}} }

// Destination returns an object to write, of at most 5 GiB. Its URL is made at each Put.
func (s *Store) Destination(bucket, key string) storage.Destination {
	return &destination{place{s, bucket, key}}
}

// place is one object of a store.
type place struct {
	store       *Store
	bucket, key string
}

func (p place) subject() string { return subject(p.bucket, p.key) }

type source struct{ place }

// Open implements storage.Source.
func (o *source) Open(ctx context.Context) (*storage.Object, error) {
	if err := checkNames("open", o.bucket, o.key); err != nil {
		return nil, err
	}
	u, err := o.store.client.PresignedGetObject(ctx, o.bucket, o.key, presignFor, url.Values{})
	if err != nil {
		return nil, classify("open", o.subject(), err)
	}
	object, err := o.store.cfg.Transport.Get(u.String(), nil).Open(ctx)
	if err != nil {
		return nil, o.explain(ctx, err, "source")
	}
	object.Body = &body{object.Body, o.place}
	return object, nil
}

// body is an open object whose errors name it.
type body struct {
	io.ReadCloser
	place place
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // an error that wraps io.EOF is not the end
		err = b.place.named(err)
	}
	return n, err
}

type destination struct{ place }

// NeedsSize implements storage.Destination: S3 takes no PUT without a length.
func (o *destination) NeedsSize() bool { return true }

// Put implements storage.Destination.
func (o *destination) Put(ctx context.Context, content storage.Content) (storage.Stored, error) {
	if err := o.acceptable(content); err != nil {
		return storage.Stored{}, err
	}
	// Before the first byte is taken from the content: it cannot be sent a second time.
	if err := o.prepareBucket(ctx); err != nil {
		return storage.Stored{}, err
	}
	headers := http.Header{}
	var send map[string]string
	if content.ContentType != "" {
		headers.Set("Content-Type", content.ContentType)
		send = map[string]string{"Content-Type": content.ContentType}
	}
	u, err := o.store.client.PresignHeader(ctx, http.MethodPut, o.bucket, o.key, presignFor, url.Values{}, headers)
	if err != nil {
		return storage.Stored{}, classify("write", o.subject(), err)
	}
	seen := &observed{Content: content}
	stored, err := o.store.cfg.Transport.Put(u.String(), send).Put(ctx, seen.content())
	if err == nil {
		return stored, nil
	}
	if seen.caused(err) {
		return storage.Stored{}, fmt.Errorf("write %s: %w", o.subject(), seen.err)
	}
	return storage.Stored{}, o.explain(ctx, err, "dest")
}

// acceptable refuses what could not be written, before a byte is taken or a bucket is made.
func (o *destination) acceptable(content storage.Content) error {
	if err := checkNames("write", o.bucket, o.key); err != nil {
		return err
	}
	if content.Size <= maxPut {
		return nil
	}
	err := storage.Errorf(storage.TooLarge, "object_too_large", "write", o.subject(),
		"the content has %d bytes, an object written at once at most %d", content.Size, int64(maxPut))
	err.Hint = "Split the content, or write it to a sandbox."
	return err
}

// prepareBucket makes a missing bucket, if that is wanted. A key that may write objects and may not look at buckets
// goes on: whether there is one, its PUT will tell.
func (o *destination) prepareBucket(ctx context.Context) error {
	if !o.store.cfg.AutoBuckets {
		return nil
	}
	err := o.store.EnsureBucket(ctx, o.bucket)
	if e, ok := errors.AsType[*storage.Error](err); ok && e.Code == accessDenied {
		return nil
	}
	return err
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

// named names the object in a transport's error, in place of a URL.
func (p place) named(err error) error {
	e, ok := errors.AsType[*storage.Error](err)
	if !ok {
		return err
	}
	named := *e
	named.Subject = p.subject()
	return &named
}

// explain names the object in a transport's error, and finds out what a 404 means.
func (p place) explain(ctx context.Context, err error, side string) error {
	err = p.named(err)
	e, ok := errors.AsType[*storage.Error](err)
	if !ok || e.Status != http.StatusNotFound {
		return err
	}
	e.Code = side + "_object_not_found"
	p.store.forget(p.bucket)
	exists, lookErr := p.store.BucketExists(ctx, p.bucket)
	switch denied, _ := errors.AsType[*storage.Error](lookErr); {
	case denied != nil && denied.Class == storage.Denied && denied.Code != accessDenied:
		// Some answer an unknown key with 404.
		e.Class, e.Code, e.Message = denied.Class, denied.Code, denied.Message
	case lookErr != nil || exists:
	case side == "dest" && p.store.cfg.AutoBuckets:
		e.Class, e.Code = storage.Unavailable, "bucket_vanished"
		e.Message = "the bucket was removed a moment ago; the next attempt makes it once more"
	default:
		e.Code, e.Message, e.Hint = "bucket_not_found", "the bucket does not exist", fmt.Sprintf("Create the bucket %q.", p.bucket)
	}
	return err
}

package object

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/storage"
)

// Source returns an object to read. Its URL is made at each Open.
func (s *Store) Source(bucket, key string) storage.Source { return &source{s, bucket, key} }

// Destination returns an object to write, of at most 5 GiB. Its URL is made at each Put.
func (s *Store) Destination(bucket, key string) storage.Destination {
	return &destination{s, bucket, key}
}

func subject(bucket, key string) string { return "s3://" + bucket + "/" + key }

type source struct {
	store       *Store
	bucket, key string
}

// Open implements storage.Source.
func (o *source) Open(ctx context.Context) (*storage.Object, error) {
	u, err := o.store.client.PresignedGetObject(ctx, o.bucket, o.key, presignFor, url.Values{})
	if err != nil {
		return nil, classify("open", subject(o.bucket, o.key), err)
	}
	object, err := o.store.cfg.Transport.Get(u.String(), nil).Open(ctx)
	if err != nil {
		return nil, o.store.explain(ctx, err, "source", o.bucket, o.key)
	}
	return object, nil
}

type destination struct {
	store       *Store
	bucket, key string
}

// NeedsSize implements storage.Destination: S3 takes no PUT without a length.
func (o *destination) NeedsSize() bool { return true }

// Put implements storage.Destination.
func (o *destination) Put(ctx context.Context, content storage.Content) (storage.Stored, error) {
	if content.Size > maxPut {
		err := storage.Errorf(storage.TooLarge, "object_too_large", "write", subject(o.bucket, o.key),
			"the content has %d bytes, an object written at once at most %d", content.Size, int64(maxPut))
		err.Hint = "Split the content, or write it to a sandbox."
		return storage.Stored{}, err
	}
	// Before the first byte is taken from the content: it cannot be sent a second time.
	if o.store.cfg.AutoBuckets {
		if err := o.store.EnsureBucket(ctx, o.bucket); err != nil {
			return storage.Stored{}, err
		}
	}
	headers := http.Header{}
	var send map[string]string
	if content.ContentType != "" {
		headers.Set("Content-Type", content.ContentType)
		send = map[string]string{"Content-Type": content.ContentType}
	}
	u, err := o.store.client.PresignHeader(ctx, http.MethodPut, o.bucket, o.key, presignFor, url.Values{}, headers)
	if err != nil {
		return storage.Stored{}, classify("write", subject(o.bucket, o.key), err)
	}
	stored, err := o.store.cfg.Transport.Put(u.String(), send).Put(ctx, content)
	if err != nil {
		return storage.Stored{}, o.store.explain(ctx, err, "dest", o.bucket, o.key)
	}
	return stored, nil
}

// explain names the object in a transport's error, in place of a URL, and finds out what a 404 means.
func (s *Store) explain(ctx context.Context, err error, side, bucket, key string) error {
	e, ok := errors.AsType[*storage.Error](err)
	if !ok || e.Status == 0 && e.Class != storage.Unavailable && e.Class != storage.Timeout {
		return err // the content's own error, or ours
	}
	named := *e
	named.Subject = subject(bucket, key)
	if e.Status == http.StatusNotFound {
		s.forget(bucket)
		named.Code = side + "_object_not_found"
		if exists, lookErr := s.BucketExists(ctx, bucket); lookErr == nil && !exists {
			named.Code, named.Hint = "bucket_not_found", "Create the bucket "+strconv.Quote(bucket)+"."
			named.Message = "the bucket does not exist"
		}
	}
	return errors.Join(&named, contentError(err, e))
}

// contentError keeps what errors.Is must still find behind the transport's error.
func contentError(whole error, e *storage.Error) error {
	if whole == error(e) { //nolint:errorlint // asks whether there is anything around e
		return nil
	}
	return whole
}

// classify turns an error of minio-go into ours.
func classify(op, subject string, err error) error {
	if err == nil {
		return nil
	}
	e := &storage.Error{Class: storage.Unavailable, Code: "s3_unavailable", Op: op, Subject: subject, Message: "the S3 endpoint does not answer"}
	if errors.Is(err, context.DeadlineExceeded) {
		e.Class, e.Code, e.Message = storage.Timeout, "s3_timeout", "Network timeout: the S3 endpoint does not answer"
	}
	resp := minio.ToErrorResponse(err)
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		e.Err = urlErr.Err // a url.Error prints the whole URL with its signature
		return e
	}
	if resp.StatusCode == 0 {
		e.Err = err
		return e
	}
	e.Status, e.StatusText = resp.StatusCode, strconv.Itoa(resp.StatusCode)+" "+http.StatusText(resp.StatusCode)
	e.Code, e.Message = "s3_"+resp.Code, resp.Message
	switch {
	case resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusUnauthorized:
		e.Class = storage.Denied
	case resp.StatusCode == http.StatusNotFound:
		e.Class = storage.NotFound
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable:
		e.Class = storage.Throttled
	case resp.StatusCode < http.StatusInternalServerError:
		e.Class = storage.Invalid
	}
	return e
}

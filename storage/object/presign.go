package object

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/storage"
)

// Request asks for a presigned URL.
type Request struct {
	Method      string // GET, PUT or POST
	Bucket, Key string
	Expires     time.Duration // 1 s to 7 days
	ContentType string        // PUT, POST: the only type to be accepted; "": any
	// MinSize and MaxSize bound a POST, in bytes. MaxSize 0: S3's own limit.
	MinSize, MaxSize int64
}

// Presigned is a URL that works without further credentials. It is a secret.
type Presigned struct {
	Method    string
	URL       string
	Headers   map[string]string // to be sent as they are; nil: none
	Form      map[string]string // POST: the fields that come before the file
	ExpiresAt time.Time
}

// The limits of presigned URLs. Source: AWS Signature Version 4, query parameters.
const (
	minExpiry = time.Second
	maxExpiry = 7 * 24 * time.Hour
)

// check returns what is wrong with a request, as an error of class Invalid.
func (r Request) check() error {
	invalid := func(code, format string, args ...any) error {
		return storage.Errorf(storage.Invalid, code, "presign", subject(r.Bucket, r.Key), format, args...)
	}
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodPut && r.Method != http.MethodPost:
		return invalid("invalid_method", "Method %q: must be GET, PUT or POST", r.Method)
	case r.Expires < minExpiry || r.Expires > maxExpiry:
		return invalid("invalid_expiry", "Expires %s: must be %s to %s", r.Expires, minExpiry, maxExpiry)
	case r.MinSize < 0 || r.MaxSize < 0 || r.MinSize > r.largest():
		return invalid("invalid_size", "MinSize %d, MaxSize %d: must be 0 or more, the first not above the second", r.MinSize, r.MaxSize)
	}
	return checkNames("presign", r.Bucket, r.Key)
}

// largest is the size in bytes that a POST may have.
func (r Request) largest() int64 {
	if r.MaxSize == 0 {
		return maxPut
	}
	return r.MaxSize
}

// Presign makes a URL. It does not look whether the object exists.
func (s *Store) Presign(ctx context.Context, req Request) (Presigned, error) {
	if err := req.check(); err != nil {
		return Presigned{}, err
	}
	if err := (place{store: s, bucket: req.Bucket, key: req.Key}).check("presign"); err != nil {
		return Presigned{}, err
	}
	out := Presigned{Method: req.Method, ExpiresAt: time.Now().UTC().Add(req.Expires).Truncate(time.Second)}
	var u *url.URL
	var err error
	switch req.Method {
	case http.MethodGet:
		u, err = s.client.PresignedGetObject(ctx, req.Bucket, req.Key, req.Expires, url.Values{})
	case http.MethodPut:
		header := http.Header{}
		if req.ContentType != "" {
			header.Set("Content-Type", req.ContentType)
			out.Headers = map[string]string{"Content-Type": req.ContentType}
		}
		u, err = s.client.PresignHeader(ctx, http.MethodPut, req.Bucket, req.Key, req.Expires, url.Values{}, header)
	case http.MethodPost:
		u, out.Form, err = s.presignPost(ctx, req, out.ExpiresAt)
	}
	if err != nil {
		return Presigned{}, classify("presign", subject(req.Bucket, req.Key), err)
	}
	out.URL = u.String()
	return out, nil
}

func (s *Store) presignPost(ctx context.Context, req Request, expires time.Time) (*url.URL, map[string]string, error) {
	policy := minio.NewPostPolicy()
	steps := []func() error{
		func() error { return policy.SetBucket(req.Bucket) },
		func() error { return policy.SetKey(req.Key) },
		func() error { return policy.SetExpires(expires) },
		func() error { return policy.SetContentLengthRange(req.MinSize, req.largest()) },
	}
	if req.ContentType != "" {
		steps = append(steps, func() error { return policy.SetContentType(req.ContentType) })
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, nil, fmt.Errorf("the policy: %w", err)
		}
	}
	return s.client.PresignedPostPolicy(ctx, policy) //nolint:wrapcheck // classified by the caller
}

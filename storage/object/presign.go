package object

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/minio/minio-go/v7"
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

// Presign makes a URL. It does not look whether the object exists.
func (s *Store) Presign(ctx context.Context, req Request) (Presigned, error) {
	if req.Expires < minExpiry || req.Expires > maxExpiry {
		return Presigned{}, fmt.Errorf("presign: Expires %s: must be %s to %s", req.Expires, minExpiry, maxExpiry)
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
	default:
		return Presigned{}, fmt.Errorf("presign: Method %q: must be GET, PUT or POST", req.Method)
	}
	if err != nil {
		return Presigned{}, classify("presign", subject(req.Bucket, req.Key), err)
	}
	out.URL = u.String()
	return out, nil
}

func (s *Store) presignPost(ctx context.Context, req Request, expires time.Time) (*url.URL, map[string]string, error) {
	most := req.MaxSize
	if most == 0 {
		most = maxPut
	}
	policy := minio.NewPostPolicy()
	steps := []func() error{
		func() error { return policy.SetBucket(req.Bucket) },
		func() error { return policy.SetKey(req.Key) },
		func() error { return policy.SetExpires(expires) },
		func() error { return policy.SetContentLengthRange(req.MinSize, most) },
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

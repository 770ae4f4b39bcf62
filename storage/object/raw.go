package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"golang.org/x/sync/errgroup"

	"github.com/copyfleet/copyfleet/storage"
)

// RawConfig describes an endpoint that is measured. Endpoint, AccessKey and SecretKey are required.
type RawConfig struct {
	Endpoint    string // http://host:port or https://host[:port]
	AccessKey   string
	SecretKey   string
	Region      string        // "": us-east-1
	Connections int           // that are kept; those beyond it are made anew for each request
	Answer      time.Duration // that a store may take to begin its answer, and to take some more of what it is sent; 0: [RawAnswer]
}

// RawAnswer is how long a [Raw] waits for the begin of an answer.
const RawAnswer = 60 * time.Second

// Raw makes requests as they are, each once and without a second try, for who measures how long they take. It is safe for concurrent use. It makes no
// buckets, verifies nothing but lengths and knows no reserved keys: it is given keys that are its caller's own.
//
// One case is left to net/http: where a kept connection turns out to be closed, it sends on a new one what was never sent, and a request without content
// also if not a byte was answered. Stores close connections that rest, and that is no failure of theirs.
type Raw struct {
	core minio.Core // for what is not one plain request
	http *http.Transport
	base *url.URL // of the endpoint
	keys signer
}

// NewRaw returns a client. It does not connect.
func NewRaw(cfg RawConfig) (*Raw, error) {
	u, err := parseEndpoint(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	if cfg.AccessKey == "" || cfg.SecretKey == "" {
		return nil, errors.New("the S3 endpoint needs an access key and a secret key")
	}
	if cfg.Region == "" {
		cfg.Region = defaultRegion
	}
	if cfg.Answer == 0 {
		cfg.Answer = RawAnswer
	}
	r := &Raw{http: &http.Transport{
		Proxy: nil, DialContext: patientDialer(cfg.Answer), TLSHandshakeTimeout: connectTimeout, ResponseHeaderTimeout: cfg.Answer,
		MaxResponseHeaderBytes: headBytes, MaxIdleConns: 0, MaxIdleConnsPerHost: max(cfg.Connections, 1), IdleConnTimeout: 30 * time.Second,
		DisableCompression: true, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10,
	}}
	client, err := minio.New(u.Host, &minio.Options{
		Creds: credentials.NewStaticV4(cfg.AccessKey, cfg.SecretKey, ""), Secure: u.Scheme == "https", Region: cfg.Region,
		Transport: r.http, BucketLookup: minio.BucketLookupPath, MaxRetries: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("the S3 endpoint: %w", err)
	}
	r.core, r.base = minio.Core{Client: client}, client.EndpointURL()
	r.keys.accessKey, r.keys.secretKey, r.keys.region = cfg.AccessKey, cfg.SecretKey, cfg.Region
	return r, nil
}

// Close closes the connections that no request uses.
func (r *Raw) Close() { r.http.CloseIdleConnections() }

// Host is the endpoint's host, with its port.
func (r *Raw) Host() string { return r.base.Host }

// Put writes an object in one request. The content is not hashed: the way to the store is what is measured. It is not read any more after Put has
// returned without an error; with one it may be.
func (r *Raw) Put(ctx context.Context, bucket, key string, content io.Reader, size int64) error {
	const op = "write"
	if err := checkNames(op, bucket, key); err != nil {
		return err
	}
	req := r.request(http.MethodPut, bucket, key, "")
	body, err := prepare(req, content, size)
	if err != nil {
		return invalidContent(op, bucket, key, err)
	}
	resp, err := r.send(ctx, op, bucket, key, req)
	if err != nil {
		return err
	}
	drain(resp)
	whole, err := body.whole(ctx)
	if err != nil {
		return unanswered(op, subject(bucket, key), err)
	}
	if !whole {
		return storage.Errorf(storage.Unavailable, "s3_answered_early", op, subject(bucket, key), "the store said that it has the object before it was sent")
	}
	return nil
}

// PutParts writes an object in parts of one size, but the last one, some at once. part returns the content of a part. An upload that fails is removed.
func (r *Raw) PutParts(ctx context.Context, bucket, key string, size, partSize int64, atOnce int, part func(at, length int64) io.Reader) error {
	const op = "write"
	id, err := r.core.NewMultipartUpload(ctx, bucket, key, minio.PutObjectOptions{})
	if err != nil {
		return classify(op, subject(bucket, key), err)
	}
	parts := make([]minio.CompletePart, max(1, (size+partSize-1)/partSize))
	opts := minio.PutObjectPartOptions{DisableContentSha256: true}
	group, sending := errgroup.WithContext(ctx)
	group.SetLimit(max(atOnce, 1))
	for i := range parts {
		group.Go(func() error {
			at := int64(i) * partSize
			length := min(partSize, size-at)
			sent, err := r.core.PutObjectPart(sending, bucket, key, id, i+1, part(at, length), length, opts)
			parts[i] = minio.CompletePart{PartNumber: i + 1, ETag: sent.ETag}
			return err //nolint:wrapcheck // classified below
		})
	}
	if err = group.Wait(); err == nil {
		_, err = r.core.CompleteMultipartUpload(ctx, bucket, key, id, parts, minio.PutObjectOptions{})
	}
	if err != nil {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		_ = r.core.AbortMultipartUpload(clean, bucket, key, id) // the store removes it some day
	}
	return classify(op, subject(bucket, key), err)
}

// Get begins to read an object: the content comes when it is read. It may be shorter than the size if the connection breaks; whoever reads it compares.
func (r *Raw) Get(ctx context.Context, bucket, key string) (content io.ReadCloser, size int64, err error) {
	resp, err := r.plain(ctx, "read", http.MethodGet, bucket, key)
	if err != nil {
		return nil, 0, err
	}
	return resp.Body, resp.ContentLength, nil
}

// Stat returns the size of an object.
func (r *Raw) Stat(ctx context.Context, bucket, key string) (int64, error) {
	resp, err := r.plain(ctx, "look at", http.MethodHead, bucket, key)
	if err != nil {
		return 0, err
	}
	drain(resp)
	return resp.ContentLength, nil
}

// Delete removes an object.
func (r *Raw) Delete(ctx context.Context, bucket, key string) error {
	resp, err := r.plain(ctx, "remove", http.MethodDelete, bucket, key)
	if err != nil {
		return err
	}
	drain(resp)
	return nil
}

// List lists a page of at most some objects below a prefix, after a key, and returns how many they are. It asks once: a store may have smaller pages.
func (r *Raw) List(ctx context.Context, bucket, prefix, after string, most int) (int, error) {
	const op = "list"
	if err := checkNames(op, bucket, prefix+"x"); err != nil {
		return 0, err
	}
	query := url.Values{"list-type": {"2"}, "max-keys": {strconv.Itoa(most)}, "prefix": {prefix}}
	if after != "" {
		query.Set("start-after", after)
	}
	resp, err := r.send(ctx, op, bucket, prefix, r.request(http.MethodGet, bucket, "", strings.ReplaceAll(query.Encode(), "+", "%20")))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, whole, err := countEntries(io.LimitReader(resp.Body, pageBytes))
	if err == nil && !whole {
		err = storage.Errorf(storage.Unavailable, "invalid_listing", op, subject(bucket, prefix), "what the store answered is no whole listing")
	}
	return n, classify(op, subject(bucket, prefix), err)
}

// Package object reads and writes objects of an S3 store. It is the only importer of minio-go.
//
// Bytes move over requests that are signed at the moment of use, so that none can expire in a queue (those that read by their URL, those that write in a
// header), with the HTTP driver that the configuration gives; it sends an exact length and holds the last byte back
// until the content is ready. An object is visible whole or not at all: that is S3's promise, and an upload
// cut short is no upload.
//
// Content is held to its checksum (CRC-64/NVME), which is computed while it is read: before the content of small objects, behind it where
// the store takes that (see [destination.compares]). The store refuses what differs, so nothing wrong becomes visible. A store that
// knows no checksums works without; then Stored.Compared is false.
//
// Content above 5 GiB, and of unknown length, is written in parts (a multipart upload), of which nothing is seen before the last step. An
// upload that a crash cut short stays with the store until that removes it: MinIO does so after 24 hours, others need a rule.
package object

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/copyfleet/copyfleet/storage"
)

// Transport moves bytes over URLs. Package storage/http has one; without an address guard, since the endpoint is
// ours.
type Transport interface {
	Get(url string, headers map[string]string) storage.Source
	Put(url string, headers map[string]string) storage.Destination
}

// Config describes a store. Endpoint, AccessKey, SecretKey and Transport are required.
type Config struct {
	Endpoint  string // http://host:port or https://host[:port]
	AccessKey string
	SecretKey string
	Region    string // "": us-east-1
	// AutoBuckets makes a missing bucket at its first use. False: it is an error.
	AutoBuckets bool
	// SpoolDir is where a part of content of unknown length is kept until its length is known, in files without a name. "": the system's
	// temporary directory.
	SpoolDir  string
	Transport Transport
}

// Store is an S3 endpoint with credentials. It is safe for concurrent use.
type Store struct {
	client   *minio.Client
	core     minio.Core // the same
	slow     minio.Core // for calls in which the store moves content
	cfg      Config
	probed   probe
	limits   copyLimits
	reserved []reserve

	base, host string // of the endpoint: http://host:port, and host:port
	keys       signer

	http, patient *http.Transport // of client, and of slow

	mu    sync.Mutex
	known map[string]time.Time // buckets that existed then
}

const (
	presignFor     = 15 * time.Minute // how long a URL that we use at once is valid: a transfer may start late, never end
	bucketFresh    = time.Minute
	bucketsKept    = 10_000
	connectTimeout = 5 * time.Second
	answerTimeout  = 15 * time.Second // of a call that moves no content
	callTimeout    = 20 * time.Second // with its repetitions
	slowTimeout    = 30 * time.Minute // of a call in which the store moves content: a copy, the end of an upload in parts
	maxPut         = 5 << 30          // bytes; S3's limit of a single PUT, and of a part
	maxObject      = 5 << 40          // bytes; S3's limit of an object
	minPart        = 5 << 20          // bytes of a part that is not the last one
	maxParts       = 10_000
	callTries      = 3
	defaultRegion  = "us-east-1"
	lookPrefix     = ".copyfleet/none/" // no object's key begins with it; that one does would do no harm
)

// New returns a store. It does not connect; [Store.Check] does.
func New(cfg Config) (*Store, error) {
	u, err := parseEndpoint(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	if cfg.AccessKey == "" || cfg.SecretKey == "" {
		return nil, errors.New("the S3 endpoint needs an access key and a secret key")
	}
	if cfg.Transport == nil {
		return nil, errors.New("the S3 endpoint needs a transport")
	}
	if cfg.Region == "" {
		cfg.Region = defaultRegion
	}
	if cfg.SpoolDir == "" {
		cfg.SpoolDir = os.TempDir()
	}
	s := &Store{cfg: cfg, known: map[string]time.Time{}, probed: newProbe(), limits: copyLimits{copyAtOnce, copyPart}}
	if err := s.connect(u); err != nil {
		return nil, fmt.Errorf("the S3 endpoint: %w", err)
	}
	return s, nil
}

func parseEndpoint(endpoint string) (*url.URL, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" && u.Path != "/" || u.User != nil || u.RawQuery != "" {
		return nil, errors.New("the S3 endpoint must be http://host:port or https://host[:port], without a path, a query or credentials")
	}
	return u, nil
}

// connect makes the clients of the endpoint u.
func (s *Store) connect(u *url.URL) error {
	s.http = &http.Transport{
		Proxy: nil, DialContext: (&net.Dialer{Timeout: connectTimeout}).DialContext, TLSHandshakeTimeout: connectTimeout,
		ResponseHeaderTimeout: answerTimeout, MaxIdleConnsPerHost: 16, IdleConnTimeout: 30 * time.Second, DisableCompression: true,
	}
	s.patient = s.http.Clone()
	s.patient.ResponseHeaderTimeout = slowTimeout
	opts := minio.Options{
		Creds: credentials.NewStaticV4(s.cfg.AccessKey, s.cfg.SecretKey, ""), Secure: u.Scheme == "https", Region: s.cfg.Region,
		Transport: s.http, BucketLookup: minio.BucketLookupPath, MaxRetries: callTries,
	}
	client, err := minio.New(u.Host, &opts)
	if err != nil {
		return err
	}
	opts.Transport = s.patient
	slow, err := minio.New(u.Host, &opts)
	if err != nil {
		return err
	}
	s.host = client.EndpointURL().Host // without a port that goes without saying
	s.base = u.Scheme + "://" + s.host
	s.keys.accessKey, s.keys.secretKey, s.keys.region = s.cfg.AccessKey, s.cfg.SecretKey, s.cfg.Region
	s.client, s.core, s.slow = client, minio.Core{Client: client}, minio.Core{Client: slow}
	return nil
}

// Close drops idle connections. The transport belongs to whoever made it.
func (s *Store) Close() {
	s.http.CloseIdleConnections()
	s.patient.CloseIdleConnections()
}

// Check returns nil if the endpoint answers and takes the credentials.
func (s *Store) Check(ctx context.Context) error {
	// It need not be there: the answer tells good credentials from bad ones either way.
	_, err := s.look(ctx, "copyfleet-check")
	err = classify("check", s.cfg.Endpoint, err)
	if e, ok := errors.AsType[*storage.Error](err); ok && e.Code == accessDenied {
		return nil // a key limited to its buckets
	}
	return err
}

// BucketExists reports whether a bucket is there. A bucket that was there lately is not looked for again.
func (s *Store) BucketExists(ctx context.Context, bucket string) (bool, error) {
	if s.isKnown(bucket) {
		return true, nil
	}
	exists, err := s.look(ctx, bucket)
	if err != nil {
		return false, classify("look for", "s3://"+bucket, err)
	}
	if exists {
		s.remember(bucket)
	}
	return exists, nil
}

// look asks whether a bucket is there, by a listing that finds nothing: unlike the answer to a HEAD, which has no body,
// that one tells wrong credentials from a missing permission, and both from a missing bucket.
func (s *Store) look(ctx context.Context, bucket string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for found := range s.client.ListObjectsIter(ctx, bucket, minio.ListObjectsOptions{Prefix: lookPrefix, MaxKeys: 1}) {
		if code := minio.ToErrorResponse(found.Err).Code; found.Err != nil && code != minio.NoSuchBucket {
			return false, found.Err
		}
		return found.Err == nil, nil
	}
	return true, ctx.Err()
}

// ReadyBucket reports whether a bucket is there, and makes it before if the store makes buckets. A key that may not look for buckets
// takes it for granted.
func (s *Store) ReadyBucket(ctx context.Context, bucket string) (bool, error) {
	exists, err := s.BucketExists(ctx, bucket)
	if err == nil && !exists && s.cfg.AutoBuckets {
		exists, err = true, s.EnsureBucket(ctx, bucket)
	}
	if e, ok := errors.AsType[*storage.Error](err); ok && e.Code == accessDenied {
		return true, nil
	}
	return exists, err
}

// EnsureBucket makes a bucket if it is not there.
func (s *Store) EnsureBucket(ctx context.Context, bucket string) error {
	exists, err := s.BucketExists(ctx, bucket)
	if err != nil || exists {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = s.client.MakeBucket(ctx, bucket, minio.MakeBucketOptions{Region: s.cfg.Region})
	if code := minio.ToErrorResponse(err).Code; err != nil && code != minio.BucketAlreadyOwnedByYou && code != minio.BucketAlreadyExists {
		return classify("make", "s3://"+bucket, err)
	}
	s.remember(bucket)
	return nil
}

func (s *Store) isKnown(bucket string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.known[bucket]) < bucketFresh
}

func (s *Store) remember(bucket string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= bucketsKept {
		clear(s.known)
	}
	s.known[bucket] = time.Now()
}

// forget makes the next use look again: the bucket seems to be gone.
func (s *Store) forget(bucket string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, bucket)
}

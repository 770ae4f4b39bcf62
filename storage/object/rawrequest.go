package object

import (
	"bytes"
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/copyfleet/copyfleet/storage"
)

const (
	smallBytes = 64 << 10 // of content that goes into one write with the head of its request
	errorBytes = 64 << 10 // of an answer that says what is wrong
	headBytes  = 64 << 10 // of the head of an answer
	pageBytes  = 32 << 20 // of a listing: a thousand keys have a quarter of it
	rawAgent   = "copyfleet-bench"
)

// request makes a signed request. What minio-go does for one costs three times as much, which at small objects would be a third of what is measured. query is
// encoded, in the order of its names; key is empty for a request to the bucket.
func (r *Raw) request(method, bucket, key, query string) *http.Request {
	path := "/" + bucket + "/" + key
	target := &url.URL{Scheme: r.base.Scheme, Host: r.base.Host, Path: path, RawQuery: query}
	encoded := s3utils.EncodePath(path)
	if encoded != path {
		target.RawPath = encoded
	}
	headers := make(http.Header, 6)
	headers["X-Amz-Content-Sha256"] = unsigned
	if method == http.MethodPut {
		headers["Content-Type"] = octets
	}
	r.keys.sign(method, r.base.Host, encoded, query, headers, time.Now())
	headers["User-Agent"] = agent
	return &http.Request{
		Method: method, URL: target, Host: r.base.Host, Header: headers, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
}

// Headers that are alike in all requests, and which nobody changes.
var (
	unsigned = []string{"UNSIGNED-PAYLOAD"}
	octets   = []string{"application/octet-stream"}
	agent    = []string{rawAgent}
)

// sent is the content of a request while it is sent.
type sent struct {
	content io.Reader
	left    atomic.Int64 // bytes that were not read
	once    sync.Once
	closed  chan struct{}
}

// Read implements io.Reader.
func (s *sent) Read(p []byte) (int, error) {
	n, err := s.content.Read(p)
	s.left.Add(-int64(n))
	return n, err //nolint:wrapcheck // as it is
}

// Close implements io.Closer. net/http calls it when it reads no more.
func (s *sent) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// whole tells, of a request that was answered, whether all its content was read; if so, it is not read any more. That net/http has closed it tells
// nothing: it does so a moment after the last byte was sent, when an answer may have come, and also where it gives up.
func (s *sent) whole(ctx context.Context) (bool, error) {
	if s.left.Load() > 0 {
		return false, nil
	}
	select {
	case <-s.closed:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// prepare gives a request its content. Little content is read at once: net/http sends it together with the head only if it knows that it need not wait for
// it. More is read while it is sent.
func prepare(req *http.Request, content io.Reader, size int64) (*sent, error) {
	body := &sent{content: content, closed: make(chan struct{})}
	req.ContentLength = size
	if size > smallBytes {
		body.left.Store(size)
		req.Body = body
		return body, nil
	}
	_ = body.Close() // it has none
	if size == 0 {
		req.Body = http.NoBody
		return body, nil
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(content, text); err != nil {
		return nil, err
	}
	again := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
	req.GetBody = again // for what could not be sent because the store had closed the connection
	req.Body, _ = again()
	return body, nil
}

// plain makes a request for an object, without content.
func (r *Raw) plain(ctx context.Context, op, method, bucket, key string) (*http.Response, error) {
	if err := checkNames(op, bucket, key); err != nil {
		return nil, err
	}
	return r.send(ctx, op, bucket, key, r.request(method, bucket, key, ""))
}

// send makes a request. An answer that is no success is an error; the body of another one is the caller's to close.
func (r *Raw) send(ctx context.Context, op, bucket, key string, req *http.Request) (*http.Response, error) {
	resp, err := r.http.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, unanswered(op, subject(bucket, key), err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer drain(resp)
	return nil, classify(op, subject(bucket, key), refusal(resp, req.URL.RawQuery == ""))
}

// drain reads an answer to its end, within reason, so that its connection can be used again.
func drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, errorBytes)
	resp.Body.Close()
}

// refusal is what a store says that does not do what it was asked for. The answer to a HEAD has no content, so that MinIO says it in headers.
func refusal(resp *http.Response, object bool) error {
	e := minio.ErrorResponse{StatusCode: resp.StatusCode}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, errorBytes)) // what came of it will do
	if err := xml.Unmarshal(text, &e); err != nil || e.Code == "" {
		e = minio.ErrorResponse{StatusCode: resp.StatusCode, Code: statusCode(resp, object), Message: http.StatusText(resp.StatusCode)}
	}
	e.Code = cmp.Or(resp.Header.Get("X-Minio-Error-Code"), e.Code)
	e.Message = cmp.Or(strings.Trim(resp.Header.Get("X-Minio-Error-Desc"), `"`), e.Message)
	return e
}

// statusCode is the error code of an answer that has none.
func statusCode(resp *http.Response, object bool) string {
	switch {
	case resp.StatusCode == http.StatusNotFound && object:
		return minio.NoSuchKey
	case resp.StatusCode == http.StatusNotFound:
		return minio.NoSuchBucket
	case resp.StatusCode == http.StatusForbidden:
		return minio.AccessDenied
	}
	return resp.Status
}

func invalidContent(op, bucket, key string, err error) error {
	e := storage.Errorf(storage.Invalid, "invalid_content", op, subject(bucket, key), "the content cannot be read")
	e.Err = err
	return e
}

// countEntries counts the objects of a listing. To decode it would cost more than to make it. whole says that its end has come.
func countEntries(listing io.Reader) (n int, whole bool, err error) {
	const overlap = 32 // bytes: a name may lie across two reads
	entry, end := []byte("<Contents>"), []byte("</ListBucketResult>")
	buf := make([]byte, 32<<10)
	kept := 0
	for {
		got, err := listing.Read(buf[kept:])
		text := buf[:kept+got]
		n += bytes.Count(text, entry)
		whole = whole || bytes.Contains(text, end)
		if errors.Is(err, io.EOF) {
			return n, whole, nil
		}
		if err != nil {
			return n, whole, err
		}
		// What is kept must not hold a whole entry, which would count twice.
		from := max(0, len(text)-overlap)
		if at := bytes.LastIndex(text, entry); at >= 0 {
			from = max(from, at+len(entry))
		}
		kept = copy(buf, text[from:])
	}
}

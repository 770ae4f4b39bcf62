package object_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
)

// failing is content that breaks off.
type failing struct {
	io.Reader
	err error
}

func (f failing) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = f.err
	}
	return n, err
}

// TestContentErrors looks at errors of the content that resemble those of a transport: they must stay what they are.
func TestContentErrors(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, bucket := e.store(t, nil), e.newBucket(t)
		for _, cause := range []*storage.Error{
			{Class: storage.Timeout, Code: "source_idle_timeout", Op: "read", Subject: "http://source/", Message: "no bytes arrived"},
			{Class: storage.Unavailable, Code: "source_reset", Op: "read", Subject: "http://source/", Message: "the connection was reset"},
			{Class: storage.NotFound, Code: "source_http_404", Op: "read", Subject: "http://source/", Message: "gone", Status: 404, StatusText: "Not Found"},
			{Class: storage.Corrupt, Code: "source_checksum", Op: "read", Subject: "http://source/", Message: "another digest", Err: net.ErrClosed},
		} {
			body := failing{strings.NewReader("half"), cause}
			_, bodyErr := s.Destination(bucket, "k").Put(t.Context(), storage.Content{Body: body, Size: 8})
			_, readyErr := s.Destination(bucket, "k").Put(t.Context(), storage.Content{
				Body: strings.NewReader("whole"), Size: 5, Ready: func() error { return cause },
			})
			for from, err := range map[string]error{"Body": bodyErr, "Ready": readyErr} {
				got, _ := errors.AsType[*storage.Error](err)
				if got != cause || !errors.Is(err, cause) || cause.Err != nil && !errors.Is(err, cause.Err) {
					t.Errorf("%s: the error %q of the content became %+v", from, cause.Code, got)
				}
			}
		}
		plain := errors.New("a plain error")
		_, err := s.Destination(bucket, "k").Put(t.Context(), storage.Content{Body: failing{strings.NewReader("half"), plain}, Size: 8})
		if !errors.Is(err, plain) {
			t.Errorf("error %v does not hold the content's", err)
		}
		refused{storage.Internal, "dest_content"}.check(t, err, bucket, "k")
		if _, ok := e.peek(t, bucket, "k"); ok {
			t.Error("content that failed is visible")
		}
	})
}

// TestOwnErrors looks at what the transport finds by itself: it is told of the object, not of a URL.
func TestOwnErrors(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, bucket := e.store(t, nil), e.newBucket(t)
		_, err := s.Destination(bucket, "k").Put(t.Context(), storage.Content{Body: strings.NewReader("four"), Size: 5})
		refused{storage.Interrupted, "source_short"}.check(t, err, bucket, "k")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = s.Destination(bucket, "k").Put(ctx, content("x"))
		refused{storage.Interrupted, "dest_canceled"}.check(t, err, bucket, "k")

		const size = 32 << 20 // more than sockets hold
		e.seed(t, bucket, "big", make([]byte, size))
		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		o, err := s.Source(bucket, "big").Open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer o.Body.Close()
		if o.Size != size || o.ContentType != "text/x-test" || o.ETag == "" || o.Modified.IsZero() {
			t.Errorf("an open object tells size %d, type %q, ETag %q, modified %s", o.Size, o.ContentType, o.ETag, o.Modified)
		}
		cancel()
		_, err = io.Copy(io.Discard, o.Body)
		refused{storage.Interrupted, "source_canceled"}.check(t, err, bucket, "big")
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v does not tell that it was canceled", err)
		}
	})
}

package object_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/object"
)

// lateEnd is content whose end is found only when somebody has seen the answer, or a while after its last byte.
type lateEnd struct {
	io.Reader

	answered <-chan struct{}
}

func (l lateEnd) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if err == io.EOF {
		select {
		case <-l.answered:
		case <-time.After(200 * time.Millisecond):
		}
	}
	return n, err
}

// An answer that comes before net/http has found out that there is no more to send is not early: the store has it all.
func TestRawAnswerToTheLastByteIsNotEarly(t *testing.T) {
	t.Parallel()
	r, _ := onNull(t, nil)
	for range 2 {
		text, answered := bytes.Repeat([]byte("x"), 200<<10), make(chan struct{})
		err := r.Put(t.Context(), "bucket", "k", lateEnd{bytes.NewReader(text), answered}, int64(len(text)))
		close(answered)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// on is a client of a store that answers as it likes.
func on(t *testing.T, change func(*object.RawConfig), answer http.HandlerFunc) *object.Raw {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return endpoint{url: server.URL, accessKey: "a", secretKey: "a-secret"}.measured(t, change)
}

// Answers without end are given up.
func TestRawAnswersWithoutEnd(t *testing.T) {
	t.Parallel()
	t.Run("a listing", func(t *testing.T) {
		t.Parallel()
		r := on(t, nil, func(w http.ResponseWriter, _ *http.Request) {
			entry := []byte(strings.Repeat("<Contents><Key>a</Key></Contents>", 1000))
			for err := error(nil); err == nil; {
				_, err = w.Write(entry)
			}
		})
		_, err := r.List(t.Context(), "bucket", "p/", "", 10)
		refused{storage.Unavailable, "invalid_listing"}.check(t, err, "bucket", "p/")
	})
	t.Run("a head", func(t *testing.T) {
		t.Parallel()
		r := on(t, nil, func(w http.ResponseWriter, _ *http.Request) {
			for i := range 10_000 {
				w.Header().Set(fmt.Sprintf("X-Header-%d", i), "of no use")
			}
		})
		_, err := r.Stat(t.Context(), "bucket", "k")
		refused{storage.Unavailable, "s3_unavailable"}.check(t, err, "bucket", "k")
	})
}

// A store that takes nothing any more in the middle of an object holds nobody for ever.
func TestRawStoreThatTakesNothing(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // its connections are those that nobody has accepted
	r := endpoint{url: "http://" + l.Addr().String(), accessKey: "a", secretKey: "a-secret"}.measured(t, func(c *object.RawConfig) { c.Answer = 100 * time.Millisecond })
	const size = 256 << 20 // more than buffers take
	err = r.Put(t.Context(), "bucket", "k", io.LimitReader(zeros{}, size), size)
	refused{storage.Timeout, "s3_timeout"}.check(t, err, "bucket", "k")
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// A store that lists keys of others when it is asked for those of a run has none of them removed.
func TestRawClearsNothingThatIsNotBelow(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"<ListBucketResult><Contents><Key>precious</Key></Contents></ListBucketResult>",
		"<ListMultipartUploadsResult><Upload><Key>precious</Key><UploadId>1</UploadId></Upload></ListMultipartUploadsResult>",
	} {
		var removals atomic.Int64
		r := on(t, nil, func(w http.ResponseWriter, req *http.Request) {
			empty := "<ListBucketResult></ListBucketResult>"
			switch {
			case req.Method != http.MethodGet:
				removals.Add(1)
				empty = "<DeleteResult></DeleteResult>"
			case strings.Contains(text, "Upload") == req.URL.Query().Has("uploads"):
				empty = text
			}
			_, _ = io.WriteString(w, empty)
		})
		_, err := r.Clear(t.Context(), "bucket", "own/")
		refused{storage.Unavailable, "invalid_listing"}.check(t, err, "bucket", "own/")
		if n := removals.Load(); n != 0 {
			t.Errorf("%d requests removed something", n)
		}
	}
}

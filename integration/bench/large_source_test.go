package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
)

const (
	gibibyte = 1 << 30
	// shortSize is that of large files with -short: enough for several parts.
	shortSize = 128 << 20
)

// large is n bytes, or [shortSize] with -short.
func large(n int64) int64 {
	if testing.Short() {
		return min(n, shortSize)
	}
	return n
}

func mibPerSecond(n int64, d time.Duration) float64 { return float64(n) / (1 << 20) / d.Seconds() }

// bigFile is one large file behind HTTP, with ETag and ranges, from the page cache.
type bigFile struct {
	url, path string
	size      int64
}

const bigFileETag = `"big-1"`

// newBigFile serves a file of random bytes. rate is the most bytes a second of one connection; 0: no limit.
func newBigFile(b *testing.B, size int64, rate int) *bigFile {
	b.Helper()
	big := &bigFile{path: filepath.Join(b.TempDir(), "big"), size: size}
	if err := fill(big.path, size); err != nil {
		b.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		file, err := os.Open(big.path)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer file.Close()
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("ETag", bigFileETag)
		http.ServeContent(w, r, "", time.Time{}, file)
	}))
	if rate > 0 {
		server.Listener = slowListener{server.Listener, rate}
	}
	server.Start()
	b.Cleanup(server.Close)
	big.url = server.URL + "/big"
	return big
}

func fill(path string, size int64) error { return write(path, rand.NewChaCha8([32]byte{1}), size) }

func writeZeros(path string, size int64) error {
	return write(path, io.NewSectionReader(zeroBytes{}, 0, size), size)
}

func write(path string, content io.Reader, size int64) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{file}, io.LimitReader(content, size), make([]byte, 1<<20))
	return errors.Join(err, file.Close())
}

// slowListener limits each connection by itself, as a store or a proxy does that is fast only in sum.
type slowListener struct {
	net.Listener
	rate int
}

func (l slowListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &slowConn{Conn: c, rate: l.rate}, nil
}

type slowConn struct {
	net.Conn
	rate int
	next time.Time // when more may be written
}

const slowPiece = 64 << 10

// Write writes piece by piece, each in its time.
func (c *slowConn) Write(p []byte) (written int, err error) {
	for len(p) > 0 && err == nil {
		piece := p[:min(len(p), slowPiece)]
		if now := time.Now(); c.next.Before(now) {
			c.next = now
		} else {
			<-time.After(c.next.Sub(now))
		}
		var n int
		n, err = c.Conn.Write(piece)
		c.next = c.next.Add(time.Duration(n) * time.Second / time.Duration(c.rate))
		written, p = written+n, p[n:]
	}
	return written, err
}

// checkFile reports whether a file has the bytes of the source, and removes it.
func (s *bigFile) checkFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := s.same(file); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.Remove(path)
}

// checkObject does so with an object.
func (s *bigFile) checkObject(ctx context.Context, s3 *minio.Client, key string) error {
	object, err := s3.GetObject(ctx, bucketName, key, minio.GetObjectOptions{})
	if err != nil {
		return err
	}
	defer object.Close()
	if err := s.same(object); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return s3.RemoveObject(ctx, bucketName, key, minio.RemoveObjectOptions{})
}

func (s *bigFile) same(got io.Reader) error {
	want, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer want.Close()
	return sameBytes(want, got)
}

// sameBytes reports whether got has exactly the bytes that are wanted.
func sameBytes(want, got io.Reader) error {
	a, b := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); ; {
		n, wantErr := io.ReadFull(want, a)
		m, gotErr := io.ReadFull(got, b)
		if err := errors.Join(unlessEnd(wantErr), unlessEnd(gotErr)); err != nil {
			return err
		}
		if n != m || !bytes.Equal(a[:n], b[:m]) {
			return fmt.Errorf("differs from the source after byte %d", at)
		}
		if at += int64(n); n < len(a) {
			return nil
		}
	}
}

// unlessEnd is an error that is not the end of what was read.
func unlessEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

func TestBigFileSeesWhatIsWrong(t *testing.T) {
	t.Parallel()
	big := &bigFile{path: filepath.Join(t.TempDir(), "big"), size: 3<<20 + 5}
	if err := fill(big.path, big.size); err != nil {
		t.Fatal(err)
	}
	right, err := os.ReadFile(big.path)
	if err != nil {
		t.Fatal(err)
	}
	spoiled := bytes.Clone(right)
	spoiled[len(spoiled)-1]++
	for name, c := range map[string]struct {
		got  []byte
		good bool
	}{"whole": {right, true}, "short": {right[:len(right)-1], false}, "long": {append(bytes.Clone(right), 0), false}, "other": {spoiled, false}, "none": {nil, false}} {
		if err := big.same(bytes.NewReader(c.got)); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// one makes a synchronous call for one item.
func (f *fleet) one(ctx context.Context, src, dest location) error {
	return f.copy(ctx, jsonOf(map[string]any{"files": []any{map[string]any{"src": src, "dest": dest}}}), 1)
}

func fromURL(url string) location { return location{"type": "httpGetLocation", "url": url} }

func atBucket(key string) location {
	return location{"type": "objectLocation", "bucket": bucketName, "key": key}
}

func atSandbox(path string) location {
	return location{"type": "sandboxFileLocation", "path": "/" + path}
}

// speed reports how fast the first contender was, in bytes.
func speed(b *testing.B, size int64, took map[string]samples, first string) {
	b.Helper()
	b.ReportMetric(mibPerSecond(size, took[first].median()), first+"-MiB/s")
}

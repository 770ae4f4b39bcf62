// Package miniotest runs a real MinIO for tests.
//
// The binary is the one that COPYFLEET_MINIO names, else .tools/minio at the top of the repository; a test that finds
// neither fails, it is never skipped. A server listens on a loopback port of its own, keeps its data in a temporary
// directory and ends with the test that started it; on Linux also if the test's process is killed.
//
// [Start] gives a server that the test may stop, kill and start again. [Shared] gives one to all tests of a binary,
// each with buckets of its own; it needs [Main]:
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(miniotest.Main(m)) }
package miniotest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

const (
	startTries = 3 // somebody else may take the port before MinIO does
	startLimit = 4 * time.Minute
	stopLimit  = 2 * time.Minute
	callLimit  = 2 * time.Minute
	poll       = 20 * time.Millisecond
)

// Server is a MinIO process. Endpoint and keys stay the same over Stop, Kill and Start.
type Server struct {
	Endpoint  string // http://127.0.0.1:port
	AccessKey string // of the root user
	SecretKey string

	tb      testing.TB // whose server it is; nil: everybody's
	addr    string
	dir     string
	env     []string // more settings
	process *process // nil while none runs
}

// Start runs a MinIO until the end of the test.
func Start(tb testing.TB) *Server {
	tb.Helper()
	s, err := start(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	s.tb = tb
	tb.Cleanup(func() {
		if s.process == nil {
			return
		}
		if tb.Failed() {
			tb.Logf("MinIO at %s said:\n%s", s.addr, s.process.output)
		}
		s.process.kill() // nobody needs its data any more
	})
	return s
}

// Stop ends the server in order and waits for it. Not for a shared server.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Kill ends the server with SIGKILL and waits for it. Not for a shared server.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// Start runs the server again, on the same data and port. Not for a shared server.
func (s *Server) Start() {
	s.own().Helper()
	if s.process != nil {
		s.tb.Fatal("miniotest: Start: the server runs already")
	}
	// A port just left may have been given to an outgoing connection, which is soon over.
	var err error
	for range startTries {
		if err = s.run(); err == nil {
			return
		}
	}
	s.tb.Fatal(err)
}

// Setenv adds environment variables, NAME=value, which count when the server is started the next time. Not for a shared server.
func (s *Server) Setenv(env ...string) {
	s.own()
	s.env = append(s.env, env...)
}

// NewBucket makes an empty bucket with a name of its own.
func (s *Server) NewBucket(tb testing.TB) string {
	tb.Helper()
	bucket := "test-" + strings.ToLower(rand.Text()[:16])
	ctx, cancel := context.WithTimeout(tb.Context(), callLimit)
	defer cancel()
	client, err := s.client()
	if err == nil {
		err = client.MakeBucket(ctx, bucket, minio.MakeBucketOptions{})
	}
	if err != nil {
		tb.Fatalf("miniotest: make a bucket at %s: %v", s.addr, err)
	}
	return bucket
}

// own returns whose server it is.
func (s *Server) own() testing.TB {
	if s.tb == nil {
		panic("miniotest: other tests use the shared server too; take one of your own with miniotest.Start")
	}
	return s.tb
}

func (s *Server) end(how syscall.Signal) {
	s.own().Helper()
	if s.process == nil {
		s.tb.Fatal("miniotest: the server does not run")
	}
	err := s.process.end(how)
	s.process = nil
	if err != nil {
		s.tb.Fatal(err)
	}
}

// start runs a new server in dir, on a port that was free a moment ago.
func start(dir string) (*Server, error) {
	var err error
	for range startTries {
		s := &Server{AccessKey: "miniotest", SecretKey: rand.Text(), dir: dir}
		if s.addr, err = freeAddress(); err != nil {
			return nil, err
		}
		s.Endpoint = "http://" + s.addr
		if err = s.run(); err == nil {
			return s, nil
		}
	}
	return nil, err
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("miniotest: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// run starts the process and waits until it serves.
func (s *Server) run() error {
	p, err := launch(s.dir, s.addr, s.AccessKey, s.SecretKey, s.env)
	if err != nil {
		return err
	}
	if err := s.waitReady(p); err != nil {
		p.kill()
		return fmt.Errorf("miniotest: MinIO at %s: %w; it said:\n%s", s.addr, err, p.output)
	}
	s.process = p
	return nil
}

// waitReady waits for /minio/health/live, and then for the keys to be known.
func (s *Server) waitReady(p *process) error {
	client, err := s.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), startLimit, fmt.Errorf("not ready within %s", startLimit))
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		select {
		case <-p.ended:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		if !s.live(ctx) {
			continue
		}
		if _, err := client.ListBuckets(ctx); err == nil {
			return nil
		}
	}
}

func (s *Server) live(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint+"/minio/health/live", nil)
	if err != nil {
		return false
	}
	resp, err := oneRequest().RoundTrip(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK && resp.Header.Get("X-Minio-Server-Status") == ""
}

// client keeps no connection, so that no goroutine of it outlives a call.
func (s *Server) client() (*minio.Client, error) {
	u, err := url.Parse(s.Endpoint)
	if err != nil {
		return nil, err
	}
	return minio.New(u.Host, &minio.Options{
		Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Region: "us-east-1", BucketLookup: minio.BucketLookupPath,
		Transport: oneRequest(),
	})
}

func oneRequest() *http.Transport {
	return &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: callLimit}
}

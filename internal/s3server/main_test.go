package s3server

import (
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"go.uber.org/goleak"
)

const (
	accessKey = "an-access-key"
	secretKey = "a-secret-key"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(child(dir))
	}
	goleak.VerifyTestMain(m,
		// The HTTP library keeps the clock for its Date header running for good.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		// A pool of its workers sees after up to ten seconds that it was stopped.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}

// startServer runs a server until the end of the test.
func startServer(t *testing.T, change func(*Config)) *Server {
	t.Helper()
	cfg := Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", AccessKey: accessKey, SecretKey: secretKey, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// client returns a client of s, and makes its bucket.
func client(t *testing.T, s *Server) *minio.Core {
	t.Helper()
	c := coreOf(t, s)
	if err := c.MakeBucket(t.Context(), "bucket", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	return c
}

// coreOf returns a client of s. It keeps connections open, as clients do, also when the server ends.
func coreOf(t *testing.T, s *Server) *minio.Core {
	t.Helper()
	u, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{IdleConnTimeout: time.Minute}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := minio.NewCore(u.Host, &minio.Options{
		Creds: credentials.NewStaticV4(accessKey, secretKey, ""), Region: Region, Transport: transport, MaxRetries: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

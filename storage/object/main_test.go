package object_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/internal/s3server"
	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	httpstore "github.com/copyfleet/copyfleet/storage/http"
	"github.com/copyfleet/copyfleet/storage/object"
)

const (
	embeddedAccessKey = "embedded-access-key"
	embeddedSecretKey = "embedded-secret-key"
)

// embedded is the embedded S3 of all tests here: a process can have one, and one only.
var embedded *s3server.Server

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(miniotest.Main(withEmbedded{m}),
		// The HTTP library of the embedded S3 keeps the clock for its Date header running for good.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		// So it does, for up to ten seconds after the end, with what looks after its idle workers.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}

type withEmbedded struct{ *testing.M }

func (m withEmbedded) Run() int {
	dir, err := os.MkdirTemp("", "object-test-")
	if err != nil {
		return complain(err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	embedded, err = s3server.Start(ctx, s3server.Config{
		Dir: dir, Listen: "127.0.0.1:0", AccessKey: embeddedAccessKey, SecretKey: embeddedSecretKey,
	})
	if err != nil {
		return complain(err)
	}
	code := m.M.Run()
	if err := embedded.Close(); err != nil {
		return complain(err)
	}
	return code
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// endpoint is an S3 that the tests run against.
type endpoint struct{ url, accessKey, secretKey string }

// onEach runs a test against the embedded S3 and against MinIO.
func onEach(t *testing.T, test func(t *testing.T, e endpoint)) {
	t.Helper()
	t.Run("Embedded", func(t *testing.T) {
		t.Parallel()
		test(t, endpoint{embedded.URL(), embeddedAccessKey, embeddedSecretKey})
	})
	t.Run("MinIO", func(t *testing.T) {
		t.Parallel()
		test(t, minioEndpoint(t))
	})
}

func minioEndpoint(t *testing.T) endpoint {
	t.Helper()
	s := miniotest.Shared(t)
	return endpoint{s.Endpoint, s.AccessKey, s.SecretKey}
}

// store opens the endpoint. change may be nil.
func (e endpoint) store(t *testing.T, change func(*object.Config)) *object.Store {
	t.Helper()
	client := httpstore.NewClient(httpstore.Options{})
	cfg := object.Config{Endpoint: e.url, AccessKey: e.accessKey, SecretKey: e.secretKey, Transport: client}
	if change != nil {
		change(&cfg)
	}
	s, err := object.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		client.Close()
	})
	return s
}

func autoBuckets(cfg *object.Config) { cfg.AutoBuckets = true }

// oneRequest is a transport of net/http, which shares nothing with the code under test.
func oneRequest() *http.Transport { return &http.Transport{DisableKeepAlives: true} }

package nulls3_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/internal/testkit/nulls3"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func client(t *testing.T, s *nulls3.Server) minio.Core {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := minio.NewCore(strings.TrimPrefix(s.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4("a", "a-secret", ""), Transport: transport, MaxRetries: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return *c
}

// A client of S3 that knows nothing of this one takes it for a store.
func TestClientTakesItForAStore(t *testing.T) {
	t.Parallel()
	s := nulls3.Start(t, nulls3.Options{Object: 300_000})
	c, ctx := client(t, s), t.Context()
	content := make([]byte, 6<<20)
	if _, err := c.PutObject(ctx, "bucket", "k", bytes.NewReader(content), int64(len(content)), "", "", minio.PutObjectOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := c.Client.PutObject(ctx, "bucket", "k", bytes.NewReader(content), int64(len(content)), minio.PutObjectOptions{PartSize: 5 << 20}); err != nil {
		t.Error(err)
	}
	if info, err := c.StatObject(ctx, "bucket", "k", minio.StatObjectOptions{}); err != nil || info.Size != 300_000 {
		t.Errorf("%+v, %v", info, err)
	}
	body, _, _, err := c.GetObject(ctx, "bucket", "k", minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if text, err := io.ReadAll(body); err != nil || len(text) != 300_000 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	for _, versions := range []bool{false, true} {
		for entry := range c.ListObjectsIter(ctx, "bucket", minio.ListObjectsOptions{WithVersions: versions}) {
			t.Errorf("%+v", entry)
		}
	}
	if page, err := c.ListMultipartUploads(ctx, "bucket", "p/", "", "", "", 10); err != nil || len(page.Uploads) > 0 {
		t.Errorf("%+v, %v", page, err)
	}
	if err := c.RemoveObject(ctx, "bucket", "k", minio.RemoveObjectOptions{}); err != nil {
		t.Error(err)
	}
	if n := s.Counts(); n.Head != 1 || n.Delete != 1 || n.Put < 2 || n.Post != 2 || n.Other != 0 {
		t.Errorf("%+v", n)
	}
	s.Turn(nulls3.Busy)
	if _, err := c.StatObject(ctx, "bucket", "k", minio.StatObjectOptions{}); minio.ToErrorResponse(err).StatusCode != http.StatusServiceUnavailable {
		t.Error(err)
	}
}

func TestStallHoldsAnswers(t *testing.T) {
	t.Parallel()
	s := nulls3.Start(t, nulls3.Options{})
	c := client(t, s)
	const stall = 200 * time.Millisecond
	start := time.Now()
	s.Stall(stall)
	if _, err := c.StatObject(t.Context(), "bucket", "k", minio.StatObjectOptions{}); err != nil || time.Since(start) < stall {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	s.Stall(time.Hour)
	done := make(chan error, 1)
	go func() {
		_, err := c.StatObject(t.Context(), "bucket", "k2", minio.StatObjectOptions{})
		done <- err
	}()
	s.Close() // does not wait for it
	if err := <-done; err == nil {
		t.Error("a server that is closed has answered")
	}
}

func TestWhatItDoesNotReadIsRefused(t *testing.T) {
	t.Parallel()
	s := nulls3.Start(t, nulls3.Options{})
	for _, text := range []string{
		"hello\r\n\r\n",
		"PUT /b/k HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"PUT /b/k HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
	} {
		c, err := net.Dial("tcp", strings.TrimPrefix(s.Endpoint, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, text)
		answer := make([]byte, 12)
		if _, err := io.ReadFull(c, answer); err != nil || string(answer) != "HTTP/1.1 501" {
			t.Errorf("%q: %q, %v", text, answer, err)
		}
		c.Close()
	}
}

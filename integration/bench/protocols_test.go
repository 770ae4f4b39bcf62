package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/sourcegraph/conc/pool"
)

// BenchmarkProtocols reads by HTTP/1.1 and by HTTP/2 (golang net/http on both sides, TLS, loopback): one large body, and many small ones at
// once. By what it says package httpstore speaks HTTP/1.1.
func BenchmarkProtocols(b *testing.B) {
	body := make([]byte, large(256<<20))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.URL.Path[1:])
		if err != nil || n > len(body) {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(n))
		_, _ = io.Copy(w, bytes.NewReader(body[:n]))
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	b.Cleanup(server.Close)
	b.Run("one", func(b *testing.B) { raceProtocols(b, server, 1, len(body)) })
	b.Run("many", func(b *testing.B) { raceProtocols(b, server, scale(2000), fileSize) })
}

// raceProtocols reads n bodies of so many bytes each.
func raceProtocols(b *testing.B, server *httptest.Server, n, bytes int) {
	b.Helper()
	contenders, used := make([]contender, 2), make([]samples, 2)
	for i := range contenders {
		major := i + 1
		var protocols http.Protocols
		protocols.SetHTTP1(major == 1)
		protocols.SetHTTP2(major == 2)
		base, _ := server.Client().Transport.(*http.Transport)
		transport := &http.Transport{Protocols: &protocols, MaxIdleConnsPerHost: concurrency, TLSClientConfig: base.TLSClientConfig.Clone()}
		transport.TLSClientConfig.NextProtos = nil // as the transport wants it
		b.Cleanup(transport.CloseIdleConnections)
		client := &http.Client{Transport: transport}
		contenders[i] = contender{
			name: "http" + strconv.Itoa(major),
			copy: func(ctx context.Context, _ string, _ int) error {
				before := processorTime(b)
				defer func() { used[i] = append(used[i], processorTime(b)-before) }()
				readers := pool.New().WithErrors().WithFirstError().WithMaxGoroutines(concurrency)
				for range n {
					readers.Go(func() error { return readBy(ctx, client, major, server.URL+"/"+strconv.Itoa(bytes), int64(bytes)) })
				}
				return readers.Wait()
			},
			check: func(context.Context, string) error { return nil }, // every body was counted
		}
	}
	took := race(b, n, contenders...)
	for i := range used { // of the source, too: it is in this process
		used[i] = used[i][1:] // not of the warming up
		b.ReportMetric(milliseconds(used[i].median()), contenders[i].name+"-cpu-ms")
	}
	reportSpeed(b, "cpu-vs-http2", used[0], used[1])
	b.ReportMetric(mibPerSecond(int64(n)*int64(bytes), took["http1"].median()), "http1-MiB/s")
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// readBy reads a body and holds its answer to a version of the protocol.
func readBy(ctx context.Context, client *http.Client, major int, url string, size int64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, make([]byte, min(size, 256<<10)))
	if err == nil && (n != size || resp.StatusCode != http.StatusOK || resp.ProtoMajor != major) {
		err = errors.New(resp.Proto + " " + resp.Status)
	}
	if err != nil {
		return fmt.Errorf("%d of %d bytes: %w", n, size, err)
	}
	return nil
}

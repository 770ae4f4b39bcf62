package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"
)

// transferBuffers is what a transfer may hold in memory: 4 x 256 KiB before the digest, 256 KiB before a file, and what net/http holds
// before sockets on both sides.
const transferBuffers = 3 << 19

// BenchmarkTransferMemory is the most memory of "up" while it moves one file of 10 GiB, and 32 files of 1 GiB at once, beside what it had
// after small files and the buffers of so many transfers. Sources are zeros that nobody stores.
func BenchmarkTransferMemory(b *testing.B) {
	zeros := newZeros(b)
	for _, c := range []struct {
		name  string
		items int
		size  int64
		dest  func(f *fleet, i int) location
	}{
		{"one/put", 1, 10 * gibibyte, zeros.dest},
		{"one/sandbox", 1, 10 * gibibyte, func(_ *fleet, i int) location { return atSandbox(fileName(i)) }},
		{"one/object", 1, 10 * gibibyte, func(_ *fleet, i int) location { return atBucket(fileName(i)) }},
		{"many/put", concurrency, gibibyte, zeros.dest},
		{"many/object", concurrency, gibibyte / 8, func(_ *fleet, i int) location { return atBucket(fileName(i)) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			size := large(c.size)
			var idle, peak int64
			for b.Loop() {
				src := newSource(b, 2*concurrency)
				f := startFleet(b, src, "--s3-endpoint", startMinIO(b), "--file-sync", "off")
				if err := errors.Join(f.copyAll(b.Context(), 2*concurrency, toSandbox("warm")),
					f.copyAll(b.Context(), 2*concurrency, toBucket(bucketName, "warm"))); err != nil {
					b.Fatal(err)
				}
				idle = memoryOf(b, f)
				ctx, cancel := context.WithTimeout(b.Context(), volumeLimit)
				err := f.many(ctx, c.items, fromURL(fmt.Sprintf("%s/%d", zeros.url, size)), func(i int) location { return c.dest(f, i) })
				cancel()
				if err != nil {
					b.Fatal(err)
				}
				peak = memoryOf(b, f)
				f.end(b)
				if err := os.RemoveAll(f.ready.Data); err != nil {
					b.Fatal(err)
				}
			}
			onlyOurs(b)
			b.ReportMetric(float64(idle)/(1<<20), "idle-MiB")
			b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
			b.ReportMetric(float64(peak)/float64(idle+int64(c.items)*transferBuffers), "peak/allowed-x")
		})
	}
}

// zeros gives files of any size and takes everything, keeping nothing.
type zeros struct{ url string }

func newZeros(b *testing.B) zeros {
	b.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, make([]byte, 256<<10)); err != nil {
				w.WriteHeader(http.StatusBadRequest)
			}
			return
		}
		var size int64
		if _, err := fmt.Sscanf(r.URL.Path, "/%d", &size); err != nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("ETag", `"zeros"`)
		http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(zeroBytes{}, 0, size))
	}))
	b.Cleanup(server.Close)
	return zeros{server.URL}
}

func (z zeros) dest(_ *fleet, i int) location {
	return location{"type": "httpPutLocation", "url": z.url + "/put/" + fileName(i)}
}

type zeroBytes struct{}

func (zeroBytes) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

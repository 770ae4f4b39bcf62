package bench

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/sourcegraph/conc/pool"

	"github.com/copyfleet/copyfleet/internal/testkit/nulls3"
	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/job"
	"github.com/copyfleet/copyfleet/loadtest/report"
)

// loadTester is a job of the load tester, with a raw file on the disk.
type loadTester struct {
	*job.Job

	raw *os.File
	cfg *job.Config
}

// loadTest is a load tester on a store.
func loadTest(b *testing.B, endpoint, bucket string, spec job.Spec) loadTester {
	b.Helper()
	file, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	spec.Endpoints, spec.Bucket, spec.Prefix, spec.Seed = []string{endpoint}, bucket, "copyfleet-bench", rand.Uint64()
	cfg := &job.Config{
		Spec: &spec, Secrets: job.Secrets{AccessKey: accessKey, SecretKey: secretKey}, Raw: file,
		Place: loadtest.Place{Run: "r" + strconv.FormatUint(spec.Seed, 36), Generators: 1},
	}
	j, err := job.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		j.Close()
		if err := file.Close(); err != nil {
			b.Error(err)
		}
	})
	return loadTester{j, file, cfg}
}

// load makes the load, all of which has to go well.
func load(b *testing.B, j loadTester) *report.Summary {
	b.Helper()
	if err := j.Prepare(b.Context()); err != nil {
		b.Fatal(err)
	}
	done, err := j.Run(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	sum := report.Summarize(done)
	if sum.Errors > 0 || len(sum.Partial) > 0 || sum.NotBegun > 0 {
		b.Fatalf("%d failed: %+v, %v", sum.Errors, sum.Failures, sum.Partial)
	}
	return sum
}

// clear removes the objects of a load test, as the command does: a store with more of them may be slower.
func (j loadTester) clear(b *testing.B) {
	b.Helper()
	store, err := job.NewStore(j.cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	if _, err := store.Clear(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkLoadTesterAlone is how much the load tester can do: objects of 4 KiB on a store in this process that costs next to nothing, with every
// operation in a raw file. cpu-µs is the processor time of an operation, of the store, too; it depends less on what else the machine does.
func BenchmarkLoadTesterAlone(b *testing.B) {
	for _, c := range []struct{ workload, mix string }{
		{workload: "put"},
		{workload: "get"},
		{workload: "mixed", mix: "put=15,get=45,stat=30,delete=10"},
	} {
		for _, concurrency := range []int{8, 64} {
			b.Run(c.workload+"/concurrency="+strconv.Itoa(concurrency), func(b *testing.B) {
				spec := job.Spec{Workload: c.workload, Mix: c.mix, Size: "4KiB", Concurrency: concurrency, Count: uint64(scale(200_000))}
				if c.workload != "put" {
					spec.Objects = 1000
				}
				var took samples // of one operation, on average
				for b.Loop() {
					j := loadTest(b, nulls3.Start(b, nulls3.Options{Object: 4 << 10}).Endpoint, bucketName, spec)
					before := processorTime(b)
					sum := load(b, j)
					took = append(took, perOperation(sum.Ops))
					b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(spec.Count), "cpu-µs")
					b.ReportMetric(sum.Latency.P99, "p99-ms")
					info, err := j.raw.Stat()
					if err != nil {
						b.Fatal(err)
					}
					b.ReportMetric(float64(info.Size())/float64(spec.Count), "raw-bytes")
				}
				onlyOurs(b)
				b.ReportMetric(1/took.median().Seconds(), c.workload+"/s")
			})
		}
	}
}

// BenchmarkLoadTesterMemory is what the load tester holds after a hundred thousand operations and after a million: histograms, not lists. more is the
// difference.
func BenchmarkLoadTesterMemory(b *testing.B) {
	var heap, resident []float64
	for _, count := range []int{scale(10_000), scale(100_000), scale(1_000_000)} { // the first ones warm the process up
		b.Run("operations="+strconv.Itoa(count), func(b *testing.B) {
			spec := job.Spec{Workload: "put", Size: "4KiB", Concurrency: 16, Count: uint64(count)}
			var j loadTester
			for b.Loop() {
				j = loadTest(b, nulls3.Start(b, nulls3.Options{}).Endpoint, bucketName, spec)
				load(b, j)
			}
			resident = append(resident, residentMiB(b))
			heap = append(heap, heapMiB())
			runtime.KeepAlive(j.Job)
			onlyOurs(b)
			last := len(heap) - 1
			b.ReportMetric(heap[last], "heap-MiB")
			b.ReportMetric(resident[last], "rss-MiB")
			b.ReportMetric(heap[last]-heap[max(0, last-1)], "heap-more-MiB")
			b.ReportMetric(resident[last]-resident[max(0, last-1)], "rss-more-MiB")
		})
	}
}

// heapMiB is what the process holds beside garbage.
func heapMiB() float64 {
	for range 2 { // what pools have goes at the second time
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// perOperation is the time of which so many make a second.
func perOperation(perSecond float64) time.Duration {
	return time.Duration(float64(time.Second) / perSecond)
}

// residentMiB is the memory of this process.
func residentMiB(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	var kib float64
	if _, err := fmt.Sscan(after, &kib); err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}

// BenchmarkLoadTesterBesideLoop is the throughput that the load tester tells of MinIO, beside that of a loop of minio-go which does nothing else: the
// same sizes, requests and concurrency, by turns. The ratio of the medians must be near 1: the tester measures the store, not itself.
func BenchmarkLoadTesterBesideLoop(b *testing.B) {
	const concurrency = 8
	endpoint := startMinIO(b)
	newS3(b, endpoint)
	loop, closeLoop := puts(b, endpoint, concurrency)
	defer closeLoop()
	count := scale(5000)
	tester := func() float64 {
		return load(b, loadTest(b, endpoint, bucketName, job.Spec{Workload: "put", Size: "4KiB", Concurrency: concurrency, Count: uint64(count)})).Ops
	}
	tester() // warms the store up
	loop(b, count)
	for b.Loop() {
		var ours, bare samples // of one operation, on average
		for round := range 8 {
			for turn := range 2 {
				if (round+turn)%2 == 0 {
					ours = append(ours, perOperation(tester()))
				} else {
					bare = append(bare, perOperation(loop(b, count)))
				}
			}
		}
		b.ReportMetric(1/ours.median().Seconds(), "tester-put/s")
		b.ReportMetric(1/bare.median().Seconds(), "loop-put/s")
		b.ReportMetric(bare.median().Seconds()/ours.median().Seconds(), "tester/loop-x")
		b.ReportMetric(ours.quantile(1).Seconds()/ours.quantile(0).Seconds(), "tester-spread-x")
		b.ReportMetric(bare.quantile(1).Seconds()/bare.quantile(0).Seconds(), "loop-spread-x")
	}
	onlyOurs(b)
}

// puts is a loop of minio-go that writes objects of 4 KiB, some at once, and returns how many it wrote a second. Content is not hashed, as in the tester.
func puts(b *testing.B, endpoint string, concurrency int) (loop func(b *testing.B, n int) float64, end func()) {
	b.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: concurrency}
	client, err := minio.New(strings.TrimPrefix(endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(accessKey, secretKey, ""), Region: "us-east-1", Transport: transport, BucketLookup: minio.BucketLookupPath,
	})
	if err != nil {
		b.Fatal(err)
	}
	content := make([]byte, 4<<10)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	round := 0
	return func(b *testing.B, n int) float64 {
		b.Helper()
		round++
		begun := time.Now()
		writers := pool.New().WithContext(b.Context()).WithMaxGoroutines(concurrency).WithCancelOnError()
		for place := range concurrency {
			writers.Go(func(ctx context.Context) error {
				for i := place; i < n; i += concurrency {
					key := fmt.Sprintf("copyfleet-bench/loop%d/0/%02x/%d", round, i%256, i) // of the form that the tester has: each directory costs
					opts := minio.PutObjectOptions{DisableContentSha256: true}
					if _, err := client.PutObject(ctx, bucketName, key, bytes.NewReader(content), int64(len(content)), opts); err != nil {
						return fmt.Errorf("write %s: %w", key, err)
					}
				}
				return nil
			})
		}
		if err := writers.Wait(); err != nil {
			b.Fatal(err)
		}
		return float64(n) / time.Since(begun).Seconds()
	}, transport.CloseIdleConnections
}

// BenchmarkLoadTesterStores is a mixed load on MinIO and on the S3 that "copyfleet up" embeds.
func BenchmarkLoadTesterStores(b *testing.B) {
	for _, c := range []struct {
		name  string
		start func() string
	}{
		{"minio", func() string { return startMinIO(b) }},
		{"embedded", func() string { return startFleet(b, newSource(b, 1)).ready.S3 }},
	} {
		b.Run(c.name, func(b *testing.B) {
			endpoint := c.start()
			newS3(b, endpoint)
			spec := job.Spec{
				Workload: "mixed", Mix: "put=15,get=45,stat=30,delete=10", Size: "64KiB", Objects: 200, Concurrency: 8, Count: uint64(scale(10_000)), Verify: true,
			}
			for b.Loop() {
				sum := load(b, loadTest(b, endpoint, bucketName, spec))
				b.ReportMetric(sum.Ops, "ops/s")
				b.ReportMetric(sum.Latency.P99, "p99-ms")
				for kind, f := range sum.ByOperation {
					b.ReportMetric(f.Latency.P99, kind+"-p99-ms")
				}
			}
			onlyOurs(b)
		})
	}
}

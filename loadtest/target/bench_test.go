package target_test

import (
	"io"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/internal/testkit/nulls3"
	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/target"
	"github.com/copyfleet/copyfleet/loadtest/workload"
	"github.com/copyfleet/copyfleet/storage/object"
)

// onNull is a target on an S3 in the same process that keeps nothing.
func onNull(tb testing.TB, opts nulls3.Options) (*target.S3, *nulls3.Server) {
	tb.Helper()
	server := nulls3.Start(tb, opts)
	return newS3(tb, target.S3Config{
		Endpoints: []object.RawConfig{{Endpoint: server.Endpoint, AccessKey: "a", SecretKey: "bbbbbbbb", Connections: 64}}, Bucket: "bench", Prefix: "p/",
	}), server
}

// BenchmarkNull is how fast the tester itself is, with its raw file, beside a store that costs next to nothing. All of it is one process: cpu-µs/op is
// the processor time of both sides together, which other work on the machine changes less than the rate.
func BenchmarkNull(b *testing.B) {
	for _, kind := range []workload.Kind{workload.Put, workload.Get, workload.Stat, workload.Delete} {
		for _, concurrency := range []int{8, 32} {
			b.Run(kind.String()+"/concurrency="+strconv.Itoa(concurrency), func(b *testing.B) { benchNull(b, kind, concurrency) })
		}
	}
}

func benchNull(b *testing.B, kind workload.Kind, concurrency int) {
	b.Helper()
	s, server := onNull(b, nulls3.Options{Object: 4 << 10})
	file, err := record.NewWriter(io.Discard, &record.Header{})
	if err != nil {
		b.Fatal(err)
	}
	load := workload.NewLoad(workload.Config{Mix: workload.Only(kind), Sizes: sizes(b, "4KiB"), Count: uint64(b.N), Objects: 1000})
	r := record.NewRecorder(0, file)
	if err := loadtest.Prepare(b.Context(), load, concurrency, s); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	before := processorTime(b)
	loadtest.Run(b.Context(), &loadtest.Plan{Load: load, Concurrency: concurrency}, s, r)
	used := processorTime(b) - before
	b.StopTimer()
	totals, err := r.Totals()
	if err != nil || len(totals.Faults) > 0 || server.Counts().All() < int64(b.N) {
		b.Fatalf("%v, %+v, %+v of %d", err, totals.Faults, server.Counts(), b.N)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
	b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu-µs/op")
	if err := file.Close(""); err != nil {
		b.Fatal(err)
	}
}

// processorTime is what this process has used.
func processorTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

package bench

import (
	"io"
	"os"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/nulls3"
	"github.com/copyfleet/copyfleet/loadtest/job"
	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/report"
)

const compareTries = 20

// How long runs are. A store with a disk is fast or slow for a second at a time: a sixth of a shorter run would be one such time.
const (
	steadyLength = 3 * time.Second
	diskLength   = 8 * time.Second
)

// BenchmarkLoadTesterCompare is how often "bench cmp" tells the truth of two runs: of the same thing on MinIO, 8 s each, and, 3 s each, on a store that
// takes 5 ms for an answer; and of that and one that takes 6 ms, which is a fifth slower. same and found are numbers of 20 tries.
func BenchmarkLoadTesterCompare(b *testing.B) {
	tries := compareTries
	if testing.Short() {
		tries = 2
	}
	b.Run("MinIO/same", func(b *testing.B) {
		endpoint := startMinIO(b)
		newS3(b, endpoint)
		windowsOf(b, endpoint, steadyLength) // warms the store up
		compareRuns(b, diskLength, tries, "same", endpoint, endpoint)
	})
	steady := nulls3.Start(b, nulls3.Options{Think: 5 * time.Millisecond}).Endpoint
	slower := nulls3.Start(b, nulls3.Options{Think: 6 * time.Millisecond}).Endpoint
	b.Run("steady/same", func(b *testing.B) { compareRuns(b, steadyLength, tries, "same", steady, steady) })
	b.Run("slower/found", func(b *testing.B) { compareRuns(b, steadyLength, tries, "found", steady, slower) })
}

// compareRuns compares runs of two stores, and counts how often they are the same, or the second one is found to be worse.
func compareRuns(b *testing.B, length time.Duration, tries int, what, before, after string) {
	b.Helper()
	for b.Loop() {
		right := 0
		for range tries {
			changes, err := report.Compare(report.Side{windowsOf(b, before, length)}, report.Side{windowsOf(b, after, length)}, 0.05)
			if err != nil {
				b.Fatal(err)
			}
			verdict := report.Same
			for i := range changes {
				if v := changes[i].Verdict; v != report.Same {
					verdict = v
				}
			}
			if verdict == report.Same && what == "same" || verdict == report.Worse && what == "found" {
				right++
			}
		}
		b.ReportMetric(float64(right), what)
		b.ReportMetric(float64(tries), "tries")
	}
	onlyOurs(b)
}

// windowsOf makes a run, and cuts it as a comparison does.
func windowsOf(b *testing.B, endpoint string, length time.Duration) []*record.Totals {
	b.Helper()
	j := loadTest(b, endpoint, bucketName, job.Spec{
		Workload: "put", Size: "4KiB", Concurrency: 8, Duration: length.Seconds(), WarmUp: 0.3,
	})
	load(b, j)
	j.clear(b)
	open := func() (io.ReadCloser, error) { return os.Open(j.raw.Name()) }
	windows, err := record.Windows(open, record.Cut{}, report.Windows)
	if err != nil {
		b.Fatal(err)
	}
	return windows
}

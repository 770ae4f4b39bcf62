package bench

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// grow lets workers join an "up" that was started with --nats-listen, until there are n.
func (f *fleet) grow(b *testing.B, n int, flags ...string) {
	b.Helper()
	for i := 1; i < n; i++ {
		args := append([]string{
			"worker", "--log-level", "INFO", "--nats-url", f.ready.NATS, "--data", f.ready.Data, "--s3-endpoint", f.ready.S3,
			"--s3-access-key", accessKey, "--s3-secret-key", secretKey, "--auto-buckets", "--egress-allow", "127.0.0.0/8",
		}, flags...)
		cmd := exec.Command(program(b, "COPYFLEET_BIN", "make build"), args...)
		cmd.Env = environ()
		start(b, cmd).says(b, "the worker is ready")
	}
}

// says waits until the process has said something on standard error.
func (p *process) says(b *testing.B, text string) {
	b.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(startLimit)
	for !strings.Contains(p.log.String(), text) {
		select {
		case <-tick.C:
		case <-limit:
			b.Fatalf("%q was not said within %s\n%s", text, startLimit, p.log)
		}
	}
}

// BenchmarkSpread is one object of 1 GiB whose source gives 20 MB/s a connection, copied into a sandbox by four workers that share its parts,
// and by one worker with one stream.
func BenchmarkSpread(b *testing.B) {
	const rate, workers = 20_000_000, 4
	big := newBigFile(b, large(gibibyte), rate)
	contending := func(name string, n int, flags ...string) contender {
		flags = append(flags, "--slots", "8")
		f := startFleet(b, nil, append(flags, "--nats-listen", "127.0.0.1:0")...)
		f.grow(b, n, flags...)
		return contender{
			name: name, cold: true, // a minute of warming up would change nothing
			copy: func(ctx context.Context, round string, _ int) error {
				return f.one(ctx, fromURL(big.url), atSandbox(round))
			},
			check: func(_ context.Context, round string) error { return big.checkFile(f.sandboxDir(round)) },
		}
	}
	took := race(b, 1, contending("four", workers), contending("one", 1, "--part-threshold", "1TiB"))
	speed(b, big.size, took, "four")
	speed(b, big.size, took, "one")
}

// BenchmarkLatency is 4,800 items whose source answers after 50 ms, copied by one worker, by two and by four, with 16 slots each. What it
// reports is the efficiency: the speed of n workers as a share of n times that of one.
func BenchmarkLatency(b *testing.B) {
	const slots, delay = "16", 50 * time.Millisecond
	items := scale(4800)
	src := newSource(b, 1)
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(delay):
		case <-r.Context().Done():
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(fileSize))
		_, _ = w.Write(src.files[0])
	}))
	b.Cleanup(slow.Close)
	contending := func(n int) contender {
		flags := []string{"--slots", slots, "--file-sync", "off"}
		f := startFleet(b, nil, append(flags, "--nats-listen", "127.0.0.1:0")...)
		f.grow(b, n, flags...)
		files := make([][]byte, items)
		for i := range files {
			files[i] = src.files[0]
		}
		return contender{
			name: "workers-" + strconv.Itoa(n),
			copy: func(ctx context.Context, round string, items int) error {
				_, _, err := f.volume().run(ctx, items, toSandboxLine(func(int) string { return slow.URL }, round))
				return err
			},
			check: func(_ context.Context, round string) error { return checkAndRemove(f.sandboxDir(round), files) },
		}
	}
	took := race(b, items, contending(1), contending(2), contending(4))
	for _, n := range []int{2, 4} {
		name := "workers-" + strconv.Itoa(n)
		b.ReportMetric(float64(took["workers-1"].median())/float64(n)/float64(took[name].median()), name+"-efficiency")
	}
}

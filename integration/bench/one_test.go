package bench

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// caller copies one file a call, and can tell in the end whether all are there.
type caller struct {
	name  string
	copy  func(ctx context.Context, i int) error
	check func() error
}

// warmCalls come before those that count: a service that has run for a while is what is measured.
const warmCalls = 10

// BenchmarkOneItem is the time of one synchronous call for one file, HTTP to sandbox, beside a bare loop
// that does the same in the caller's process and beside rclone as a service. All take turns call by call.
func BenchmarkOneItem(b *testing.B) {
	calls := scale(500)
	src := newSource(b, calls)
	service := newRclone(b, src).serve(b)
	// The second of a pair is what the first is compared with.
	callers := []caller{
		calling(startFleet(b, src), "copyfleet-synced"), looping(b, src, "direct-synced", true),
		calling(startFleet(b, src, "--file-sync", "off"), "copyfleet"), looping(b, src, "direct", false),
		serving(b, service, src),
	}
	for _, c := range callers {
		for i := range warmCalls {
			if err := c.copy(b.Context(), i); err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
		}
	}
	took := map[string]samples{}
	for b.Loop() {
		for i := range calls {
			for j := range callers {
				c := callers[(i+j)%len(callers)]
				begun := time.Now()
				if err := c.copy(b.Context(), i); err != nil {
					b.Fatalf("%s, call %d: %v", c.name, i, err)
				}
				took[c.name] = append(took[c.name], time.Since(begun))
			}
		}
		for _, c := range callers {
			if err := c.check(); err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
		}
	}
	onlyOurs(b)
	for _, c := range callers {
		b.ReportMetric(milliseconds(took[c.name].median()), c.name+"-p50-ms")
		b.ReportMetric(milliseconds(took[c.name].quantile(0.99)), c.name+"-p99-ms")
	}
	compare := func(name, peer string) {
		for _, q := range []float64{0.5, 0.99} {
			b.ReportMetric(float64(took[name].quantile(q))/float64(took[peer].quantile(q)), fmt.Sprintf("%s/%s-p%.0f-x", name, peer, q*100))
		}
	}
	compare("copyfleet-synced", "direct-synced")
	compare("copyfleet", "direct")
	compare("copyfleet", "rclone")
}

func calling(f *fleet, name string) caller {
	return caller{
		name: name,
		copy: func(ctx context.Context, i int) error {
			body, err := f.body(i, i+1, toSandbox("one"))
			if err != nil {
				return err
			}
			return f.copy(ctx, body, 1)
		},
		check: func() error { return checkDir(f.sandboxDir("one"), f.source.files) },
	}
}

func looping(b *testing.B, src *source, name string, sync bool) caller {
	b.Helper()
	loop, dir := newDirect(b, src), b.TempDir()
	return caller{
		name:  name,
		copy:  func(ctx context.Context, i int) error { return loop.toFile(ctx, dir, i, sync) },
		check: func() error { return checkDir(dir, src.files) },
	}
}

func serving(b *testing.B, service *rcd, src *source) caller {
	b.Helper()
	dir := b.TempDir()
	return caller{
		name:  "rclone",
		copy:  func(ctx context.Context, i int) error { return service.copyURL(ctx, src.at(i), dir, fileName(i)) },
		check: func() error { return checkDir(dir, src.files) },
	}
}

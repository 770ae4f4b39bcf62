package measuring

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// TestCopiesThroughTheFleet are made by calls and by batches, each told of once, and removed with their sources.
func TestCopiesThroughTheFleet(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	copies := func(exit int, args ...string) (mixtest.Output, summary) {
		t.Helper()
		return s.bench(t, exit, append([]string{"copy", "--size", "8KiB", "--objects", "10", "--count", "60"}, args...)...)
	}
	for name, args := range map[string][]string{"calls": nil, "batches": {"--batch", "20", "--concurrency", "40"}} {
		_, got := copies(0, args...)
		if f := got.ByOperation["copy"]; f.Operations != 60 || f.Errors != 0 || !(f.MiB > 0) || len(got.Partial) != 0 {
			t.Errorf("%s: %+v, failures %+v, partial %q", name, f, got.Failures, got.Partial)
		}
		s.wantEmpty(t)
	}
	copies(4, "--api-key", "cfk_0123456789012345678901234567890123456789012")
	copies(5, "--url", "http://"+mixtest.FreeAddress(t))
	copies(2, "--url", "ftp://127.0.0.1")
	copies(2, "--batch", "0")
	s.wantEmpty(t)
}

// TestReplayOfABatch makes an operation for each item that was copied, of its size.
func TestReplayOfABatch(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	var manifest strings.Builder
	manifest.WriteString("url,path\n")
	sizes := 0
	for i := range 20 {
		content := strings.Repeat("x", 1000*(i+1))
		sizes += len(content)
		path := "/replay/" + string(rune('a'+i))
		manifest.WriteString(s.Give(path, []byte(content)) + "," + path + "\n")
	}
	manifest.WriteString("http://127.0.0.1:1/nothing,/replay/nothing\n")
	dir := t.TempDir()
	items, csv := filepath.Join(dir, "items.csv"), filepath.Join(dir, "report.csv")
	if err := os.WriteFile(items, []byte(manifest.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	submitted := s.command(t, 1, "submit", items, "--sandbox", s.Sandbox, "--attempts", "1")
	_, rest, _ := strings.Cut(submitted.Stdout, "bat_")
	batch := "bat_" + rest[:26]
	s.command(t, 0, "report", batch, "-o", csv)
	for _, c := range []struct {
		args []string
		kind string
	}{
		{nil, "put"},
		{[]string{"--as", "get", "--speed", "1000", "--objects", "5"}, "get"},
		{[]string{"--as", "copy", "--speed", "flat"}, "copy"},
	} {
		out, got := s.bench(t, 0, append([]string{"replay", csv}, c.args...)...)
		if f := got.ByOperation[c.kind]; f.Operations != 20 || got.Operations != 20 || got.Errors != 0 {
			t.Errorf("%q: %+v, failures %+v", c.args, got.figures, got.Failures)
		}
		if !strings.Contains(out.Stderr, "1 item of the report not replayed") {
			t.Errorf("%q does not say that an item failed: %s", c.args, out.Stderr)
		}
		s.wantEmpty(t)
	}
	s.bench(t, 2, "replay", items)                         // no report
	s.bench(t, 3, "replay", filepath.Join(dir, "no-such")) // no file
	s.bench(t, 2, "replay", csv, "--speed", "0")           // no speed
	s.bench(t, 2, "replay", csv, "--as", "delete")         // nothing that a batch does
	s.bench(t, 2, "replay", csv, "--rate", "5")            // it has times of its own
	s.bench(t, 2, "replay", csv, "--workers", "2")         // one load generator has it
}

// TestAutoTerm ends a run whose throughput has settled, long before its time.
func TestAutoTerm(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	args := []string{"put", "--autoterm", "--autoterm-window", "1s", "--autoterm-windows", "2", "--autoterm-tolerance", "0.99", "--duration", "1h", "--warm-up", "1s"}
	if _, got := s.bench(t, 0, args...); got.Operations == 0 || len(got.Partial) != 0 {
		t.Errorf("%d operations, partial %q", got.Operations, got.Partial)
	}
}

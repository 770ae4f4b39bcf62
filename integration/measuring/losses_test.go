package measuring

import (
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// TestStoreThatDies in mid-run ends the run, which leaves a report of what was done, with the errors by their class, that calls itself partial.
func TestStoreThatDies(t *testing.T) {
	t.Parallel()
	server := miniotest.Start(t)
	s := onMinIO(t, server)
	r := s.start(t, "put", "--duration", "1h", "--warm-up", "0s")
	server.Kill()
	stderr, got := r.end(t, 5)
	if got.Operations == 0 || got.Errors == 0 || len(got.Failures) == 0 || got.Failures[0].Class != "unavailable" && got.Failures[0].Class != "interrupted" {
		t.Errorf("%d operations, %d errors: %+v", got.Operations, got.Errors, got.Failures)
	}
	if len(got.Partial) == 0 || !strings.Contains(stderr, "left below s3://") {
		t.Errorf("partial %q; what is left is not told: %s", got.Partial, stderr)
	}
	if got.Errors > 10_000 {
		t.Errorf("%d errors: it did not rest", got.Errors)
	}
}

// TestManyGenerators make one load together; one that is killed is told of, and nothing is left of what it wrote.
func TestManyGenerators(t *testing.T) {
	t.Parallel()
	s := onMinIO(t, miniotest.Shared(t))
	s.StartNATS(t)
	raw := t.TempDir()
	join := func() *mixtest.Process { return s.Join(t, "--raw-dir", raw) }
	first, second := join(), join()
	_, got := s.bench(t, 0, "mixed", "--workers", "2", "--count", "401", "--objects", "20")
	if got.Operations != 401 || got.Errors != 0 {
		t.Errorf("%d operations of 401, %d errors", got.Operations, got.Errors)
	}
	s.wantEmpty(t)
	out := s.command(t, 0, "bench", "analyze", raw+"/copyfleet-bench-"+got.Run+"-0.ndjson.zst", raw+"/copyfleet-bench-"+got.Run+"-1.ndjson.zst")
	if kept := last(t, out.Stdout); kept.Operations != 401 {
		t.Errorf("the files of both have %d operations of 401", kept.Operations)
	}
	s.bench(t, 5, "put", "--workers", "3", "--patience", "2s", "--count", "3") // there are two

	r := s.start(t, "put", "--workers", "2", "--duration", "30s", "--warm-up", "0s")
	second.Kill9(t)
	_, partial := r.end(t, 5)
	if partial.Operations == 0 || len(partial.Partial) != 1 {
		t.Errorf("%d operations, partial %q", partial.Operations, partial.Partial)
	}
	s.wantEmpty(t)
	if first.Over() {
		t.Error("the other generator ended")
	}
}

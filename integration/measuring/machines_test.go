package measuring

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
)

// TestCoordinatorsOfGenerators: one has the generators at a time; one that is interrupted reports what all did; one that is killed leaves them free.
func TestCoordinatorsOfGenerators(t *testing.T) {
	t.Parallel()
	s := onMinIO(t, miniotest.Shared(t))
	s.StartNATS(t)
	workers := []interface{ Over() bool }{s.Join(t), s.Join(t)}
	load := []string{"put", "--workers", "2", "--duration", "5m", "--warm-up", "0s"}

	r := s.start(t, load...)
	out, _ := s.bench(t, 5, "put", "--workers", "1", "--patience", "10s", "--count", "3")
	if !strings.Contains(out.Stdout+out.Stderr, "2 answered, of which 2 are taken by another coordinator") {
		t.Errorf("another coordinator is told %s%s", out.Stdout, out.Stderr)
	}
	r.signal(t, syscall.SIGINT)
	if _, got := r.end(t, 6); got.Operations == 0 || got.Errors > 0 || !slices.Equal(got.Partial, []string{"it was interrupted"}) {
		t.Errorf("%d operations, %d errors, partial %q", got.Operations, got.Errors, got.Partial)
	}
	s.wantEmpty(t)

	r = s.start(t, load...)
	r.signal(t, syscall.SIGKILL)
	r.end(t, -1)
	if _, got := s.bench(t, 0, "put", "--workers", "2", "--patience", "2m", "--count", "50", "--force"); got.Operations != 50 || got.Errors > 0 {
		t.Errorf("afterwards %d operations of 50, %d errors", got.Operations, got.Errors)
	}
	for i, w := range workers {
		if w.Over() {
			t.Errorf("generator %d has ended", i)
		}
	}
}

// TestGeneratorIsToldToEnd in mid-run: what it did counts, and it leaves by itself.
func TestGeneratorIsToldToEnd(t *testing.T) {
	t.Parallel()
	s := onMinIO(t, miniotest.Shared(t))
	s.StartNATS(t)
	s.Join(t)
	leaves := s.Join(t)
	r := s.start(t, "put", "--workers", "2", "--duration", "30s", "--warm-up", "0s")
	leaves.Signal(t, syscall.SIGTERM)
	if code := leaves.Wait(t); code != 0 {
		t.Errorf("the generator ended with %d: %s", code, leaves.Log())
	}
	_, got := r.end(t, 5)
	if got.Operations == 0 || len(got.Partial) != 1 || !strings.HasPrefix(got.Partial[0], "generator ") || !strings.HasSuffix(got.Partial[0], ": it was interrupted") {
		t.Errorf("%d operations, partial %q", got.Operations, got.Partial)
	}
	s.wantEmpty(t)
}

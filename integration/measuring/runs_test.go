package measuring

import (
	"encoding/json"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
)

// TestWorkloads makes each workload on both stores: every operation is told of, none has failed, and nothing is left.
func TestWorkloads(t *testing.T) {
	t.Parallel()
	t.Run("MinIO", func(t *testing.T) {
		t.Parallel()
		workloads(t, onMinIO(t, miniotest.Shared(t)))
	})
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		workloads(t, embedded(t))
	})
}

func workloads(t *testing.T, s *store) {
	for _, c := range []struct {
		args  []string
		kinds []string
		moved bool
	}{
		{[]string{"put", "--count", "200", "--size", "4KiB"}, []string{"put"}, true},
		{[]string{"get", "--count", "200", "--size", "uniform:1KiB-64KiB", "--objects", "20", "--verify"}, []string{"get"}, true},
		{[]string{"mixed", "--count", "400", "--size", "1KiB:70,16KiB:30", "--objects", "50", "--verify"}, []string{"delete", "get", "list", "put", "stat"}, true},
		{[]string{"mixed", "--count", "100", "--mix", "stat=1,list=1", "--objects", "10"}, []string{"list", "stat"}, false},
		{[]string{"multipart", "--count", "6", "--size", "11MiB", "--part-size", "5MiB", "--concurrency", "2"}, []string{"multipart"}, true},
	} {
		_, got := s.bench(t, 0, c.args...)
		var kinds []string
		operations := 0
		for kind, f := range got.ByOperation {
			kinds = append(kinds, kind)
			operations += f.Operations
			if f.Operations > 0 && !(f.Latency.P50 > 0 && f.Latency.P50 <= f.Latency.P99 && f.Latency.P99 <= f.Latency.Max) {
				t.Errorf("%q: latencies of %s: %+v", c.args, kind, f.Latency)
			}
		}
		slices.Sort(kinds)
		var count int
		_ = json.Unmarshal([]byte(c.args[2]), &count)
		if !slices.Equal(kinds, c.kinds) || got.Operations != count || operations != count || got.Errors != 0 || len(got.Partial) != 0 {
			t.Errorf("%q: %v with %d operations (%d in all), %d errors %+v, partial %q", c.args, kinds, operations, got.Operations, got.Errors, got.Failures, got.Partial)
		}
		if got.Ops <= 0 || (got.MiB > 0) != c.moved {
			t.Errorf("%q: %v operations and %v MiB a second", c.args, got.Ops, got.MiB)
		}
		s.wantEmpty(t)
	}
}

// TestOpenLoopIsAsDenseAsAskedFor whatever the store does: what it could not begin is told.
func TestOpenLoopIsAsDenseAsAskedFor(t *testing.T) {
	t.Parallel()
	s := onMinIO(t, miniotest.Shared(t))
	_, got := s.bench(t, 0, "put", "--rate", "100", "--duration", "3s", "--warm-up", "1s")
	if due := got.Operations + got.Errors + got.NotBegun; due < 200 || due > 200+got.Outside {
		t.Errorf("%d operations were due in two seconds at 100 a second; %d outside", due, got.Outside)
	}
	_, poisson := s.bench(t, 0, "put", "--rate", "500", "--arrivals", "poisson", "--count", "300", "--seed", "7")
	if poisson.Operations != 300 {
		t.Errorf("%d operations of 300", poisson.Operations)
	}
}

// TestFilesSayWhatTheRunSaid, also when they are merged, and what breaks off says so.
func TestFilesSayWhatTheRunSaid(t *testing.T) {
	t.Parallel()
	s := onMinIO(t, miniotest.Shared(t))
	dir := t.TempDir()
	a, b, page := filepath.Join(dir, "a.zst"), filepath.Join(dir, "b.zst"), filepath.Join(dir, "page.html")
	_, run := s.bench(t, 0, "mixed", "--duration", "10s", "--objects", "50", "--seed", "5", "--raw", a, "--html", page)
	if html := textOf(t, dir, "page.html"); !strings.Contains(html, run.Run) || !strings.HasSuffix(strings.TrimSpace(html), "</html>") {
		t.Errorf("the page has %d bytes and no word of the run %s", len(html), run.Run)
	}
	again := last(t, s.command(t, 0, "bench", "analyze", a).Stdout)
	if again.Run != run.Run || again.Operations != run.Operations || math.Abs(again.Ops-run.Ops) > 1e-6*run.Ops || again.Latency != run.Latency {
		t.Errorf("the file says %+v, the run %+v", again.figures, run.figures)
	}
	_, second := s.bench(t, 0, "mixed", "--duration", "10s", "--objects", "50", "--seed", "5", "--raw", b)
	merged := last(t, s.command(t, 0, "bench", "merge", a, b, "-o", filepath.Join(dir, "m.zst")).Stdout)
	if merged.Operations != run.Operations+second.Operations {
		t.Errorf("%d operations in the merged file, not %d", merged.Operations, run.Operations+second.Operations)
	}
	s.command(t, 2, "bench", "merge", a, b, "-o", a)                           // it is there
	s.command(t, 2, "bench", "merge", a, a, "-o", filepath.Join(dir, "twice")) // one generator twice
	s.command(t, 2, "bench", "cmp", a+","+a, b)                                // one run twice
	s.command(t, 3, "bench", "analyze", filepath.Join(dir, "nothing"))         // no such file
	s.command(t, 2, "bench", "analyze", page)                                  // something else
	s.command(t, 1, "bench", "analyze", a, "--fail-if", "ops>0")               // a limit that holds
	s.command(t, 2, "bench", "analyze", a, "--fail-if", "p99>5")               // no unit
	s.command(t, 0, "bench", "analyze", a, "--fail-if", "errors>0", "--head", "1s")
	var told struct {
		Changes []struct {
			Verdict string `json:"verdict"`
		} `json:"changes"`
		Warnings []string `json:"warnings"`
	}
	compared := s.command(t, 0, "bench", "cmp", a, a)
	if err := json.Unmarshal([]byte(compared.Stdout), &told); err != nil || len(told.Changes) == 0 || len(told.Warnings) != 0 {
		t.Fatalf("%v %+v", err, told)
	}
	for _, c := range told.Changes {
		if c.Verdict != "no difference" {
			t.Errorf("a run differs from itself: %s", compared.Stdout)
		}
	}
}

package measuring

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// command runs copyfleet with --json, to an exit code.
func (s *store) command(t *testing.T, exit int, args ...string) mixtest.Output {
	t.Helper()
	out := s.Command(t, nil, append([]string{"--json"}, args...)...)
	if out.Exit != exit {
		t.Fatalf("copyfleet %q ended with %d, want %d\n%s%s", args, out.Exit, exit, out.Stdout, out.Stderr)
	}
	return out
}

// TestBucketOfOthers is refused, and used with --force without a change to what is there.
func TestBucketOfOthers(t *testing.T) {
	t.Parallel()
	s := onMinIO(t, miniotest.Shared(t))
	s.put(t, "copyfleet-benchmarks/theirs", "not ours")
	s.put(t, "z", "not ours either")
	out, _ := s.bench(t, 2, "put", "--count", "3")
	if !strings.Contains(out.Stderr, "--force") || out.Stdout != "" {
		t.Errorf("the refusal names no way out: %s%s", out.Stdout, out.Stderr)
	}
	s.bench(t, 0, "mixed", "--count", "50", "--objects", "10", "--force")
	if keys := strings.Join(s.keys(t), " "); keys != "copyfleet-benchmarks/theirs z" {
		t.Errorf("the bucket has %s", keys)
	}
}

// TestKeep leaves the objects below the run's prefix, which is no obstacle to the next run and not touched by it.
func TestKeep(t *testing.T) {
	t.Parallel()
	s := onMinIO(t, miniotest.Shared(t))
	_, kept := s.bench(t, 0, "put", "--count", "5", "--keep")
	s.bench(t, 0, "put", "--count", "5")
	keys := s.keys(t)
	if len(keys) != 5 {
		t.Errorf("%d keys are left, not those 5", len(keys))
	}
	for _, key := range keys {
		if !strings.HasPrefix(key, "copyfleet-bench/"+kept.Run+"/") {
			t.Errorf("%s is left", key)
		}
	}
}

// TestMostBytes ends a run, and refuses what does not fit from the beginning.
func TestMostBytes(t *testing.T) {
	t.Parallel()
	s := onMinIO(t, miniotest.Shared(t))
	if _, got := s.bench(t, 0, "put", "--size", "64KiB", "--max-bytes", "1MiB", "--warm-up", "0s"); got.Operations != 16 {
		t.Errorf("%d objects of 64 KiB in 1 MiB", got.Operations)
	}
	if _, got := s.bench(t, 0, "get", "--size", "64KiB", "--objects", "4", "--max-bytes", "1MiB", "--warm-up", "0s"); got.Operations != 12 {
		t.Errorf("%d reads of 64 KiB in 1 MiB, 4 of which were written first", got.Operations)
	}
	s.bench(t, 2, "get", "--size", "64KiB", "--objects", "40", "--max-bytes", "1MiB")
	s.wantEmpty(t)
}

// TestInterruptedRun reports what it did, removes it and says that it was interrupted.
func TestInterruptedRun(t *testing.T) {
	t.Parallel()
	s := onMinIO(t, miniotest.Shared(t))
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		r := s.start(t, "put", "--duration", "1h", "--warm-up", "0s")
		r.signal(t, sig)
		_, got := r.end(t, 6)
		if got.Operations == 0 || len(got.Partial) != 1 || got.Errors != 0 {
			t.Errorf("%v: %d operations, %d errors, partial %q", sig, got.Operations, got.Errors, got.Partial)
		}
		s.wantEmpty(t)
	}
}

// TestSecretsStayOut of everything that is written.
func TestSecretsStayOut(t *testing.T) {
	t.Parallel()
	s := onMinIO(t, miniotest.Start(t))
	dir := t.TempDir()
	secret := "a-secret-that-is-wrong"
	out := s.Command(t, nil, s.args([]string{"put", "--count", "3", "--secret-key", secret})...)
	out2 := s.Command(t, nil, s.args([]string{"put", "--count", "3", "--raw", filepath.Join(dir, "raw"), "--html", filepath.Join(dir, "html")})...)
	server := miniotest.Shared(t)
	if out.Exit != 4 || out2.Exit != 0 {
		t.Fatalf("exit %d and %d\n%s%s", out.Exit, out2.Exit, out.Stderr, out2.Stderr)
	}
	analyzed := s.command(t, 0, "bench", "analyze", filepath.Join(dir, "raw"))
	for name, text := range map[string]string{"a refusal": out.Stdout + out.Stderr, "a run": out2.Stdout + out2.Stderr, "a page": textOf(t, dir, "html"), "a file": analyzed.Stdout} {
		if strings.Contains(text, secret) || strings.Contains(text, server.SecretKey) {
			t.Errorf("%s tells a secret", name)
		}
	}
}

// TestWhatCannotRun has a clear message and its exit code, and writes nothing.
func TestWhatCannotRun(t *testing.T) {
	t.Parallel()
	s := onMinIO(t, miniotest.Shared(t))
	dir := t.TempDir()
	taken := filepath.Join(dir, "taken")
	if err := os.WriteFile(taken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	nobody := mixtest.FreeAddress(t)
	for name, c := range map[string]struct {
		exit int
		says string
		args []string
	}{
		"an unknown option":     {2, "--sise", []string{"put", "--sise", "4KiB"}},
		"an unknown workload":   {2, "unexpected", []string{"putt"}},
		"no bucket":             {2, "--bucket", []string{"put", "--bucket", ""}},
		"a missing bucket":      {3, "does not exist", []string{"put", "--bucket", "no-such-bucket"}},
		"a name of no bucket":   {2, "bucket", []string{"put", "--bucket", "A/B"}},
		"wrong credentials":     {4, "check --access-key", []string{"put", "--secret-key", "wrong-secret"}},
		"nobody there":          {5, nobody, []string{"put", "--endpoint", "http://" + nobody}},
		"nobody's address":      {5, "check --endpoint", []string{"put", "--endpoint", "http://" + nobody}},
		"no URL":                {2, "--endpoint", []string{"put", "--endpoint", "ftp://x"}},
		"no size":               {2, "--size", []string{"put", "--size", "4XB"}},
		"a size that is larger": {2, "5GiB", []string{"put", "--size", "6GiB"}},
		"no histogram":          {2, "no such file", []string{"put", "--size", "histogram:" + filepath.Join(dir, "none")}},
		"an empty mix":          {2, "--mix", []string{"mixed", "--mix", ""}},
		"shares of nothing":     {2, "all shares are 0", []string{"mixed", "--mix", "get=0"}},
		"a mix of copies":       {2, "cannot be mixed", []string{"mixed", "--mix", "copy=5,get=5"}},
		"a mix that runs dry":   {2, "nothing would be left", []string{"mixed", "--mix", "delete=50,get=50"}},
		"a share twice":         {2, "stands twice", []string{"mixed", "--mix", "get=1,get=2"}},
		"no rate":               {2, "--rate", []string{"put", "--rate", "0"}},
		"a rate that is none":   {2, "--rate", []string{"put", "--rate", "NaN"}},
		"a negative duration":   {2, "--duration", []string{"put", "--duration", "-1s"}},
		"only warm-up":          {2, "--warm-up", []string{"put", "--duration", "1s", "--warm-up", "1s"}},
		"no concurrency":        {2, "--concurrency", []string{"put", "--concurrency", "0"}},
		"a prefix with slashes": {2, "--prefix", []string{"put", "--prefix", "a/b"}},
		"no limit":              {2, "--fail-if", []string{"put", "--fail-if", "p99<"}},
		"a limit of nothing":    {2, "--fail-if", []string{"put", "--fail-if", "p42>1ms"}},
		"small parts":           {2, "--part-size", []string{"multipart", "--part-size", "1MiB"}},
		"a file that is there":  {2, "--raw", []string{"put", "--raw", taken}},
		"no URL of a NATS":      {2, "its address is no URL", []string{"put", "--workers", "2", "--nats-url", "nats://u:pa%ss@127.0.0.1:1"}},
		"a key in a URL":        {2, "no credentials", []string{"copy", "--url", "http://u:pass@127.0.0.1:1"}},
		"a limit of another":    {2, "makes no get", []string{"put", "--fail-if", "p99(get)>1h"}},
		"a duration of nothing": {2, "--duration", []string{"put", "--duration", "0s"}},
		"no bytes":              {2, "--max-bytes", []string{"put", "--max-bytes", "0"}},
		"fewer than an object":  {2, "has to fit into --max-bytes", []string{"put", "--max-bytes", "1KiB"}},
		"arrivals of no rate":   {2, "--arrivals", []string{"put", "--arrivals", "poisson"}},
		"windows of no use":     {2, "--autoterm-window", []string{"put", "--autoterm-window", "1s"}},
		"no NATS":               {2, "--nats-url", []string{"put", "--workers", "2", "--nats-url", ""}},
	} {
		out := s.Command(t, nil, append(s.args(c.args), "--count", "3")...)
		if out.Exit != c.exit || !strings.Contains(strings.ToLower(out.Stderr), strings.ToLower(c.says)) || strings.Contains(out.Stderr, "goroutine") {
			t.Errorf("%s: it ended with %d, want %d with a word of %q\n%s%s", name, out.Exit, c.exit, c.says, out.Stdout, out.Stderr)
		}
	}
	s.bench(t, 2, "put", "--count", "0") // the others have a count
	s.wantEmpty(t)
}

// TestLimits set the exit code, and the report is told all the same.
func TestLimits(t *testing.T) {
	t.Parallel()
	s := onMinIO(t, miniotest.Shared(t))
	_, got := s.bench(t, 1, "put", "--count", "20", "--fail-if", "p99(put)>1ns", "--fail-if", "errors>0", "--fail-if", "ops(put)<1000000000")
	if got.Operations != 20 || len(got.Exceeded) != 2 || got.Exceeded[0].Limit != "p99(put)>1ns" {
		t.Errorf("%d operations, exceeded %+v", got.Operations, got.Exceeded)
	}
	s.bench(t, 0, "put", "--count", "20", "--fail-if", "errors>0", "--fail-if", "error_share>0.5")
}

package happy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

func TestDemo(t *testing.T) {
	t.Parallel()
	f := mixtest.NewUp(t)
	data := filepath.Join(t.TempDir(), "demo")
	out := f.Command(t, nil, "demo", "--data", data)
	if out.Exit != 0 || strings.Contains(out.Stdout, "UNEXPECTED") || !strings.Contains(out.Stdout, "each as it should be") {
		t.Errorf("exit %d\n%s\n%s", out.Exit, out.Stdout, out.Stderr)
	}
	if _, err := os.Stat(filepath.Join(data, "sandboxes", "ORG-dev", "SBX-demo", "home", "agent", "file1.txt")); err != nil {
		t.Errorf("the files are not where it says: %v", err)
	}
}

// TestReadyLine checks the line that other programs read, and that it is the only one on standard output.
func TestReadyLine(t *testing.T) {
	t.Parallel()
	f := mixtest.NewUp(t, "NATS_LISTEN=127.0.0.1:0")
	p := f.Start(t, "up")
	var lines []string
	for line := range strings.Lines(p.Log()) {
		if strings.HasPrefix(line, "{") {
			lines = append(lines, line)
		}
	}
	if len(lines) != 1 {
		t.Fatalf("%d lines of JSON: %q", len(lines), lines)
	}
	var ready map[string]string
	if err := json.Unmarshal([]byte(lines[0]), &ready); err != nil {
		t.Fatal(err)
	}
	if ready["api"] != f.API.URL || ready["org"] != f.API.Org || ready["api_key"] != f.API.Key ||
		!strings.HasPrefix(ready["s3"], "http://127.0.0.1:") || !strings.HasPrefix(ready["nats"], "nats://127.0.0.1:") || !filepath.IsAbs(ready["data"]) || len(ready) != 6 {
		t.Errorf("%v", ready)
	}
	second := f.Command(t, []string{"LISTEN=127.0.0.1:0", "S3_LISTEN=127.0.0.1:0"}, "up")
	if second.Exit != 5 || !strings.Contains(second.Stderr, ready["data"]) || !strings.Contains(second.Stderr, "in use") {
		t.Errorf("a second up on the same directory: exit %d: %s", second.Exit, second.Stderr)
	}
	p.Signal(t, syscall.SIGTERM)
	if exit := p.Wait(t); exit != 0 {
		t.Errorf("after SIGTERM: exit %d", exit)
	}
}

func TestKeyIsMadeOnceAndKept(t *testing.T) {
	t.Parallel()
	f := mixtest.NewUp(t)
	key := func() string {
		p := f.Start(t, "up", "API_KEY=")
		_, rest, _ := strings.Cut(p.Log(), `"api_key":"`)
		key, _, _ := strings.Cut(rest, `"`)
		p.Signal(t, syscall.SIGTERM)
		if exit := p.Wait(t); exit != 0 {
			t.Errorf("exit %d", exit)
		}
		return key
	}
	first := key()
	if second := key(); len(first) < 40 || first != second {
		t.Errorf("keys %q and %q", first, second)
	}
}

func TestRestartKeepsBatches(t *testing.T) {
	t.Parallel()
	f := mixtest.NewUp(t)
	p := f.Start(t, "up")
	batch := f.Mixed(t, "kept", 15)
	answer, err := f.API.Copy(t.Context(), f.Sandbox, nil, batch.Files())
	if err != nil {
		t.Fatal(err)
	}
	p.Signal(t, syscall.SIGTERM)
	p.Wait(t)
	f.Start(t, "up")
	f.Check(t, answer.Batch(), batch, limit)
}

// TestWorkerJoinsUp lets a worker of its own work for an up whose own worker is held up.
func TestWorkerJoinsUp(t *testing.T) {
	t.Parallel()
	f := mixtest.NewUp(t, "NATS_LISTEN=127.0.0.1:0", "SLOTS=1", "S3_ACCESS_KEY=joinkey", "S3_SECRET_KEY=joinsecret")
	ready := f.Start(t, "up").Ready(t)
	gate := make(chan struct{})
	held := mixtest.Batch{{ID: "held", Src: mixtest.FromURL(f.GiveHalf("/held", random(100), gate)), Dest: mixtest.ToSandbox("/held")}}
	answer, err := f.API.Copy(t.Context(), f.Sandbox, map[string]string{"Prefer": "respond-async"}, held.Files())
	if err != nil {
		t.Fatal(err)
	}
	if !mixtest.Until(limit, func() bool { return f.Asked("/held") > 0 }) {
		t.Fatal("the copy did not begin")
	}
	f.Start(t, "worker", "NATS_URL="+ready["nats"], "S3_ENDPOINT="+ready["s3"], "AUTO_BUCKETS=true")
	batch := f.Mixed(t, "joined", 10)
	second, err := f.API.Copy(t.Context(), f.Sandbox, nil, batch.Files())
	if err != nil {
		t.Fatal(err)
	}
	f.API.WaitFinal(t, second.Batch(), limit)
	close(gate)
	f.API.WaitFinal(t, answer.Batch(), limit)
	f.Check(t, second.Batch(), batch, limit)
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	f := mixtest.NewUp(t)
	for _, row := range []struct {
		args []string
		env  []string
		exit int
	}{
		{[]string{"--help"}, nil, 0},
		{[]string{"--version"}, nil, 0},
		{[]string{"nonsense"}, nil, 2},
		{[]string{"up", "--nonsense"}, nil, 2},
		{[]string{"up", "--org", "no spaces"}, []string{"S3_LISTEN=127.0.0.1:0"}, 2},
		{[]string{"up", "--sandboxes", "ftp://x"}, []string{"S3_LISTEN=127.0.0.1:0"}, 2},
		{[]string{"worker"}, nil, 2},
		{[]string{"api"}, nil, 2},
		{[]string{"aggregator"}, nil, 2},
		{[]string{"aggregator", "--nats-url", "nats://127.0.0.1:1"}, nil, 5},
		{[]string{"orgs", "list"}, nil, 5}, // nothing listens
	} {
		if out := f.Command(t, row.env, row.args...); out.Exit != row.exit {
			t.Errorf("%v: exit %d, want %d: %s", row.args, out.Exit, row.exit, out.Stderr)
		}
	}
}

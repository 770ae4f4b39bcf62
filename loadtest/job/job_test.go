package job

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(miniotest.Main(m)) }

func sound() *Spec {
	return &Spec{
		Workload: "mixed", Mix: "put=1,get=2", Endpoints: []string{"http://127.0.0.1:1"}, Bucket: "bench", Prefix: "copyfleet-bench", Size: "4KiB", Objects: 10,
		Concurrency: 4, Count: 100,
	}
}

// TestSpecsThatCannotBe are refused with the name of the option.
func TestSpecsThatCannotBe(t *testing.T) {
	t.Parallel()
	if err := sound().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Spec){
		"--endpoint":           func(s *Spec) { s.Endpoints = nil },
		"--bucket":             func(s *Spec) { s.Bucket = "" },
		"--prefix":             func(s *Spec) { s.Prefix = ".." },
		"--size":               func(s *Spec) { s.Size = "histogram:/etc/passwd" },
		"--mix":                func(s *Spec) { s.Mix = "get" },
		"--objects":            func(s *Spec) { s.Objects = 0 },
		"--concurrency":        func(s *Spec) { s.Concurrency = MostConcurrency + 1 },
		"--duration":           func(s *Spec) { s.Duration = math.NaN() },
		"--warm-up":            func(s *Spec) { s.WarmUp = math.Inf(1) },
		"--max-bytes":          func(s *Spec) { s.MaxBytes = -1 },
		"--rate":               func(s *Spec) { s.Rate = math.Inf(1); s.Arrivals = "even" },
		"--arrivals":           func(s *Spec) { s.Arrivals = "even" },
		"--url":                func(s *Spec) { s.API = "http://127.0.0.1:1" },
		"--autoterm-window":    func(s *Spec) { s.AutoTerm = &AutoTerm{Window: 1.5, Windows: 3, Tolerance: 0.1} },
		"--autoterm-windows":   func(s *Spec) { s.AutoTerm = &AutoTerm{Window: 2, Windows: 1, Tolerance: 0.1} },
		"--autoterm-tolerance": func(s *Spec) { s.AutoTerm = &AutoTerm{Window: 2, Windows: 3, Tolerance: math.NaN()} },
		"--page":               func(s *Spec) { s.Page = 1001 },
		"--parts-at-once":      func(s *Spec) { s.PartsAtOnce = -1 },
		"replay":               func(s *Spec) { s.Replay = &Replay{As: "put"} },
		"workload":             func(s *Spec) { s.Workload = "putt" },
	} {
		s := sound()
		spoil(s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWhatASpecMakes are the operations that limits can be about.
func TestWhatASpecMakes(t *testing.T) {
	t.Parallel()
	mixed, replay, broken := sound(), sound(), sound()
	replay.Workload, replay.Mix, replay.Replay = "replay", "", &Replay{As: "copy"}
	broken.Mix = "get"
	for _, row := range []struct {
		spec      *Spec
		operation string
		want      bool
	}{
		{mixed, "put", true}, {mixed, "get", true}, {mixed, "delete", false}, {mixed, "copy", false}, {mixed, "fly", false},
		{replay, "copy", true}, {replay, "put", false}, {broken, "get", false},
	} {
		if got := row.spec.Makes(row.operation); got != row.want {
			t.Errorf("%s makes %s: %v", row.spec.Workload, row.operation, got)
		}
	}
}

// TestGeneratorsShareARun: their operations add up, their keys are apart, and what each keeps has the options and no secret.
func TestGeneratorsShareARun(t *testing.T) {
	t.Parallel()
	server := miniotest.Shared(t)
	spec := sound()
	spec.Endpoints, spec.Bucket, spec.Count, spec.Verify = []string{server.Endpoint}, server.NewBucket(t), 101, true
	secrets := Secrets{AccessKey: server.AccessKey, SecretKey: server.SecretKey}
	var whole *record.Run
	var files [3]bytes.Buffer
	for i := range files {
		j, err := New(&Config{Spec: spec, Secrets: secrets, Place: loadtest.Place{Run: "r", Generator: i, Generators: 3}, Raw: &files[i], Version: "v"})
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		run, err := j.Run(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		j.Close()
		if whole == nil {
			whole = run
		} else {
			whole.Merge(run)
		}
	}
	ops, failed := int64(0), int64(0)
	for _, g := range whole.Totals.Groups {
		ops, failed = ops+g.Ops, failed+g.Errors
	}
	if ops != 101 || failed != 0 || len(whole.Partial) != 0 {
		t.Errorf("%d operations of 101, %d failed, partial %q", ops, failed, whole.Partial)
	}
	for i := range files {
		reader, err := record.NewReader(bytes.NewReader(files[i].Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		var kept Spec
		if err := json.Unmarshal(reader.Header().Options, &kept); err != nil || kept.Mix != spec.Mix || reader.Header().Generator != i {
			t.Errorf("generator %d kept %s, %v", reader.Header().Generator, reader.Header().Options, err)
		}
		head, _ := json.Marshal(reader.Header())
		if strings.Contains(string(head), server.SecretKey) || strings.Contains(string(head), server.AccessKey) {
			t.Error("a file has a secret")
		}
		reader.Close()
	}
	store, err := NewStore(&Config{Spec: spec, Secrets: secrets, Place: loadtest.Place{Run: "r"}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	removed, err := store.Clear(t.Context())
	if err != nil || removed < 30 {
		t.Errorf("%d objects were removed, %v", removed, err)
	}
	if again, err := store.Clear(t.Context()); again != 0 || err != nil {
		t.Errorf("%d objects were left, %v", again, err)
	}
}

// TestFewerOperationsThanGenerators would be a load without end for some of them.
func TestFewerOperationsThanGenerators(t *testing.T) {
	t.Parallel()
	spec := sound()
	spec.Count = 2
	if _, err := New(&Config{Spec: spec, Secrets: Secrets{AccessKey: "a", SecretKey: "b"}, Place: loadtest.Place{Run: "r", Generators: 3}}); err == nil {
		t.Error("3 generators share 2 operations")
	}
}

// TestFileThatCannotBeWritten does not lose what was measured.
func TestFileThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	server := miniotest.Shared(t)
	spec := sound()
	spec.Endpoints, spec.Bucket = []string{server.Endpoint}, server.NewBucket(t)
	spec.Count = 1000
	full := &limited{left: 1000} // the header fits, and what 1000 operations say does not
	j, err := New(&Config{Spec: spec, Secrets: Secrets{AccessKey: server.AccessKey, SecretKey: server.SecretKey}, Place: loadtest.Place{Run: "r"}, Raw: full})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := j.Prepare(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	run, err := j.Run(t.Context(), nil)
	if err == nil || run == nil || run.Totals.Groups[0].Ops == 0 {
		t.Errorf("a file on a full disk: %v, %+v", err, run)
	}
}

// limited takes some bytes.
type limited struct{ left int }

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.left {
		return 0, io.ErrShortWrite
	}
	l.left -= len(p)
	return len(p), nil
}

package measuring

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(miniotest.Main(mixtest.Runner{M: m})) }

const limit = 4 * time.Minute

// store is an S3 store with an empty bucket, and the settings that name it.
type store struct {
	*mixtest.Fleet

	client *minio.Client
}

// onMinIO is a bucket on a MinIO.
func onMinIO(t *testing.T, server *miniotest.Server) *store {
	t.Helper()
	s3 := mixtest.Store{Endpoint: server.Endpoint, AccessKey: server.AccessKey, SecretKey: server.SecretKey}
	return &store{Fleet: mixtest.NewRoles(t, server), client: s3.Client(t)}
}

// embedded is a bucket on the S3 in "copyfleet up".
func embedded(t *testing.T) *store {
	t.Helper()
	f, s3, _ := mixtest.StartUp(t)
	f.Setenv("COPYFLEET_S3_ENDPOINT=" + s3.Endpoint)
	return &store{Fleet: f, client: s3.Client(t)}
}

// keys are the names of all objects in the bucket, and of uploads that have not ended.
func (s *store) keys(t *testing.T) []string {
	t.Helper()
	var keys []string
	for object := range s.client.ListObjectsIter(t.Context(), s.Bucket, minio.ListObjectsOptions{Recursive: true, WithVersions: true}) {
		if object.Err != nil {
			t.Fatal(object.Err)
		}
		keys = append(keys, object.Key)
	}
	for upload := range s.client.ListIncompleteUploads(t.Context(), s.Bucket, "", true) {
		if upload.Err != nil {
			t.Fatal(upload.Err)
		}
		keys = append(keys, "upload of "+upload.Key)
	}
	return keys
}

func (s *store) put(t *testing.T, key, text string) {
	t.Helper()
	if _, err := s.client.PutObject(t.Context(), s.Bucket, key, strings.NewReader(text), int64(len(text)), minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
}

// wantEmpty holds the bucket to having nothing left of a run.
func (s *store) wantEmpty(t *testing.T) {
	t.Helper()
	if keys := s.keys(t); len(keys) > 0 {
		t.Errorf("%d keys are left, the first is %s", len(keys), keys[0])
	}
}

// bench runs a load test in a directory of its own; what is not given is --json, the bucket and no raw file.
func (s *store) bench(t *testing.T, exit int, args ...string) (mixtest.Output, summary) {
	t.Helper()
	out := s.Command(t, nil, s.args(args)...)
	if out.Exit != exit {
		t.Fatalf("bench %q ended with %d, want %d\n%s%s", args, out.Exit, exit, out.Stdout, out.Stderr)
	}
	return out, last(t, out.Stdout)
}

func (s *store) args(args []string) []string {
	all := slices.Concat([]string{"--json", "bench"}, args)
	if !slices.Contains(args, "--bucket") {
		all = append(all, "--bucket", s.Bucket)
	}
	if !slices.Contains(args, "--raw") {
		all = append(all, "--raw", "none")
	}
	return all
}

// summary is the last line.
type summary struct {
	Run string `json:"run"`
	figures
	ByOperation map[string]figures `json:"by_operation"`
	Outside     int                `json:"outside"`
	NotBegun    int                `json:"not_begun"`
	Partial     []string           `json:"partial"`
	Exceeded    []struct {
		Limit string `json:"limit"`
	} `json:"exceeded"`
	Failures []struct {
		Class string `json:"class"`
		Code  string `json:"code"`
		Count int    `json:"count"`
	} `json:"failures"`
}

type figures struct {
	Operations int     `json:"operations"`
	Errors     int     `json:"errors"`
	Ops        float64 `json:"ops_per_second"`
	MiB        float64 `json:"mib_per_second"`
	Latency    struct {
		P50 float64 `json:"p50"`
		P99 float64 `json:"p99"`
		Max float64 `json:"max"`
	} `json:"latency_ms"`
}

// last reads the last line of an output, if it is a summary.
func last(t *testing.T, stdout string) (s summary) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if text := lines[len(lines)-1]; text != "" {
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatalf("the last line is no summary: %v\n%s", err, text)
		}
	}
	return s
}

// running is a load test that goes on.
type running struct {
	cmd    *exec.Cmd
	lines  chan string // of the standard output
	stderr bytes.Buffer
	output []string
}

// start starts a load test, and returns when it has told of its progress.
func (s *store) start(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	r := &running{cmd: s.Prepare(ctx, t, nil, s.args(args)...), lines: make(chan string, 10_000)}
	r.cmd.Stderr = &r.stderr
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.lines)
		scan := bufio.NewScanner(stdout)
		scan.Buffer(nil, 16<<20)
		for scan.Scan() {
			r.lines <- scan.Text()
		}
	}()
	r.progress(t)
	return r
}

// progress waits for a line that tells of operations.
func (r *running) progress(t *testing.T) {
	t.Helper()
	for line := range r.lines {
		r.output = append(r.output, line)
		if operations(line) > 0 {
			return
		}
	}
	t.Fatalf("the load test ended before it told of operations\n%s", r.stderr.String())
}

// operations is how many a line of progress tells of; 0: it is none.
func operations(line string) int {
	var told struct {
		Progress struct {
			Ended int `json:"operations"`
		} `json:"progress"`
	}
	_ = json.Unmarshal([]byte(line), &told) // what is no such line tells of none
	return told.Progress.Ended
}

func (r *running) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := r.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// end waits for the end.
func (r *running) end(t *testing.T, exit int) (string, summary) {
	t.Helper()
	for line := range r.lines {
		r.output = append(r.output, line)
	}
	_ = r.cmd.Wait() // the code tells
	stdout := strings.Join(r.output, "\n")
	if code := r.cmd.ProcessState.ExitCode(); code != exit {
		t.Fatalf("it ended with %d, want %d\n%s\n%s", code, exit, stdout, r.stderr.String())
	}
	return r.stderr.String(), last(t, stdout)
}

func textOf(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

package measuring

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
)

// TestReaderGoesAway, as "| head" does: the run goes on until it is interrupted, keeps its operations, removes its objects and tells that it could not print.
func TestReaderGoesAway(t *testing.T) {
	t.Parallel()
	s := onMinIO(t, miniotest.Shared(t))
	raw := filepath.Join(t.TempDir(), "raw")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := s.Prepare(ctx, t, nil, s.args([]string{"put", "--duration", "1h", "--warm-up", "0s", "--raw", raw})...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close() // the process has its own
	for lines := bufio.NewReader(read); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Error(err)
		}
		if err != nil || operations(line) > 0 {
			break
		}
	}
	_ = read.Close()
	_ = cmd.Process.Signal(syscall.SIGINT) // the code tells
	_ = cmd.Wait()                         // the same
	if code := cmd.ProcessState.ExitCode(); code != 7 || !strings.Contains(stderr.String(), "print: ") {
		t.Errorf("it ended with %d: %s", code, stderr.String())
	}
	s.wantEmpty(t)
	if kept := last(t, s.command(t, 0, "bench", "analyze", raw).Stdout); kept.Operations == 0 || len(kept.Partial) != 1 || kept.Partial[0] != "it was interrupted" {
		t.Errorf("the file has %d operations, partial %q", kept.Operations, kept.Partial)
	}
}

// TestTerminalCloses: the run ends as one that is interrupted, however often it is told, and says which limits hold.
func TestTerminalCloses(t *testing.T) {
	t.Parallel()
	s := onMinIO(t, miniotest.Shared(t))
	// Where the tests themselves run under nohup, what they start would inherit that: a signal that is caught is not ignored by a child.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	defer signal.Stop(caught)
	r := s.start(t, "put", "--duration", "1h", "--warm-up", "0s", "--fail-if", "errors<1")
	r.signal(t, syscall.SIGHUP)
	r.signal(t, syscall.SIGHUP)
	stderr, got := r.end(t, 6)
	if got.Operations == 0 || len(got.Partial) != 1 || len(got.Exceeded) != 1 || !strings.Contains(stderr, "errors\\u003c1 holds: it is 0") {
		t.Errorf("%d operations, partial %q, exceeded %+v: %s", got.Operations, got.Partial, got.Exceeded, stderr)
	}
	s.wantEmpty(t)
}

// TestKilledRun leaves a file that says what it is of.
func TestKilledRun(t *testing.T) {
	t.Parallel()
	s := onMinIO(t, miniotest.Shared(t))
	raw := filepath.Join(t.TempDir(), "raw")
	r := s.start(t, "put", "--duration", "1h", "--warm-up", "0s", "--raw", raw)
	r.signal(t, syscall.SIGKILL)
	r.end(t, -1)
	kept := last(t, s.command(t, 0, "bench", "analyze", raw).Stdout)
	keys := s.keys(t)
	if len(keys) == 0 || !strings.HasPrefix(keys[0], "copyfleet-bench/"+kept.Run+"/") || len(kept.Partial) != 1 {
		t.Errorf("the file is of the run %q, partial %q; of %d keys the first is %q", kept.Run, kept.Partial, len(keys), keys)
	}
}

// TestPageThatCannotBeWritten is refused before the run where that can be known, and does not cost the figures where it cannot.
func TestPageThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	s := onMinIO(t, miniotest.Shared(t))
	dir := t.TempDir()
	if out, _ := s.bench(t, 2, "put", "--count", "3", "--html", filepath.Join(dir, "no", "page")); out.Stdout != "" {
		t.Errorf("there was a run: %s", out.Stdout)
	}
	if _, got := s.bench(t, 7, "put", "--count", "3", "--html", "/dev/full"); got.Operations != 3 {
		t.Errorf("%d operations of 3 are told of", got.Operations)
	}
	page := filepath.Join(dir, "page")
	s.bench(t, 3, "put", "--count", "3", "--bucket", "no-such-bucket", "--html", page)
	if _, err := os.Stat(page); !os.IsNotExist(err) {
		t.Errorf("a run that never began leaves a page: %v", err)
	}
	s.wantEmpty(t)
}

// TestReadingIsInterrupted, of a file that is never whole.
func TestReadingIsInterrupted(t *testing.T) {
	t.Parallel()
	s := onMinIO(t, miniotest.Shared(t))
	dir := t.TempDir()
	pipe, merged := filepath.Join(dir, "pipe"), filepath.Join(dir, "merged")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"analyze", pipe}, {"cmp", pipe, pipe}, {"merge", pipe, "-o", merged}} {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		cmd := s.Prepare(ctx, t, nil, append([]string{"--json", "bench"}, args...)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		writer, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits until the file is read
		if err != nil {
			t.Fatal(err)
		}
		_ = cmd.Process.Signal(syscall.SIGINT) // the code tells
		_ = cmd.Wait()                         // the same
		cancel()
		_ = writer.Close() // nothing was written
		if code := cmd.ProcessState.ExitCode(); code != 6 {
			t.Errorf("%q ended with %d", args, code)
		}
	}
	if _, err := os.Stat(merged); !os.IsNotExist(err) {
		t.Errorf("a part of a merge is left: %v", err)
	}
}

// TestDiskIsFull where a run keeps its operations: its figures are told all the same, and that the file is not whole.
func TestDiskIsFull(t *testing.T) {
	t.Parallel()
	s := onMinIO(t, miniotest.Shared(t))
	raw := filepath.Join(t.TempDir(), "raw")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := s.Prepare(ctx, t, nil, s.args([]string{"put", "--count", "50", "--raw", raw})...)
	cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `ulimit -f 0; exec "$@"`, "sh", cmd.Path}, cmd.Args[1:]...)
	var stdout, stderr bytes.Buffer // pipes have no such limit
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run() // the code tells
	if got := last(t, stdout.String()); cmd.ProcessState.ExitCode() != 7 || got.Operations != 50 || !strings.Contains(stderr.String(), "the figures above are whole, but the file") {
		t.Errorf("it ended with %d, of 50 operations it tells of %d: %s", cmd.ProcessState.ExitCode(), got.Operations, stderr.String())
	}
	s.wantEmpty(t)
}

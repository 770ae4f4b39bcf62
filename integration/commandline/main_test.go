package commandline

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(mixtest.Runner{M: m}) }

const limit = 240 * time.Second

func up(t *testing.T, env ...string) *mixtest.Fleet {
	t.Helper()
	f := mixtest.NewUp(t, append([]string{mixtest.Steady}, env...)...)
	f.Start(t, "up")
	return f
}

// file writes a manifest.
func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// item is a line of a manifest that copies a URL into the sandbox of the fleet.
func item(f *mixtest.Fleet, id, url, path string) string {
	line, _ := json.Marshal(map[string]any{"id": id, "src": mixtest.FromURL(url), "dest": map[string]any{
		"type": "sandboxFileLocation", "sandbox": f.Sandbox, "path": path,
	}})
	return string(line) + "\n"
}

// small is a manifest of n little files below a name of its own.
func small(f *mixtest.Fleet, name string, n int) string {
	var text strings.Builder
	for i := range n {
		path := fmt.Sprintf("/%s/%d.txt", name, i)
		text.WriteString(item(f, fmt.Sprintf("%s-%d", name, i), f.Give(path, fmt.Appendf(nil, "%s %d", name, i)), path))
	}
	return text.String()
}

// arrived holds the sandbox to what a manifest of small must have left there.
func arrived(t *testing.T, f *mixtest.Fleet, name string, n int) {
	t.Helper()
	for i := range n {
		got, err := os.ReadFile(f.OnDisk(fmt.Sprintf("/%s/%d.txt", name, i)))
		if want := fmt.Sprintf("%s %d", name, i); err != nil || string(got) != want {
			t.Fatalf("item %d of %s: %q, %v", i, name, got, err)
		}
	}
}

// expect runs a command that must end with a code.
func expect(t *testing.T, f *mixtest.Fleet, exit int, args ...string) mixtest.Output {
	t.Helper()
	out := f.Command(t, nil, args...)
	if out.Exit != exit {
		t.Fatalf("copyfleet %q ended with %d, want %d\n%s%s", args, out.Exit, exit, out.Stdout, out.Stderr)
	}
	return out
}

// detached submits a manifest and returns the batch's id.
func detached(t *testing.T, f *mixtest.Fleet, manifest string, args ...string) string {
	t.Helper()
	out := expect(t, f, 0, append([]string{"submit", "--detach", file(t, "m.ndjson", manifest)}, args...)...)
	id := strings.TrimSpace(out.Stdout)
	if !protocol.BatchID(id).Valid() {
		t.Fatalf("submit --detach printed %q", out.Stdout)
	}
	return id
}

// objects reads lines of JSON.
func objects(t *testing.T, text string) []map[string]any {
	t.Helper()
	var list []map[string]any
	for line := range strings.Lines(text) {
		var one map[string]any
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		list = append(list, one)
	}
	if len(list) == 0 {
		t.Fatalf("no line of JSON in %q", text)
	}
	return list
}

// running is a command that goes on while the test does.
type running struct {
	*exec.Cmd

	stdout, stderr output
	ended          chan struct{}
}

// started runs a command in the background, until the end of the test at the latest.
func started(t *testing.T, f *mixtest.Fleet, env []string, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Cmd: f.Prepare(ctx, t, env, args...), ended: make(chan struct{})}
	r.Stdout, r.Stderr = &r.stdout, &r.stderr
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = r.Cmd.Wait(); close(r.ended) }()
	t.Cleanup(func() { cancel(); <-r.ended })
	return r
}

// exit waits for the end of the command and returns its code.
func (r *running) exit(t *testing.T) int {
	t.Helper()
	select {
	case <-r.ended:
		return r.ProcessState.ExitCode()
	case <-time.After(limit):
		t.Fatalf("%q did not end\n%s%s", r.Args, r.stdout.String(), r.stderr.String())
		return -1
	}
}

// says waits until the command has printed a text.
func (r *running) says(t *testing.T, text string) {
	t.Helper()
	if !mixtest.Until(limit, func() bool { return strings.Contains(r.stdout.String()+r.stderr.String(), text) }) {
		t.Fatalf("%q did not say %q\n%s%s", r.Args, text, r.stdout.String(), r.stderr.String())
	}
}

// output is a buffer that one may look into while it is written.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

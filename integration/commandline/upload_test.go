package commandline

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// partSize is the smallest part that the fleet chooses.
const partSize = 8 << 20

// heap is so many bytes of which no two parts are alike.
func heap(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i * 7 >> (i / partSize % 3))
	}
	return data
}

func onDisk(t *testing.T, f *mixtest.Fleet, path string, want []byte) {
	t.Helper()
	if got, err := os.ReadFile(f.OnDisk(path)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes, want %d; %v", path, len(got), len(want), err)
	}
}

// A file arrives with its bytes, below its name or another one, and does not replace one unless it is told to.
func TestUploadFile(t *testing.T) {
	t.Parallel()
	f := up(t)
	want := heap(3*partSize + 1)
	src := file(t, "a b.bin", string(want))
	out := expect(t, f, allSucceeded, "upload", src, f.Sandbox+":in/")
	if !strings.Contains(out.Stdout, " completed: "+f.Sandbox+":/workspace/in/a b.bin, 24.0 MiB\n") || out.Stderr != "" {
		t.Errorf("printed %s%s", out.Stdout, out.Stderr)
	}
	onDisk(t, f, "/workspace/in/a b.bin", want)
	out = expect(t, f, someFailed, "upload", file(t, "x", "other"), f.Sandbox+":/workspace/in/a b.bin")
	if !strings.Contains(out.Stderr, "upload_failed") && !strings.Contains(out.Stderr, "exists") {
		t.Errorf("told %s", out.Stderr)
	}
	onDisk(t, f, "/workspace/in/a b.bin", want)
	lines := objects(t, expect(t, f, allSucceeded, "upload", "--json", "--checksum", "--conflict", "replace", file(t, "x", "other"), f.Sandbox+":in/a b.bin").Stdout)
	if last := lines[len(lines)-1]; last["published_bytes"] != 5.0 || last["published_file_count"] != 1.0 || last["sent_bytes"] != 5.0 {
		t.Errorf("the summary is %v", last)
	}
	onDisk(t, f, "/workspace/in/a b.bin", []byte("other"))
	expect(t, f, allSucceeded, "upload", file(t, "empty", ""), f.Sandbox+":/empty")
	onDisk(t, f, "/empty", nil)
	f.CheckNothingHidden(t)
}

// A directory arrives with what is in it, and what it does not have stays, unless it is to be replaced.
func TestUploadDirectory(t *testing.T) {
	t.Parallel()
	f := up(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"top.txt": "top", "deep/er/x.txt": "x", "skip/me.o": "no"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../top.txt", filepath.Join(dir, "deep", "link")); err != nil {
		t.Fatal(err)
	}
	target := f.Sandbox + ":/workspace/project"
	out := expect(t, f, allSucceeded, "upload", "--exclude", "skip", dir, target)
	if !strings.Contains(out.Stdout, " completed: "+target+", ") {
		t.Errorf("printed %s", out.Stdout)
	}
	onDisk(t, f, "/workspace/project/deep/er/x.txt", []byte("x"))
	onDisk(t, f, "/workspace/project/deep/link", []byte("top"))
	if _, err := os.Stat(f.OnDisk("/workspace/project/skip")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was excluded is there: %v", err)
	}
	if err := os.WriteFile(f.OnDisk("/workspace/project/older"), []byte("older"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, f, allSucceeded, "upload", dir, target)
	onDisk(t, f, "/workspace/project/older", []byte("older"))
	onDisk(t, f, "/workspace/project/skip/me.o", []byte("no"))
	expect(t, f, someFailed, "upload", "--conflict", "error", dir, target)
	expect(t, f, allSucceeded, "upload", "--conflict", "replace", dir, target)
	if _, err := os.Stat(f.OnDisk("/workspace/project/older")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what the directory does not have is there after it was replaced: %v", err)
	}
	f.CheckNothingHidden(t)
}

func TestUploadStdin(t *testing.T) {
	t.Parallel()
	f := up(t)
	want := string(heap(partSize + 17))
	out := piped(t, f, want, "upload", "-", f.Sandbox+":dump.sql")
	if out.Exit != allSucceeded {
		t.Fatalf("ended with %d\n%s%s", out.Exit, out.Stdout, out.Stderr)
	}
	onDisk(t, f, "/workspace/dump.sql", []byte(want))
	if out := piped(t, f, "x", "upload", "-", f.Sandbox+":dir/"); out.Exit != usage {
		t.Errorf("without a name it ended with %d\n%s", out.Exit, out.Stderr)
	}
}

func TestUploadExitCodes(t *testing.T) {
	t.Parallel()
	f := up(t)
	src := file(t, "x", "text")
	reader := strings.TrimSpace(expect(t, f, allSucceeded, "keys", "create", f.API.Org, "--role", "read").Stdout)
	const none = "upl_00000000000000000000000000"
	for _, row := range []struct {
		exit int
		env  string
		args []string
	}{
		{usage, "", []string{src, f.Sandbox + ":/../x"}}, {usage, "", []string{src, f.Sandbox + ":a\x01b"}}, {usage, "", []string{"/no/such/file", f.Sandbox + ":/x"}},
		{usage, "", []string{src, f.Sandbox}}, {notFound, "", []string{"--resume", none, src, f.Sandbox + ":/x"}},
		{notAllowed, "API_KEY=wrong", []string{src, f.Sandbox + ":/x"}}, {notAllowed, "API_KEY=" + reader, []string{src, f.Sandbox + ":/x"}},
		{notAllowed, "API_KEY=wrong", []string{t.TempDir(), f.Sandbox + ":/x"}}, {tryAgain, "URL=http://127.0.0.1:1", []string{src, f.Sandbox + ":/x"}},
	} {
		var env []string
		if row.env != "" {
			env = append(env, row.env)
		}
		if out := f.Command(t, env, append([]string{"upload"}, row.args...)...); out.Exit != row.exit || out.Stderr == "" {
			t.Errorf("copyfleet upload %q with %q ended with %d, want %d\n%s%s", row.args, row.env, out.Exit, row.exit, out.Stdout, out.Stderr)
		}
	}
}

// gate stands between the command and the fleet. It lets some parts through, and holds the others until it is opened.
type gate struct {
	*httputil.ReverseProxy

	open chan struct{}
	held chan struct{} // gets a word for each part that is held

	mu     sync.Mutex
	passes int // parts that are let through
	puts   map[string]int
}

func newGate(t *testing.T, f *mixtest.Fleet, passes int) (*gate, string) {
	t.Helper()
	target, err := url.Parse(f.API.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	g := &gate{ReverseProxy: httputil.NewSingleHostReverseProxy(target), passes: passes, open: make(chan struct{}), held: make(chan struct{}, 1000), puts: map[string]int{}}
	g.Transport = transport
	g.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: g}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-done; transport.CloseIdleConnections() })
	return g, "http://" + listener.Addr().String()
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut {
		g.mu.Lock()
		g.passes--
		hold := g.passes < 0
		g.mu.Unlock()
		if hold {
			g.held <- struct{}{}
			select {
			case <-g.open:
			case <-r.Context().Done():
				return
			}
		}
		g.mu.Lock()
		g.puts[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]]++
		g.mu.Unlock()
	}
	g.ReverseProxy.ServeHTTP(w, r)
}

func (g *gate) waits(t *testing.T) {
	t.Helper()
	select {
	case <-g.held:
	case <-time.After(limit):
		t.Fatal("no part came")
	}
}

// once fails the test if parts that were accepted before a break were sent again after it.
func (g *gate) once(t *testing.T, parts ...string) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, n := range parts {
		if g.puts[n] != 1 {
			t.Errorf("part %s was sent %d times", n, g.puts[n])
		}
	}
}

// The fleet is killed in the middle and started again on what it left: the command waits for it, and sends only the rest.
func TestUploadOutlivesKill(t *testing.T) {
	t.Parallel()
	f := mixtest.NewUp(t)
	first := f.Start(t, "up")
	g, proxy := newGate(t, f, 2)
	want := heap(4*partSize + 5)
	run := started(t, f, []string{"URL=" + proxy}, "upload", "--concurrency", "1", file(t, "x", string(want)), f.Sandbox+":/x")
	g.waits(t)
	first.Kill9(t)
	close(g.open)
	run.says(t, "trying again")
	f.Start(t, "up")
	if code := run.exit(t); code != allSucceeded {
		t.Fatalf("ended with %d\n%s%s", code, run.stdout.String(), run.stderr.String())
	}
	onDisk(t, f, "/x", want)
	g.once(t, "0", "1")
	f.CheckNothingHidden(t)
}

// After Ctrl-C nothing is visible, and the command that was printed sends the rest, also after the fleet was killed and started again; of a directory
// and a stream it reads what was kept.
func TestUploadCtrlC(t *testing.T) {
	t.Parallel()
	f := mixtest.NewUp(t)
	fleet := f.Start(t, "up")
	dir := t.TempDir()
	want := heap(4*partSize + 5)
	src := file(t, "it's $(x).bin", string(want))
	if err := os.WriteFile(filepath.Join(dir, "in"), want, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, source := range map[string]string{"file": src, "directory": dir, "stream": "-"} {
		g, proxy := newGate(t, f, 2)
		target := "/" + name
		cmd := f.Prepare(t.Context(), t, []string{"URL=" + proxy}, "upload", "--concurrency", "1", source, f.Sandbox+":"+target)
		run := &running{Cmd: cmd, ended: make(chan struct{})}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(want), &run.stdout, &run.stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { _ = cmd.Wait(); close(run.ended) }()
		g.waits(t)
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		code := run.exit(t)
		_, line, ok := strings.Cut(run.stderr.String(), "  hint: ")
		if code != canceled || !ok || !strings.HasPrefix(line, "copyfleet upload --resume upl_") {
			t.Fatalf("%s: ended with %d\n%s%s", name, code, run.stdout.String(), run.stderr.String())
		}
		if _, err := os.Lstat(f.OnDisk(target)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something is visible: %v", name, err)
		}
		close(g.open)
		fleet.Kill9(t)
		fleet = f.Start(t, "up")
		shell := exec.CommandContext(t.Context(), "bash", "-c", "copyfleet() { '"+cmd.Path+"' \"$@\"; }\n"+line)
		shell.Env, shell.Dir = cmd.Env, t.TempDir()
		out, err := shell.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %s: %v\n%s", name, line, err, out)
		}
		if name == "directory" {
			target += "/in"
		}
		onDisk(t, f, target, want)
		g.once(t, "0", "1")
		if left, err := filepath.Glob(filepath.Join(tmpOf(cmd.Env), "copyfleet-upload-*")); err != nil || len(left) > 0 {
			t.Errorf("%s: left in the spool: %q, %v", name, left, err)
		}
	}
	f.CheckNothingHidden(t)
}

func tmpOf(env []string) string {
	for _, setting := range env {
		if dir, ok := strings.CutPrefix(setting, "TMPDIR="); ok {
			return dir
		}
	}
	return os.TempDir()
}

// On a terminal there is a bar, and it goes away.
func TestUploadTerminal(t *testing.T) {
	t.Parallel()
	f := up(t)
	g, proxy := newGate(t, f, 2)
	s := onScreen(t, f, 100, 12, []string{"COPYFLEET_URL=" + proxy}, "upload", "--concurrency", "1", file(t, "x", string(heap(4*partSize))), f.Sandbox+":/x")
	g.waits(t)
	s.shows("16.0 MiB of 32.0 MiB")
	close(g.open)
	exit, text := s.end()
	if _, last, _ := cutLast(text, "\x1b[J"); exit != allSucceeded || !strings.Contains(last, " completed: "+f.Sandbox+":/x, 32.0 MiB") {
		t.Errorf("ended with %d, %q", exit, text)
	}
}

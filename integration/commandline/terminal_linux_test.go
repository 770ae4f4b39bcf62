package commandline

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// screen is a terminal with a command on it.
type screen struct {
	t      *testing.T
	master *os.File
	text   output
	closed chan struct{} // once nothing more comes
	run    *running
}

// onScreen starts a command on a new terminal of a size.
func onScreen(t *testing.T, f *mixtest.Fleet, columns, rows uint16, env []string, args ...string) *screen {
	t.Helper()
	s := &screen{t: t, closed: make(chan struct{})}
	var slave *os.File
	s.master, slave = newTerminal(t, columns, rows)
	cmd := f.Prepare(t.Context(), t, nil, args...)
	cmd.Env = append(append(cmd.Env, "TERM=xterm"), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	s.run = &running{Cmd: cmd, ended: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := slave.Close(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = cmd.Wait(); close(s.run.ended) }()
	go func() { defer close(s.closed); _, _ = io.Copy(&s.text, s.master) }() // it ends with EIO once nobody has the terminal
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-s.run.ended
		<-s.closed
		_ = s.master.Close()
	})
	return s
}

func newTerminal(t *testing.T, columns, rows uint16) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

func (s *screen) shows(text string) {
	s.t.Helper()
	if !mixtest.Until(limit, func() bool { return strings.Contains(s.text.String(), text) }) {
		s.t.Fatalf("%q is not on the screen:\n%q", text, s.text.String())
	}
}

// end waits for the end of the command and returns its exit code and all that came to the screen.
func (s *screen) end() (exit int, text string) {
	s.t.Helper()
	select {
	case <-s.run.ended:
	case <-time.After(limit):
		s.t.Fatalf("it did not end; on the screen:\n%q", s.text.String())
	}
	<-s.closed
	return s.run.ProcessState.ExitCode(), s.text.String()
}

var colors = regexp.MustCompile("\x1b\\[[0-9;]*m")

// On a terminal a block is drawn in place, and the result is what stays.
func TestTerminal(t *testing.T) {
	t.Parallel()
	f := up(t)
	gate := make(chan struct{})
	manifest := small(f, "live", 3) + item(f, "slow", f.GiveHalf("/slow", []byte("slow but whole"), gate), "/slow.bin") +
		item(f, "none", f.URL+"/nothing/here", "/none.txt")
	for _, env := range [][]string{nil, {"NO_COLOR=1"}} {
		s := onScreen(t, f, 60, 12, env, "submit", file(t, "m.ndjson", manifest), "--label", "wide "+strings.Repeat("x", 80))
		s.shows("4 of 5 items")
		s.shows("not_found/source_http_404")
		if len(env) > 0 {
			close(gate)
		} else {
			_, _ = s.master.WriteString("\x03") // Ctrl-C
		}
		exit, text := s.end()
		if !strings.Contains(text, "\x1b[J") {
			t.Errorf("nothing was drawn over:\n%q", text)
		}
		if has := colors.MatchString(text); has == (len(env) > 0) {
			t.Errorf("with %q there are colors: %v", env, has)
		}
		for line := range strings.SplitSeq(text, "\r\n") {
			if i := strings.LastIndex(line, "\x1b[J"); i >= 0 && len([]rune(colors.ReplaceAllString(line[i+3:], ""))) > 60 && strings.Contains(line, "xxx") {
				t.Errorf("a line of the block is wider than the terminal: %q", line)
			}
		}
		_, last, _ := cutLast(text, "\x1b[J")
		switch {
		case len(env) == 0 && (exit != canceled || !strings.Contains(last, "stopped waiting")):
			t.Errorf("after Ctrl-C: %d, %q", exit, last)
		case len(env) > 0 && (exit != someFailed || !strings.Contains(last, "completed_with_errors: 4 succeeded, 1 failed")):
			t.Errorf("at the end: %d, %q", exit, last)
		}
	}
}

func cutLast(text, sep string) (before, after string, found bool) {
	i := strings.LastIndex(text, sep)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(sep):], true
}

// A terminal that cannot be moved about in gets lines.
func TestDumbTerminal(t *testing.T) {
	t.Parallel()
	f := up(t)
	s := onScreen(t, f, 80, 24, []string{"TERM=dumb"}, "submit", file(t, "m.ndjson", small(f, "dumb", 2)))
	if exit, text := s.end(); exit != allSucceeded || strings.ContainsRune(text, '\x1b') || !strings.Contains(text, "succeeded: 2 succeeded") {
		t.Errorf("ended with %d\n%q", exit, text)
	}
}

// Names that would write on the terminal, or turn the reading order, are shown and do nothing.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	f := up(t)
	name := "evil\x1b]0;title\x07.ndjson"
	out := f.Command(t, nil, "submit", "/tmp/"+name)
	if out.Exit != usage || strings.ContainsAny(out.Stderr, "\x1b\x07") || !strings.Contains(out.Stderr, `evil\x1b]0;title\x07`) {
		t.Errorf("ended with %d\n%q", out.Exit, out.Stderr)
	}
	// What a peer says comes back in receipts.
	id := detached(t, f, item(f, "a\u202eb", f.Give("/x", []byte("x")), "/bidi-\u202e.txt"))
	expect(t, f, allSucceeded, "watch", id)
	shown := expect(t, f, allSucceeded, "show", id, "--items").Stdout
	if strings.ContainsAny(shown, "\x1b\u202e") || !strings.Contains(shown, `\u202e`) {
		t.Errorf("printed %q", shown)
	}
}

// A secret is asked for on a terminal, and nothing of what is typed is shown.
func TestSecretIsAskedFor(t *testing.T) {
	t.Parallel()
	var sent atomic.Value
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what is missing fails the comparison
		sent.Store(r.Method + " " + r.URL.Path + " " + string(body))
		_, _ = w.Write([]byte(`{"name":"token"}`))
	}))
	defer api.Close()
	f := mixtest.NewUp(t)
	for _, row := range []struct {
		typed [2]string
		exit  int
		says  string
		sent  any
	}{
		{[2]string{"hidden-1\r", "other\r"}, usage, "not the same", nil},
		{[2]string{"hidden-1\r", "\x03"}, canceled, "interrupted", nil},
		{[2]string{"hidden-1\r", "hidden-1\r"}, allSucceeded, "set: token", `PUT /v1/secrets/token {"value":"hidden-1"}`},
	} {
		s := onScreen(t, f, 80, 24, nil, "secrets", "set", "token", "--url", api.URL, "--api-key", "k")
		for i, question := range []string{"Secret: ", "Again: "} {
			s.shows(question)
			if _, err := s.master.WriteString(row.typed[i]); err != nil {
				t.Fatal(err)
			}
		}
		exit, text := s.end()
		if exit != row.exit || !strings.Contains(text, row.says) || strings.Contains(text, "hidden") || sent.Load() != row.sent {
			t.Errorf("%q: %d\n%q\nsent %v", row.typed, exit, text, sent.Load())
		}
	}
}

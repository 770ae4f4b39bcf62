package mixtest

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a running program. What it writes is in the test's log if the test fails.
type Process struct {
	Name string

	cmd   *exec.Cmd
	log   *output
	ended chan struct{} // closed when it is gone
	err   error         // what Wait said, once ended
}

// output keeps what a process writes, and lets one wait for a line.
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

const (
	startLimit = 120 * time.Second
	endLimit   = 120 * time.Second
	logShown   = 12 << 10
)

// launch starts a program that is killed at the end of the owner's test, if it still runs then. t is the test that waits for it.
func launch(t, owner testing.TB, name, path string, env []string, args ...string) *Process {
	t.Helper()
	p := &Process{Name: name, cmd: exec.Command(path, args...), log: &output{}, ended: make(chan struct{})}
	p.cmd.Env = env
	p.cmd.Stdout, p.cmd.Stderr = io.Writer(p.log), io.Writer(p.log)
	p.cmd.SysProcAttr = dieWithParent()
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	owner.Cleanup(func() { p.finish(owner) })
	return p
}

// finish looks at what the process wrote: a panic or a data race fails the test.
func (p *Process) finish(t testing.TB) {
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	_ = p.cmd.Process.Kill()
	<-p.ended
	text := p.log.String()
	for _, bad := range []string{"\npanic: ", "DATA RACE", "made the worker panic"} {
		if strings.Contains(text, bad) {
			t.Errorf("%s: %q in its log", p.Name, strings.TrimSpace(bad))
		}
	}
	if t.Failed() {
		t.Logf("the log of %s ends:\n%s", p.Name, text[max(0, len(text)-logShown):])
	}
}

// PID is the id of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended is closed when the process is gone.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Over reports whether the process is gone.
func (p *Process) Over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Log is what the process has written so far.
func (p *Process) Log() string { return p.log.String() }

// Kill9 kills the process and waits until it is gone.
func (p *Process) Kill9(t testing.TB) {
	t.Helper()
	_ = p.cmd.Process.Kill() // it may be gone already
	p.Wait(t)
}

// Signal sends a signal.
func (p *Process) Signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("%s: %s: %v", p.Name, sig, err)
	}
}

// Wait waits for the end of the process and returns its exit code, -1 if a signal ended it.
func (p *Process) Wait(t testing.TB) int {
	t.Helper()
	limit := time.NewTimer(endLimit)
	defer limit.Stop()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-limit.C:
		p.Signal(t, syscall.SIGQUIT) // its goroutines tell what it waits for
		<-p.ended
		t.Fatalf("%s did not end within %s", p.Name, endLimit)
		return -1
	}
}

// Killed reports whether the process is gone and SIGKILL was what ended it.
func (p *Process) Killed() bool {
	select {
	case <-p.ended:
	default:
		return false
	}
	exit, ok := errors.AsType[*exec.ExitError](p.err)
	if !ok {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// waitFor waits until the process says or does something that shows it is ready.
func (p *Process) waitFor(t testing.TB, ready func() bool) {
	t.Helper()
	ok := Until(startLimit, func() bool {
		select {
		case <-p.ended:
			return true
		default:
			return ready()
		}
	})
	if !ok || !ready() {
		t.Fatalf("%s was not ready within %s (ended: %v)\n%s", p.Name, startLimit, p.err, p.log)
	}
}

// says reports whether a text stands in the log.
func (p *Process) says(text string) func() bool {
	return func() bool { return strings.Contains(p.log.String(), text) }
}

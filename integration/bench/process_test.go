package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// running are the processes to stop if we are told to end: they are in groups of their own and hear nothing of it.
var running sync.Map // *process → nothing

// stopOnSignal leaves no process behind when somebody interrupts a run.
func stopOnSignal() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		running.Range(func(p, _ any) bool {
			_ = syscall.Kill(-p.(*process).cmd.Process.Pid, syscall.SIGTERM)
			return true
		})
		os.Exit(1)
	}()
}

// process is a running child with what it said on standard error.
type process struct {
	cmd  *exec.Cmd
	log  *tail
	stop func() error // may be called twice
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailKept = 16 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - tailKept; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.text))
}

// start runs cmd in a process group of its own, until the benchmark ends.
func start(b *testing.B, cmd *exec.Cmd) *process {
	b.Helper()
	p := &process{cmd: cmd, log: &tail{}}
	p.stop = sync.OnceValue(p.end)
	cmd.Stderr = p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	running.Store(p, nil)
	b.Cleanup(func() {
		running.Delete(p)
		if err := p.stop(); err != nil {
			b.Errorf("%s did not stop in order: %v\n%s", cmd.Path, err, p.log)
		}
	})
	return p
}

// terminated is how rclone exits on a SIGTERM, in the manner of a shell.
const terminated = 128 + int(syscall.SIGTERM)

// end asks the whole group to end, so that a tracer around the program hears of it too, and insists after a while.
func (p *process) end() error {
	group := -p.cmd.Process.Pid
	if err := syscall.Kill(group, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	insist := time.AfterFunc(stopLimit, func() { _ = syscall.Kill(group, syscall.SIGKILL) })
	defer insist.Stop()
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && (exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGTERM || exit.ExitCode() == terminated) {
		return nil
	}
	return err
}

// answers waits until a URL answers 200.
func (p *process) answers(b *testing.B, method, url string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), startLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		req, err := http.NewRequestWithContext(ctx, method, url, nil)
		if err != nil {
			b.Fatal(err)
		}
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ctx.Done():
			b.Fatalf("%s does not answer at %s after %s\n%s", p.cmd.Path, url, startLimit, p.log)
		case <-tick.C:
		}
	}
}

// kill ends a process at once. Nobody need stop it any more.
func (p *process) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	_ = p.cmd.Wait() // it was killed
	p.stop = func() error { return nil }
}

// memory is the most that it has had resident so far, in bytes.
func (p *process) memory(b *testing.B) int64 {
	b.Helper()
	peak, err := peakMemory(p.cmd.Process.Pid)
	if err != nil {
		b.Fatal(err)
	}
	return peak
}

// peakMemory is the most memory that a process has had resident so far, in bytes.
func peakMemory(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("the kernel tells no VmHWM")
}

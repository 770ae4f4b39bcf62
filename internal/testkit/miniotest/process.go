package miniotest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

const (
	environmentName = "COPYFLEET_MINIO"
	outputKept      = 16 << 10 // bytes of what MinIO said, the last ones
)

// startDir is where the test binary began: some tests change the current directory.
var startDir, errStartDir = os.Getwd()

// process is one run of MinIO.
type process struct {
	cmd    *exec.Cmd
	output *tail
	ended  chan struct{}
}

// launch starts MinIO on the data in dir. env are more settings.
func launch(dir, addr, accessKey, secretKey string, env []string) (*process, error) {
	binary, err := findBinary()
	if err != nil {
		return nil, err
	}
	home, data := filepath.Join(dir, "home"), filepath.Join(dir, "data")
	for _, d := range []string{home, data} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("miniotest: %w", err)
		}
	}
	p := &process{output: &tail{}, ended: make(chan struct{})}
	p.cmd = exec.Command(binary, "server", "--quiet", "--address", addr, "--certs-dir", home, data)
	p.cmd.Dir = dir
	// Nothing of the caller's environment: MINIO_… in it would change the server.
	p.cmd.Env = append([]string{
		"HOME=" + home, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir(), "MINIO_ROOT_USER=" + accessKey, "MINIO_ROOT_PASSWORD=" + secretKey,
		"MINIO_BROWSER=off", "MINIO_UPDATE=off",
	}, env...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.SysProcAttr = dieWithParent()
	started := make(chan error)
	go p.watch(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("miniotest: start %s: %w", binary, err)
	}
	return p, nil
}

// watch starts the process and waits for it, on one thread all the time: Linux would kill the process with the thread
// that started it.
func (p *process) watch(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.ended)
	err := p.cmd.Start()
	started <- err
	if err == nil {
		_ = p.cmd.Wait() // how it ends is asked for by a signal, and shown by its output
	}
}

// end sends a signal and waits for the process to end, which a signal other than SIGKILL may fail to bring about.
func (p *process) end(how syscall.Signal) error {
	if err := p.cmd.Process.Signal(how); err != nil {
		return fmt.Errorf("miniotest: MinIO had ended by itself: %w; it said:\n%s", err, p.output)
	}
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	select {
	case <-p.ended:
		return nil
	case <-limit.C:
		p.kill()
		return fmt.Errorf("miniotest: MinIO did not end within %s of %s; it said:\n%s", stopLimit, how, p.output)
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it has ended already, or it does now
	<-p.ended
}

func findBinary() (string, error) {
	if path := os.Getenv(environmentName); path != "" {
		if !filepath.IsAbs(path) {
			path = filepath.Join(startDir, path)
		}
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("miniotest: %s: %w; hint: make tools", environmentName, err)
		}
		return path, nil
	}
	for dir := startDir; errStartDir == nil; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			path := filepath.Join(dir, ".tools", "minio")
			if _, err := os.Stat(path); err != nil {
				return "", fmt.Errorf("miniotest: %w; hint: make tools, or name a MinIO in %s", err, environmentName)
			}
			return path, nil
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	return "", errors.Join(fmt.Errorf("miniotest: no repository around %q; hint: name a MinIO in %s", startDir, environmentName), errStartDir)
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if drop := len(t.text) - outputKept; drop > 0 {
		t.text = append(t.text[:0], t.text[drop:]...)
	}
	return len(p), nil
}

// String returns what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

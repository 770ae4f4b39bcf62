package miniotest

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// childDir makes the test binary a program that starts a server and is killed: see TestServerDiesWithItsTest.
const childDir = "MINIOTEST_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir)
	}
	goleak.VerifyTestMain(Main(m))
}

func TestServerKeepsDataAndPort(t *testing.T) {
	t.Parallel()
	s := Start(t)
	endpoint, bucket := s.Endpoint, s.NewBucket(t)
	for _, end := range []func(){s.Stop, s.Kill} {
		end()
		if conn, err := net.Dial("tcp", s.addr); err == nil {
			conn.Close()
			t.Fatalf("%s still listens after the server ended", s.addr)
		}
		s.Start()
		if s.Endpoint != endpoint {
			t.Errorf("the endpoint became %s, was %s", s.Endpoint, endpoint)
		}
		if !exists(t, s, bucket) {
			t.Errorf("the bucket is gone after a restart")
		}
	}
}

func TestSharedIsOneServerWithManyBuckets(t *testing.T) {
	t.Parallel()
	a, b := Shared(t), Shared(t)
	if a != b {
		t.Error("Shared gave two servers")
	}
	first, second := a.NewBucket(t), b.NewBucket(t)
	if first == second || !exists(t, a, first) || !exists(t, a, second) {
		t.Errorf("buckets %q and %q: want two that exist", first, second)
	}
	defer func() {
		if said, _ := recover().(string); !strings.Contains(said, "miniotest.Start") {
			t.Errorf("the shared server may be stopped, or says %q", said)
		}
	}()
	a.Stop()
}

func TestMissingBinaryIsExplained(t *testing.T) {
	t.Setenv(environmentName, "/does/not/exist")
	_, err := findBinary()
	if err == nil || !strings.Contains(err.Error(), "make tools") || !strings.Contains(err.Error(), environmentName) {
		t.Errorf("error %v: want one that says what to do", err)
	}
}

// TestServerDiesWithItsTest kills a process that runs a server, as a timeout of go test would.
func TestServerDiesWithItsTest(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 64)
	n, _ := out.Read(line)
	cmd.Process.Kill()
	cmd.Wait()
	pid, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	if err != nil {
		t.Fatalf("the child said %q, want the id of its server's process", line[:n])
	}
	ctx, cancel := context.WithTimeout(t.Context(), stopLimit)
	defer cancel()
	for tick := time.Tick(poll); alive(pid); {
		select {
		case <-tick:
		case <-ctx.Done():
			t.Fatalf("process %d outlives its test", pid)
		}
	}
}

// alive reports whether a process runs: one that nobody has waited for yet does not.
func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func child(dir string) {
	s, err := start(dir)
	if err != nil {
		os.Stdout.WriteString(err.Error())
		os.Exit(1)
	}
	os.Stdout.WriteString(strconv.Itoa(s.process.cmd.Process.Pid) + "\n")
	select {}
}

func exists(t *testing.T, s *Server, bucket string) bool {
	t.Helper()
	client, err := s.client()
	if err != nil {
		t.Fatal(err)
	}
	ok, err := client.BucketExists(t.Context(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

package bench

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	stopOnSignal()
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent())
}

const (
	startLimit = 30 * time.Second // of a process
	stopLimit  = 30 * time.Second
	roundLimit = 2 * time.Minute // of one contender's round
)

// scale is n, or a tenth of it with -short.
func scale(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

// program returns the path of a program that make built.
func program(b *testing.B, variable, hint string) string {
	b.Helper()
	path := os.Getenv(variable)
	if path == "" {
		b.Fatalf("%s is not set: run \"make bench\", or %q and set it", variable, hint)
	}
	if _, err := exec.LookPath(path); err != nil {
		b.Fatalf("%s: %v: run %q", variable, err, hint)
	}
	return path
}

// environ is the environment for a child: ours without settings that could reach a user's fleet or remotes.
func environ(add ...string) []string {
	env := make([]string, 0, len(os.Environ())+len(add))
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "COPYFLEET_") && !strings.HasPrefix(e, "RCLONE_") && !strings.HasPrefix(e, "MINIO_") {
			env = append(env, e)
		}
	}
	return append(env, add...)
}

// freeAddress is a loopback address that nobody listens on at the moment.
func freeAddress(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

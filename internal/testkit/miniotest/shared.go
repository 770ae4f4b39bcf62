package miniotest

import (
	"errors"
	"os"
	"sync"
	"testing"
)

// shared is the server that the tests of this binary share. The first that asks starts it.
var shared struct {
	mu     sync.Mutex
	ready  bool // Main will close it
	server *Server
	err    error
	dir    string
}

// Shared returns the server that all tests of this binary share, which may not be stopped. The package's TestMain
// must use [Main].
func Shared(tb testing.TB) *Server {
	tb.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if !shared.ready {
		tb.Fatal("miniotest: Shared needs Main in TestMain: nobody would stop the server")
	}
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = startShared()
	}
	if shared.err != nil {
		tb.Fatal(shared.err)
	}
	return shared.server
}

func startShared() (*Server, error) {
	var err error
	if shared.dir, err = os.MkdirTemp("", "miniotest-"); err != nil {
		return nil, err
	}
	return start(shared.dir)
}

// Tests is what [Main] runs: a *testing.M, and what goleak.VerifyTestMain takes.
type Tests interface{ Run() int }

// Main returns m with the shared server around it.
func Main(m Tests) Tests { return withShared{m} }

type withShared struct{ Tests }

// Run runs the tests and ends the shared server, if they used it.
func (m withShared) Run() int {
	shared.mu.Lock()
	shared.ready = true
	shared.mu.Unlock()
	code := m.Tests.Run()
	if err := closeShared(); err != nil && code == 0 {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	return code
}

func closeShared() error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	shared.ready = false
	if shared.server != nil {
		select {
		case <-shared.server.process.ended:
			shared.err = errors.New("miniotest: the shared MinIO ended by itself; it said:\n" + shared.server.process.output.String())
		default:
			shared.server.process.kill() // nobody needs its data any more
		}
		shared.server = nil
	}
	if shared.dir == "" {
		return shared.err
	}
	return errors.Join(shared.err, os.RemoveAll(shared.dir))
}

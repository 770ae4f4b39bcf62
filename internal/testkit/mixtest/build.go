package mixtest

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Runner is a [testing.M] that removes the programs built for the tests:
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(mixtest.Runner{M: m}) }
//
// Its tests mostly wait for other processes, so that more of them run at once than there are processors.
type Runner struct{ M *testing.M }

// Run runs the tests.
func (r Runner) Run() int {
	flag.Parse()
	if p := flag.Lookup("test.parallel"); p != nil && p.Value.String() == p.DefValue {
		_ = p.Value.Set(atOnce) // the flag takes every number
	}
	defer func() {
		if programs.dir != "" {
			_ = os.RemoveAll(programs.dir)
		}
	}()
	return r.M.Run()
}

const atOnce = "5"

var programs struct {
	sync.Mutex
	dir   string
	built map[string]string
}

// program builds a main package of this module or of one that it requires, once, and returns the path of the binary. Ours
// are built with the race detector if the test is.
func program(t testing.TB, pkg string) string {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	if path := programs.built[pkg]; path != "" {
		return path
	}
	path, err := build(pkg)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func build(pkg string) (string, error) {
	if programs.dir == "" {
		dir, err := os.MkdirTemp("", "mixtest-")
		if err != nil {
			return "", err
		}
		programs.dir, programs.built = dir, map[string]string{}
	}
	name := filepath.Base(filepath.Dir(pkg)) + "-" + filepath.Base(pkg)
	if dir := os.Getenv(programsVariable); dir != "" {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("%s names a directory without %s: %w", programsVariable, name, err)
		}
		programs.built[pkg] = path
		return path, nil
	}
	path := filepath.Join(programs.dir, name)
	args := []string{"build", "-o", path}
	if raceEnabled && pkg == copyfleetProgram {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, pkg)...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	programs.built[pkg] = path
	return path, nil
}

// programsVariable names a directory with programs that were built for all tests at once, as make test does: each package would
// link them anew.
const programsVariable = "COPYFLEET_TEST_PROGRAMS"

const (
	copyfleetProgram = "github.com/copyfleet/copyfleet/cmd/copyfleet"
	natsProgram      = "github.com/nats-io/nats-server/v2"
)

package failpoint_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/internal/failpoint"
)

// scriptEnv makes this test binary a process that walks through points: "point" or "point@item", separated by commas.
const scriptEnv = "COPYFLEET_TEST_FAILPOINTS"

func TestMain(m *testing.M) {
	if script, ok := os.LookupEnv(scriptEnv); ok {
		os.Exit(walk(script))
	}
	goleak.VerifyTestMain(m)
}

const badPlan = 3

func walk(script string) int {
	if err := failpoint.Arm(os.Getenv(failpoint.Env)); err != nil {
		return badPlan
	}
	for step := range strings.SplitSeq(script, ",") {
		if point, item, ok := strings.Cut(step, "@"); ok {
			failpoint.HitItem(failpoint.Point(point), item)
		} else {
			failpoint.Hit(failpoint.Point(point))
		}
	}
	return 0
}

func TestProcessDiesAtItsPoint(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, plan, script string
		dies               bool
	}{
		{"no plan", "", "fetched,claim_stored@a", false},
		{"first hit", "fetched", "fetched", true},
		{"another point", "fetched", "claim_stored", false},
		{"before the n-th hit", "fetched:3", "fetched,fetched", false},
		{"n-th hit", "fetched:3", "fetched,claim_stored,fetched,fetched", true},
		{"any item", "claim_stored:2", "claim_stored@a,claim_stored@b", true},
		{"the item", "claim_stored@poison", "claim_stored@a,claim_stored@the-poison-1", true},
		{"no such item", "claim_stored@poison", "claim_stored@a,claim_stored", false},
		{"n-th hit of the item", "claim_stored:2@p", "claim_stored@p,claim_stored@a", false},
		{"an id with a colon", "claim_stored:2@a:b@c", "claim_stored@a:b@c,claim_stored@xa:b@cx", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), scriptEnv+"="+test.script, failpoint.Env+"="+test.plan)
			out, err := cmd.CombinedOutput()
			if died := killed(err); died != test.dies || !died && err != nil {
				t.Fatalf("plan %q, steps %q: died %t, must be %t (%v)\n%s", test.plan, test.script, died, test.dies, err, out)
			}
			if test.dies && !strings.Contains(string(out), "killed here") {
				t.Errorf("a death at a failpoint does not say so: %q", out)
			}
		})
	}
}

func killed(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

func TestBadPlanIsRefused(t *testing.T) {
	t.Parallel()
	for _, plan := range []string{"nowhere", "fetched:0", "fetched:-1", "fetched:x", "fetched:", "fetched@", ":1", "@item"} {
		if err := failpoint.Arm(plan); err == nil {
			t.Errorf("Arm(%q) took a plan that means nothing", plan)
		}
	}
}

func BenchmarkHitUnarmed(b *testing.B) {
	for b.Loop() {
		failpoint.Hit(failpoint.Fetched)
	}
}

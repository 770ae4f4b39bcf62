package mixtest

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// Output is what a command came to.
type Output struct {
	Exit           int
	Stdout, Stderr string
}

const commandLimit = 4 * time.Minute

// Command runs copyfleet with arguments to its end, with the settings of the fleet. env are more settings.
func (f *Fleet) Command(t testing.TB, env []string, args ...string) Output {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()
	cmd := f.Prepare(ctx, t, env, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatalf("copyfleet %v: %v", args, err)
	}
	return Output{Exit: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
}

// Prepare returns copyfleet with arguments and the settings of the fleet, yet to be started. env are more settings.
func (f *Fleet) Prepare(ctx context.Context, t testing.TB, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, program(t, copyfleetProgram), args...)
	cmd.Env = slices.Concat(f.env, []string{"COPYFLEET_URL=" + f.API.URL}, settings(env))
	cmd.SysProcAttr = dieWithParent()
	return cmd
}

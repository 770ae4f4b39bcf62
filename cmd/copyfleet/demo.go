package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// demoCmd shows the whole fleet at work.
type demoCmd struct {
	Data string `help:"Data directory of the demonstration. Default: a new temporary one, which is left for you to look at." placeholder:"DIR"`
}

const (
	demoLimit   = 10 * time.Minute // for all of it, which takes seconds where nothing else runs
	demoReady   = 2 * time.Minute
	demoSandbox = "SBX-demo"
)

// demo is a running demonstration.
type demo struct {
	env    *environment
	fleet  ready
	api    *client
	files  *demoFiles
	failed int
	items  int
}

// Run starts the fleet as a process of its own, runs the scenes, checks each result itself, and stops the fleet.
func (c *demoCmd) Run(ctx context.Context, env *environment) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, demoLimit, errors.New("the demonstration took too long"))
	defer cancel()
	data := c.Data
	if data == "" {
		if data, err = os.MkdirTemp("", "copyfleet-demo-"); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	start := time.Now()
	d := &demo{env: env}
	stop, err := d.startFleet(ctx, data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if d.files, err = serveDemoFiles(ctx); err != nil {
		return err
	}
	defer d.files.close()
	d.api = &client{base: d.fleet.API, key: d.fleet.APIKey, http: &http.Client{}}
	d.say("The fleet runs: API %s, S3 %s, data %s", d.fleet.API, d.fleet.S3, d.fleet.Data)
	for _, scene := range d.scenes() {
		d.say("\n%s", scene.title)
		if err := scene.play(ctx, scene); err != nil {
			return fmt.Errorf("%s: %w", scene.title, err)
		}
	}
	return d.finish(start)
}

func (d *demo) finish(start time.Time) error {
	took := time.Since(start).Round(time.Millisecond)
	d.say("\nFiles:   %s/sandboxes/%s/%s", d.fleet.Data, d.fleet.Org, demoSandbox)
	d.say("Objects: bucket demo, in %s/s3", d.fleet.Data)
	if d.env.json {
		summary := map[string]any{"items": d.items, "unexpected": d.failed, "milliseconds": took.Milliseconds(), "data": d.fleet.Data}
		if err := printJSON(d.env, summary); err != nil {
			return err
		}
	}
	if d.failed > 0 {
		return exitWith(exitFailed, "%d of %d items were not as they should be", d.failed, d.items)
	}
	d.say("%d items, each as it should be, in %s.", d.items, took)
	return nil
}

// say prints for people; with --json only the items and the summary are printed.
func (d *demo) say(format string, args ...any) {
	if !d.env.json {
		_, _ = fmt.Fprintf(d.env.stdout, format+"\n", args...) // a demonstration without an audience goes on
	}
}

// startFleet runs "copyfleet up" on free ports. The returned function stops it and reports how it ended.
func (d *demo) startFleet(ctx context.Context, data string) (func() error, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	args := []string{"up", "--json", "--data", data, "--log-level", "WARN", "--listen", "127.0.0.1:0", "--s3-listen", "127.0.0.1:0"}
	cmd := exec.CommandContext(ctx, self, args...) //nolint:gosec // ourselves
	cmd.Env = withoutSettings(os.Environ())
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = demoReady
	cmd.Stderr = d.env.stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("demo: start the fleet: %w", err)
	}
	decoded := make(chan error, 1)
	go func() { decoded <- json.NewDecoder(out).Decode(&d.fleet) }()
	stop := func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("demo: stop the fleet: %w", err)
		}
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("demo: the fleet did not stop in order: %w", err)
		}
		return nil
	}
	select {
	case err := <-decoded:
		if err != nil {
			return nil, errors.Join(fmt.Errorf("demo: the fleet did not start: %w", err), stop())
		}
	case <-time.After(demoReady):
		return nil, errors.Join(fmt.Errorf("demo: the fleet was not ready within %s", demoReady), stop())
	}
	signal.Ignore(syscall.SIGPIPE)
	return stop, nil
}

// withoutSettings drops COPYFLEET_… from an environment: the demonstration touches nothing of the user's.
func withoutSettings(env []string) []string {
	var kept []string
	for _, e := range env {
		if !strings.HasPrefix(e, "COPYFLEET_") {
			kept = append(kept, e)
		}
	}
	return kept
}

func listenLoopback(ctx context.Context) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	return l, nil
}

// Command copyfleet moves files in bulk between HTTP endpoints, S3 buckets and sandboxes.
//
// main only calls run. cli.go lists the commands; a file each holds them. fleet.go is the only place that joins broker, front,
// worker, aggregator and drivers.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/internal/lifecycle"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := exitUsage
	if err := failpoint.Arm(os.Getenv(failpoint.Env)); err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "copyfleet: %s\n", err) // nobody to tell
	} else {
		code = run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	stop()
	os.Exit(code)
}

// The exit codes, as documented: never 0 on failure.
const (
	exitOK        = 0
	exitFailed    = 1 // finished, with items that failed
	exitUsage     = 2
	exitNotFound  = 3
	exitDenied    = 4
	exitTemporary = 5 // try again
	exitCanceled  = 6
	exitFatal     = 7
)

// exitError carries an exit code through the error chain.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func exitWith(code int, format string, args ...any) error {
	return &exitError{code: code, err: fmt.Errorf(format, args...)}
}

// run is the whole program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c cli
	exited := -1
	parser, err := kong.New(&c,
		kong.Name("copyfleet"),
		kong.Description("Copies files in bulk between HTTP endpoints, S3 buckets and sandboxes, durably, and tells the truth about every item."),
		kong.Vars{"version": version},
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exited = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.UsageOnError(),
	)
	if err != nil {
		return fail(stderr, err)
	}
	kctx, err := parser.Parse(args)
	if exited >= 0 { // --help or --version did its work
		return exited
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "copyfleet: %s\nRun \"copyfleet --help\" for the commands and their flags.\n", err) // nobody to tell
		return exitUsage
	}
	env := &environment{stdout: stdout, stderr: stderr, log: c.logger(stderr), json: c.JSON}
	kctx.BindTo(ctx, (*context.Context)(nil))
	if err := kctx.Run(env); err != nil {
		return fail(stderr, err)
	}
	return exitOK
}

// fail prints an error and maps it to an exit code.
func fail(stderr io.Writer, err error) int {
	_, _ = fmt.Fprintf(stderr, "copyfleet: %s\n", err) // nobody to tell
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	switch {
	case errors.Is(err, broker.ErrUnavailable), errors.Is(err, lifecycle.ErrInUse), errors.Is(err, syscall.EADDRINUSE):
		return exitTemporary
	case errors.Is(err, context.Canceled):
		return exitCanceled
	}
	return exitFatal
}

// environment is what a command may use of the process around it.
type environment struct {
	stdout, stderr io.Writer
	log            *slog.Logger
	json           bool
}

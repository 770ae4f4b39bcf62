// Command copyfleet moves files in bulk between HTTP endpoints, S3 buckets and sandboxes.
//
// main only calls run. cli.go lists the commands; a file each holds them. fleet.go is the only place that joins broker, front,
// worker, aggregator and drivers.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/copyfleet/copyfleet/internal/failpoint"
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
		return fail(stderr, false, err)
	}
	kctx, err := parser.Parse(args)
	if exited >= 0 { // --help or --version did its work
		return exited
	}
	if err != nil {
		return fail(stderr, asksJSON(args), hinted(exitWith(exitUsage, "%w", err), "Run \"copyfleet --help\" for the commands and their flags."))
	}
	env := &environment{stdin: os.Stdin, stdout: stdout, stderr: stderr, log: c.logger(stderr), json: c.JSON}
	slog.SetDefault(slog.New(libraries{env.log.Handler()}))
	kctx.BindTo(ctx, (*context.Context)(nil))
	if err := kctx.Run(env); err != nil {
		return fail(stderr, c.JSON, err)
	}
	return exitOK
}

// asksJSON reports whether the arguments ask for JSON, for when they could not be parsed.
func asksJSON(args []string) bool {
	for _, arg := range args {
		switch arg {
		case "--":
			return false
		case "--json", "--json=true":
			return true
		}
	}
	return false
}

// environment is what a command may use of the process around it.
type environment struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	log            *slog.Logger
	json           bool

	noting sync.Mutex // notes come from several goroutines at once
}

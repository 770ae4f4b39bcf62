package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/job"
	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/report"
	"github.com/copyfleet/copyfleet/loadtest/target"
)

// generators make the load: one here, or several on other machines.
type generators interface {
	Prepare(ctx context.Context) error
	Run(ctx context.Context, progress func(loadtest.Progress)) (*record.Run, error)
	Close()
}

// benchRun is a run, from the look at its bucket to its report.
type benchRun struct {
	env    *environment
	flags  *benchFlags
	cfg    job.Config
	limits []report.Limit
	store  *target.S3
	raw    *rawFile
}

// newRunID names a run, in the order of time.
func newRunID() string {
	var random [3]byte
	_, _ = rand.Read(random[:]) // never fails
	return time.Now().UTC().Format("20060102-150405-") + hex.EncodeToString(random[:])
}

// runBench makes a run and reports it.
func runBench(ctx context.Context, env *environment, flags *benchFlags, spec *job.Spec) error {
	limits, err := flags.limits()
	if err != nil {
		return err
	}
	if err := ofOthers(limits, spec); err != nil {
		return err
	}
	if err := canWrite(flags.HTML); err != nil {
		return err
	}
	ctx, done := untorn(ctx)
	defer done()
	r := &benchRun{env: env, flags: flags, limits: limits, cfg: job.Config{
		Spec: spec, Secrets: flags.secrets(), Place: loadtest.Place{Run: newRunID(), Generators: 1}, Version: version,
		Schedule: flags.schedule,
	}}
	if r.store, err = job.NewStore(&r.cfg); err != nil {
		return exitWith(exitUsage, "%w", err)
	}
	defer r.store.Close()
	if err := r.look(ctx); err != nil {
		return err
	}
	generator, err := r.generator(ctx)
	if err != nil {
		return err
	}
	defer r.raw.discard()
	return r.make(ctx, generator)
}

// untorn keeps the process from ending in mid-run, which would leave its objects: a terminal that is closed interrupts the run as Ctrl-C does, and a reader
// that goes away is noticed where something is printed.
func untorn(ctx context.Context) (context.Context, context.CancelFunc) {
	signal.Ignore(syscall.SIGPIPE)
	if signal.Ignored(syscall.SIGHUP) { // by nohup
		return context.WithCancel(ctx)
	}
	return signal.NotifyContext(ctx, syscall.SIGHUP)
}

// ofOthers finds a limit of what the load never does: nobody would ever see that it limits nothing.
func ofOthers(limits []report.Limit, spec *job.Spec) error {
	for i := range limits {
		if operation := limits[i].Operation(); operation != "" && !spec.Makes(operation) {
			return exitWith(exitUsage, "--fail-if %q: this load makes no %s", limits[i].String(), operation)
		}
	}
	return nil
}

// generator is what makes the load.
func (r *benchRun) generator(ctx context.Context) (generators, error) {
	r.raw = &rawFile{}
	if r.flags.Workers > 0 {
		return r.flags.gather(ctx, r.env, &r.cfg)
	}
	var err error
	if r.raw, err = createRaw(r.env, r.flags.Raw, r.cfg.Place.Run); err != nil {
		return nil, err
	}
	r.cfg.Raw = r.raw.writer()
	made, err := job.New(&r.cfg)
	if err != nil {
		r.raw.discard()
		return nil, exitWith(exitUsage, "%w", err)
	}
	return made, nil
}

// look makes sure that the bucket is one that may be used.
func (r *benchRun) look(ctx context.Context) error {
	others, err := r.store.Check(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return interrupted(ctx)
	case err != nil:
		return lookError(err)
	case others && !r.flags.Force:
		return &exitError{code: exitUsage, reason: "bucket_not_empty", err: fmt.Errorf("the bucket %s has other objects", r.cfg.Spec.Bucket),
			hint: "A load test should have a bucket of its own. --force uses this one all the same: only keys that begin with " +
				r.cfg.Spec.Prefix + "/ are touched."}
	}
	return nil
}

// make makes the load, reports it, and removes what it left.
func (r *benchRun) make(ctx context.Context, generator generators) error {
	where := "s3://" + r.cfg.Spec.Bucket + "/" + r.cfg.Place.RunPrefix(r.cfg.Spec.Prefix)
	stop := context.AfterFunc(ctx, func() {
		signal.Reset(syscall.SIGINT, syscall.SIGTERM)
		r.env.note("interrupted: what was done is reported, and its objects are removed; another signal leaves at once, and leaves what is below " + where)
	})
	defer stop()
	err := r.load(ctx, generator)
	generator.Close() // nobody writes any more
	if r.flags.Keep {
		r.env.note("the objects of the run are kept below " + where)
		return err
	}
	removed, clearErr := r.store.Clear(context.WithoutCancel(ctx))
	if clearErr == nil {
		return err
	}
	clearErr = fmt.Errorf("%d objects were removed; others are left below %s: %w", removed, where, storeError(clearErr))
	if err == nil {
		return &exitError{code: exitTemporary, reason: "objects_left", err: clearErr}
	}
	r.env.note(clearErr.Error())
	return err
}

// load makes the load and reports it.
func (r *benchRun) load(ctx context.Context, generator generators) error {
	show := showProgress(r.env, r.cfg.Spec)
	err := generator.Prepare(ctx)
	if err != nil {
		return errors.Join(prepareError(ctx, err), show.close())
	}
	run, fileErr := generator.Run(ctx, show.tell)
	shown := show.close()
	if run == nil {
		return prepareError(ctx, fileErr)
	}
	fileErr = errors.Join(fileErr, r.raw.close()) // what follows may fail; the file is whole by then
	told, err := r.tell(run)
	if err := cmp.Or(err, shown); err != nil {
		return err
	}
	if fileErr != nil {
		return exitWith(exitFatal, "the figures above are whole, but the file %s is not: %w", r.raw.name, fileErr)
	}
	return told.verdict(ctx)
}

// tell prints what the run was like, and writes the page.
func (r *benchRun) tell(run *record.Run) (*benchSummary, error) {
	told := &benchSummary{Run: r.cfg.Place.Run, Workload: r.cfg.Spec.Workload, Summary: report.Summarize(run), Raw: r.raw.name, HTML: r.flags.HTML}
	told.judge(r.limits)
	err := told.print(r.env, run)
	return told, err
}

// storeError tells what the store, or what is between, has refused.
func storeError(err error) error {
	fault, _ := target.Explain(err)
	return faultError(fault, err)
}

// lookError is a [storeError] of the first request to a store, which may well have been sent to a wrong place, or with wrong keys.
func lookError(err error) error {
	fault, _ := target.Explain(err)
	switch {
	case fault.Hint != "":
	case fault.Class == "denied":
		fault.Hint = "Check --access-key and --secret-key, and that they may list, read and write in the bucket."
	case fault.Class == "unavailable":
		fault.Hint = "Check --endpoint, and that the store runs."
	}
	return faultError(fault, err)
}

// prepareError is why objects could not be written.
func prepareError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	return storeError(err)
}

// faultError gives an error the exit code of its class.
func faultError(fault *record.Fault, err error) error {
	return &exitError{code: faultExit(fault.Class), reason: fault.Code, hint: fault.Hint, err: err}
}

func faultExit(class string) int {
	switch class {
	case "not_found":
		return exitNotFound
	case "denied":
		return exitDenied
	case "invalid":
		return exitUsage
	case "internal":
		return exitFatal
	}
	return exitTemporary
}

// rawFile is the file that keeps every operation; the zero value is none.
type rawFile struct {
	name string
	file *os.File
}

// noRaw asks for no file.
const noRaw = "none"

// createRaw begins the file. One that nobody has asked for may fail.
func createRaw(env *environment, name, run string) (*rawFile, error) {
	asked := name != ""
	switch name {
	case noRaw:
		return &rawFile{}, nil
	case "":
		name = "copyfleet-bench-" + run + ".ndjson.zst"
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // the user's own choice; it has no secrets
	switch {
	case err != nil && asked:
		return nil, exitWith(exitUsage, "--raw: %w", err)
	case err != nil:
		env.note(fmt.Sprintf("the operations are not kept: %v", err))
		return &rawFile{}, nil
	}
	return &rawFile{name: name, file: file}, nil
}

// close makes the file last.
func (f *rawFile) close() error {
	if f.file == nil {
		return nil
	}
	err := errors.Join(f.file.Sync(), f.file.Close())
	f.file = nil
	return err
}

// discard removes the file of a run that never began.
func (f *rawFile) discard() {
	if f.file != nil {
		_ = f.file.Close()    // nothing of value is in it
		_ = os.Remove(f.name) // nobody was told of it
	}
}

// writer is where operations are kept; nil: nowhere.
func (f *rawFile) writer() io.Writer {
	if f.file == nil {
		return nil
	}
	return f.file
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/report"
)

// cutFlags say what of a run counts, where that is not what its own warm-up says.
type cutFlags struct {
	Head time.Duration `help:"Count from this time of the run on, instead of the end of its warm-up." placeholder:"5s"`
	Tail time.Duration `help:"Count until this long before the run's stop." placeholder:"5s"`
}

func (f *cutFlags) cut() (record.Cut, error) {
	if f.Head < 0 || f.Tail < 0 {
		return record.Cut{}, exitWith(exitUsage, "--head and --tail are not negative")
	}
	return record.Cut{Head: f.Head, Tail: f.Tail}, nil
}

// workloadOf is the workload that stands in the options of a run; "" if none does.
func workloadOf(run *record.Run) string {
	var options struct {
		Workload string `json:"workload"`
	}
	_ = json.Unmarshal(run.Headers[0].Options, &options) // a file of somebody else may have others
	return options.Workload
}

// benchCmp compares runs.
type benchCmp struct {
	Before      string  `arg:"" help:"File of a run, or of several that ought to be the same: A1,A2,A3. From five a side on, runs are compared instead of pieces of them." completion:"file"`
	After       string  `arg:"" help:"The same of what it is compared with." completion:"file"`
	Tolerance   float64 `help:"A change of less than this share is no difference, however certain." default:"0.05"`
	FailIfWorse bool    `help:"Exit with 1 if something is worse." name:"fail-if-worse"`
	cutFlags
}

// comparison is what --json tells on the last line.
type comparison struct {
	Before   []string        `json:"before"`
	After    []string        `json:"after"`
	Warnings []string        `json:"warnings"` // why the sides are not of the same thing
	Changes  []report.Change `json:"changes"`
	Verdict  report.Verdict  `json:"verdict"` // worse if anything is
}

// Run compares.
func (c *benchCmp) Run(ctx context.Context, env *environment) error {
	if !(c.Tolerance >= 0 && c.Tolerance < 1) {
		return exitWith(exitUsage, "--tolerance %g: it is a share from 0 to 1, such as 0.05", c.Tolerance)
	}
	told := comparison{Before: strings.Split(c.Before, ","), After: strings.Split(c.After, ","), Warnings: []string{}, Verdict: report.Same}
	cut, err := c.cut()
	if err != nil {
		return err
	}
	before, beforeRuns, err := side(ctx, told.Before, cut)
	if err != nil {
		return err
	}
	after, afterRuns, err := side(ctx, told.After, cut)
	if err != nil {
		return err
	}
	told.Warnings = append(told.Warnings, report.Unlike(beforeRuns, afterRuns)...)
	if told.Changes, err = report.Compare(before, after, c.Tolerance); err != nil {
		return exitWith(exitUsage, "%w", err)
	}
	for i := range told.Changes {
		if v := told.Changes[i].Verdict; v == report.Worse || v == report.Better && told.Verdict == report.Same {
			told.Verdict = v
		}
	}
	if err := told.print(env); err != nil {
		return err
	}
	if c.FailIfWorse && told.Verdict == report.Worse {
		return &exitError{code: exitFailed, reason: "worse", err: fmt.Errorf("%s is worse than %s", c.After, c.Before)}
	}
	return nil
}

func (c *comparison) print(env *environment) error {
	if env.json {
		return printJSON(env, c)
	}
	for _, text := range c.Warnings {
		env.note(text)
	}
	return wrapPrint(report.ChangesText(env.stdout, c.Changes, reportLook(env)))
}

// side reads the runs of one side.
func side(ctx context.Context, names []string, cut record.Cut) (report.Side, []*record.Run, error) {
	var pieces report.Side
	var runs []*record.Run
	for _, name := range names {
		run, err := record.Sum(opener(ctx, name), cut)
		if err != nil {
			return nil, nil, readError(ctx, name, err)
		}
		windows, err := record.Windows(opener(ctx, name), cut, report.Windows)
		if err != nil {
			return nil, nil, readError(ctx, name, err)
		}
		for _, other := range runs { // it would make what varies look certain
			if h, o := run.Headers[0], other.Headers[0]; h.Run == o.Run && h.Generator == o.Generator {
				return nil, nil, exitWith(exitUsage, "%s: the run %s stands twice on one side", name, h.Run)
			}
		}
		pieces, runs = append(pieces, windows), append(runs, run)
	}
	return pieces, runs, nil
}

// benchMerge makes one file out of those of several load generators.
type benchMerge struct {
	Files  []string `arg:"" name:"file" help:"The files of the load generators of a run." completion:"file"`
	Output string   `help:"File to write; it is not there yet." short:"o" required:"true" placeholder:"FILE" completion:"file"`
}

// Run merges.
func (c *benchMerge) Run(ctx context.Context, env *environment) error {
	run, err := c.merge(ctx, env)
	if err != nil {
		return err
	}
	told := &benchSummary{Run: run.Headers[0].Run, Workload: workloadOf(run), Summary: report.Summarize(run), Exceeded: []exceeded{}, Raw: c.Output}
	return told.print(env, run)
}

// merge writes the file. What is not whole does not stay.
func (c *benchMerge) merge(ctx context.Context, env *environment) (run *record.Run, err error) {
	out, err := os.OpenFile(c.Output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // the user's own choice
	if err != nil {
		return nil, exitWith(exitUsage, "--output: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(c.Output))
		}
	}()
	for _, name := range c.Files {
		if err = appendFile(ctx, out, name); err != nil {
			_ = out.Close() // it is removed
			return nil, readError(ctx, name, err)
		}
	}
	if err = errors.Join(out.Sync(), out.Close()); err != nil {
		return nil, exitWith(exitFatal, "--output: %w", err)
	}
	if run, err = record.Sum(opener(ctx, c.Output), record.Cut{}); err != nil {
		return nil, readError(ctx, c.Output, err)
	}
	return run, checkGenerators(env, run.Headers)
}

func appendFile(ctx context.Context, out *os.File, name string) error {
	in, err := opener(ctx, name)()
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	reader, err := record.NewReader(in)
	if err != nil {
		return err
	}
	defer reader.Close()
	return record.Append(out, reader)
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/report"
)

// benchSummary is what a run was like, as --json tells it on the last line.
type benchSummary struct {
	Run      string `json:"run"`
	Workload string `json:"workload"`
	*report.Summary

	Exceeded []exceeded `json:"exceeded"` // limits of --fail-if that hold
	Raw      string     `json:"raw,omitempty"`
	HTML     string     `json:"html,omitempty"`
}

// exceeded is a limit that a run is beyond.
type exceeded struct {
	Limit string  `json:"limit"`
	Value float64 `json:"value"` // of the figure; latencies in milliseconds
	told  string  // in words
}

// judge finds the limits that hold.
func (s *benchSummary) judge(limits []report.Limit) {
	s.Exceeded = []exceeded{}
	for i := range limits {
		if holds, value := limits[i].Holds(s.Summary); holds {
			s.Exceeded = append(s.Exceeded, exceeded{Limit: limits[i].String(), Value: value, told: limits[i].Tell(s.Summary)})
		}
	}
}

// print prints the report, and writes the page if one is asked for. The figures are printed also if the page cannot be written.
func (s *benchSummary) print(env *environment, run *record.Run) error {
	unwritten := s.page(run)
	if unwritten != nil {
		s.HTML = ""
	}
	return errors.Join(unwritten, s.figures(env, run))
}

func (s *benchSummary) figures(env *environment, run *record.Run) error {
	if env.json {
		return printJSON(env, s)
	}
	if err := report.Text(env.stdout, run, s.Summary, reportLook(env)); err != nil {
		return wrapPrint(err)
	}
	if s.Raw != "" {
		env.note("every operation is in " + s.Raw)
	}
	if s.HTML != "" {
		env.note("the page is in " + s.HTML)
	}
	return nil
}

// reportLook is how a report is laid out.
func reportLook(env *environment) report.Look {
	look := report.Look{Width: 100, ASCII: asciiOnly(os.Getenv)} // in a file
	if term := terminalOf(env.stdout); term.live() {
		look.Width, _ = term.size()
	}
	return look
}

// asciiOnly tells whether the locale shows nothing else. One that is not set says nothing: most machines without one show UTF-8.
func asciiOnly(getenv func(string) string) bool {
	locale := cmp.Or(getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG"))
	return locale != "" && !strings.Contains(strings.ReplaceAll(strings.ToLower(locale), "-", ""), "utf8")
}

// canWrite finds out before a run whether its page can be written, and leaves what is there as it is. An empty name is none.
func canWrite(name string) error {
	if name == "" {
		return nil
	}
	_, missing := os.Lstat(name)
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o644) //nolint:gosec // the user's own choice; it has no secrets
	if err == nil {
		err = file.Close()
	}
	if err == nil && errors.Is(missing, os.ErrNotExist) {
		err = os.Remove(name)
	}
	if err != nil {
		return exitWith(exitUsage, "--html: %w", err)
	}
	return nil
}

func (s *benchSummary) page(run *record.Run) error {
	if s.HTML == "" {
		return nil
	}
	file, err := os.Create(s.HTML)
	if err != nil {
		return exitWith(exitUsage, "--html: %w", err)
	}
	if err := errors.Join(report.HTML(file, run, s.Summary), file.Close()); err != nil {
		return exitWith(exitFatal, "--html: %w", err)
	}
	return nil
}

// verdict is how the command ends: nil when the run is whole and within its limits. Of a run that is not whole the limits are told, too.
func (s *benchSummary) verdict(ctx context.Context) error {
	lacks, over := s.lacks(ctx), s.beyond()
	if lacks == nil || over == nil {
		return cmp.Or(lacks, over)
	}
	if e, ok := errors.AsType[*exitError](lacks); ok {
		return &exitError{code: e.code, reason: e.reason, hint: e.hint, err: fmt.Errorf("%w; %w", lacks, over)}
	}
	return lacks
}

// lacks is why the run is not what was asked for.
func (s *benchSummary) lacks(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return interrupted(ctx)
	case s.Operations == 0 && len(s.Failures) > 0:
		first := s.Failures[0]
		code := faultExit(first.Class)
		if code == exitUsage { // the store's word for a request, not ours for an option
			code = exitTemporary
		}
		return &exitError{code: code, reason: first.Code, hint: first.Hint, err: fmt.Errorf("no operation went well: %s", first.Message)}
	case s.Operations == 0 && s.Outside == 0 && s.NotBegun == 0 && len(s.Partial) == 0:
		return &exitError{code: exitUsage, reason: "nothing_begun", err: errors.New("no operation began: there was none within the limits of the run"),
			hint: "The first one has to fit into --max-bytes, beside the objects that are written before."}
	case s.Operations == 0 && len(s.Partial) == 0:
		return &exitError{code: exitUsage, reason: "nothing_measured", err: errors.New("nothing was measured: no operation was due after the warm-up"),
			hint: "Make the run longer, or give a shorter --warm-up."}
	case len(s.Partial) > 0:
		return &exitError{code: exitTemporary, reason: "partial", err: fmt.Errorf("the run is partial: %s", strings.Join(s.Partial, "; "))}
	}
	return nil
}

// beyond tells of the limits that hold.
func (s *benchSummary) beyond() error {
	if len(s.Exceeded) == 0 {
		return nil
	}
	var told []string
	for _, e := range s.Exceeded {
		told = append(told, e.told)
	}
	return &exitError{code: exitFailed, reason: "limit_exceeded", err: errors.New(strings.Join(told, "; "))}
}

// benchAnalyze reports what files say.
type benchAnalyze struct {
	Files  []string `arg:"" name:"file" help:"Files that a run has kept: one, or one of each of its load generators." completion:"file"`
	HTML   string   `help:"File for the report as a page that needs nothing else." name:"html" placeholder:"FILE" completion:"file"`
	FailIf []string `help:"Exit with 1 if this holds, as of a run." name:"fail-if" sep:"none" placeholder:"LIMIT"`
	cutFlags
}

// Run reports.
func (c *benchAnalyze) Run(ctx context.Context, env *environment) error {
	limits, err := (&benchFlags{FailIf: c.FailIf}).limits()
	if err != nil {
		return err
	}
	cut, err := c.cut()
	if err != nil {
		return err
	}
	run, err := sumFiles(ctx, env, c.Files, cut)
	if err != nil {
		return err
	}
	told := &benchSummary{Run: run.Headers[0].Run, Workload: workloadOf(run), Summary: report.Summarize(run), HTML: c.HTML}
	told.judge(limits)
	if err := told.print(env, run); err != nil {
		return err
	}
	return told.beyond()
}

// sumFiles adds up the files of a run's generators.
func sumFiles(ctx context.Context, env *environment, names []string, cut record.Cut) (*record.Run, error) {
	var whole *record.Run
	for _, name := range names {
		run, err := record.Sum(opener(ctx, name), cut)
		if err != nil {
			return nil, readError(ctx, name, err)
		}
		if whole == nil {
			whole = run
		} else {
			whole.Merge(run)
		}
	}
	return whole, checkGenerators(env, whole.Headers)
}

// checkGenerators finds files that do not belong together.
func checkGenerators(env *environment, headers []*record.Header) error {
	type generator struct {
		run    string
		number int
	}
	seen := map[generator]bool{}
	for _, h := range headers {
		g := generator{h.Run, h.Generator}
		if seen[g] {
			return exitWith(exitUsage, "load generator %d of the run %s is there twice", h.Generator, h.Run)
		}
		seen[g] = true
	}
	first := headers[0]
	if slices.ContainsFunc(headers, func(h *record.Header) bool { return h.Run != first.Run }) {
		env.note("the files are of several runs: they are added up as if all had been made at the same time")
	} else if len(headers) < first.Generators {
		env.note(fmt.Sprintf("the run had %d load generators, and the files are of %d", first.Generators, len(headers)))
	}
	return nil
}

// opener opens a file that cannot be read any more when ctx ends.
func opener(ctx context.Context, name string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		return &input{file, context.AfterFunc(ctx, func() { _ = file.Close() })}, nil // it is only read
	}
}

type input struct {
	io.ReadCloser

	stop func() bool
}

// Close closes the file, unless the end of the context did.
func (i *input) Close() error {
	if !i.stop() {
		return nil
	}
	return i.ReadCloser.Close()
}

// readError is why a file could not be read to its end.
func readError(ctx context.Context, name string, err error) error {
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	return fileError(name, err)
}

func fileError(name string, err error) error {
	code := exitUsage
	if errors.Is(err, os.ErrNotExist) {
		return exitWith(exitNotFound, "%w", err)
	}
	if errors.Is(err, os.ErrPermission) {
		return exitWith(exitDenied, "%w", err)
	}
	if e, ok := errors.AsType[*os.PathError](err); ok && e.Op == "write" { // of a merge: the disk is full
		return exitWith(exitFatal, "--output: %w", err)
	}
	return exitWith(code, "%s: %w", name, err)
}

package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/job"
)

// benchProgress shows how far a run has come: on a terminal in one place, in JSON a line a second, else a line now and then.
type benchProgress struct {
	env  *environment
	spec *job.Spec
	stop func() error

	mu     sync.Mutex
	last   *loadtest.Progress // nil: it has not begun
	errors int
	told   time.Duration
}

// benchNotes is the time between two lines where no terminal is.
const benchNotes = 10 * time.Second

// progressLine is a second of a run in JSON.
type progressLine struct {
	Elapsed float64 `json:"elapsed_s"`
	Ended   int64   `json:"operations"`
	Ops     float64 `json:"ops_per_second"` // of the last second
	MiB     float64 `json:"mib_per_second"`
	Errors  int     `json:"errors"` // of the last second
}

func showProgress(env *environment, spec *job.Spec) *benchProgress {
	p := &benchProgress{env: env, spec: spec, stop: func() error { return nil }}
	if term := terminalOf(env.stdout); term.live() && !env.json {
		p.stop = (&block{term: term, out: env.stdout}).keep(p.lines)
	}
	return p
}

// tell takes the news of a second.
func (p *benchProgress) tell(news loadtest.Progress) {
	if news.Elapsed <= 0 { // the others have not begun
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = &news
	p.errors += news.Second.Errors
	switch {
	case p.env.json:
		s := &news.Second
		_ = printJSON(p.env, map[string]progressLine{"progress": { // the summary tells if nobody reads
			Elapsed: news.Elapsed.Seconds(), Ended: news.Ended, Ops: s.Ops, MiB: s.Bytes / (1 << 20), Errors: s.Errors,
		}})
	case !terminalOf(p.env.stdout).live() && news.Elapsed-p.told >= benchNotes:
		p.told = news.Elapsed
		p.env.note(strings.Join(p.text(), "; "))
	}
}

func (p *benchProgress) lines(time.Time) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		return []string{p.spec.Workload + ": writing what the load needs"}
	}
	return p.text()
}

func (p *benchProgress) text() []string {
	whole := ""
	if p.spec.Duration > 0 {
		whole = " of " + span(time.Duration(p.spec.Duration*float64(time.Second)))
	}
	phase := ""
	if p.last.Elapsed.Seconds() < p.spec.WarmUp {
		phase = " (warm-up)"
	}
	line := fmt.Sprintf("%s: %s%s%s, %s operations, %s operations/s, %s/s", p.spec.Workload, span(p.last.Elapsed.Truncate(time.Second)), whole, phase,
		number(int(p.last.Ended)), number(int(p.last.Second.Ops)), size(int64(p.last.Second.Bytes)))
	lines := []string{line}
	if p.errors > 0 {
		lines = append(lines, number(p.errors)+" errors")
	}
	return lines
}

// close takes what is shown away.
func (p *benchProgress) close() error { return p.stop() }

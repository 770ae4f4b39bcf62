package report

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/loadtest/workload"
)

// Limit is what a run may not exceed, or fall below: "p99(get)>50ms".
type Limit struct {
	text      string
	figure    string
	operation string // "": all
	over      bool   // it holds above the bound, else below it
	orEqual   bool   // and at the bound
	bound     float64
}

var limitForm = regexp.MustCompile(`^\s*([a-z0-9_]+)\s*(?:\(\s*([a-z]*)\s*\))?\s*(>=?|<=?)\s*(\S+)\s*$`)

// limitFigures are the figures of limits, and whether they are durations.
var limitFigures = map[string]struct {
	duration bool
	of       func(f *Figures) float64
}{
	"p50": {true, func(f *Figures) float64 { return f.Latency.P50 }}, "p90": {true, func(f *Figures) float64 { return f.Latency.P90 }},
	"p99": {true, func(f *Figures) float64 { return f.Latency.P99 }}, "p999": {true, func(f *Figures) float64 { return f.Latency.P999 }},
	"max": {true, func(f *Figures) float64 { return f.Latency.Max }}, "mean": {true, func(f *Figures) float64 { return f.Latency.Mean }},
	"first_p50": {true, func(f *Figures) float64 { return f.First.P50 }}, "first_p99": {true, func(f *Figures) float64 { return f.First.P99 }},
	"ops": {false, func(f *Figures) float64 { return f.Ops }}, "mib": {false, func(f *Figures) float64 { return f.MiB }},
	"errors": {false, func(f *Figures) float64 { return float64(f.Errors) }},
	"error_share": {false, func(f *Figures) float64 {
		if f.Errors == 0 {
			return 0
		}
		return float64(f.Errors) / float64(f.Errors+f.Operations)
	}},
}

// ParseLimit reads a limit: a figure, in brackets an operation or nothing, a comparison and a bound. Figures are p50, p90, p99, p999, max and mean (latencies),
// first_p50 and first_p99 (to the first byte), ops and mib (a second), errors (their number) and error_share (0 to 1). Bounds of latencies have a unit: 50ms.
func ParseLimit(text string) (Limit, error) {
	const form = "it looks like p99(get)>50ms, ops<1000 or errors>0"
	parts := limitForm.FindStringSubmatch(text)
	if parts == nil {
		return Limit{}, errors.New(form)
	}
	l := Limit{text: strings.TrimSpace(text), figure: parts[1], operation: parts[2], over: parts[3][0] == '>'}
	figure, known := limitFigures[l.figure]
	if !known {
		return Limit{}, fmt.Errorf("%q is no figure; there are p50, p90, p99, p999, max, mean, first_p50, first_p99, ops, mib, errors and error_share",
			l.figure)
	}
	if l.operation != "" {
		if _, err := workload.ParseKind(l.operation); err != nil {
			return Limit{}, err
		}
	}
	l.orEqual = strings.HasSuffix(parts[3], "=")
	if figure.duration {
		d, err := time.ParseDuration(parts[4])
		if err != nil || d < 0 {
			return Limit{}, fmt.Errorf("%q: a latency has a unit, as 50ms or 1.5s", parts[4])
		}
		l.bound = millis(d)
		return l, nil
	}
	bound, err := strconv.ParseFloat(parts[4], 64)
	if err != nil || !(bound >= 0) {
		return Limit{}, fmt.Errorf("%q: the bound of %s is a number that is not negative", parts[4], l.figure)
	}
	l.bound = bound
	return l, nil
}

// String is the limit as it was given.
func (l *Limit) String() string { return l.text }

// Operation is the operation whose figure it is; "": all.
func (l *Limit) Operation() string { return l.operation }

// Tell says that the limit holds, and what a run's figure is.
func (l *Limit) Tell(s *Summary) string {
	f, figure := l.figures(s), limitFigures[l.figure]
	switch {
	case figure.duration && f.Operations > 0 && l.unread(&f):
		return l.text + " holds: nothing that was read has a first byte"
	case figure.duration && f.Operations == 0:
		return l.text + " holds: no " + cmp.Or(l.operation, "operation") + " went well, so there is no latency"
	case figure.duration:
		return fmt.Sprintf("%s holds: it is %s", l.text, milli(figure.of(&f)))
	}
	return fmt.Sprintf("%s holds: it is %.4g", l.text, figure.of(&f))
}

// unread tells whether the limit is of first bytes, and none came.
func (l *Limit) unread(f *Figures) bool {
	return strings.HasPrefix(l.figure, "first_") && f.First.Max == 0
}

// figures are those that the limit is about.
func (l *Limit) figures(s *Summary) Figures {
	if l.operation != "" {
		return s.ByOperation[l.operation]
	}
	return s.Figures
}

// Holds tells whether a run is beyond the limit, and what its figure is. A run in which the operation never went well, or never read an object, is beyond each
// limit of such a latency: it has none that could be within.
func (l *Limit) Holds(s *Summary) (holds bool, value float64) {
	f := l.figures(s)
	figure := limitFigures[l.figure]
	value = figure.of(&f)
	switch {
	case figure.duration && (f.Operations == 0 || l.unread(&f)):
		return true, value
	case value == l.bound:
		return l.orEqual, value
	}
	return (value > l.bound) == l.over, value
}

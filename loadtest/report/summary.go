package report

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/workload"
)

// Summary is what a run was like, for programs: the names and meanings of its fields stay. Every number in it is finite; one that there is no ground for is 0.
type Summary struct {
	Figures // of all operations together

	Seconds     Seconds            `json:"seconds"`      // how even the throughput was
	ByOperation map[string]Figures `json:"by_operation"` // by the name of what was done: put, get, …; those that came at all
	BySize      map[string]Figures `json:"by_size"`      // by the size class of the object: 0-1KiB, 1KiB-4KiB, …; without lists and deletes
	ByHost      map[string]Figures `json:"by_host"`      // by the host and port that served it; "other" are those beyond the first few hundred
	Failures    []Failure          `json:"failures"`     // the most frequent first, 64 kinds at most

	Interval  float64  `json:"interval_s"`      // seconds that were measured: from the end of the warm-up until no more operations began
	Outside   int      `json:"outside"`         // operations that were due in the warm-up or after the interval, and count nowhere else
	NotBegun  int      `json:"not_begun"`       // operations that were due and whose turn never came: the store could not keep up with the rate
	LagMillis float64  `json:"lag_p99_ms"`      // p99 of how late the load generator itself was, in ms; 0 where nobody waited for the time to come
	Spread    float64  `json:"start_spread_ms"` // how far apart its load generators began, in ms; 0 of one, and where nobody has measured it
	Partial   []string `json:"partial"`         // why the run did not do all that it was to do, by generator; empty: it did
}

// Figures are those of some operations. An operation counts if it was due in the interval.
type Figures struct {
	Operations int64     `json:"operations"`             // that went well
	Errors     int64     `json:"errors"`                 // operations that failed
	Ops        float64   `json:"ops_per_second"`         // that went well, by what of them was done within the interval
	MiB        float64   `json:"mib_per_second"`         // of 1,048,576 bytes, read and written, the same way
	Latency    Quantiles `json:"latency_ms"`             // of those that went well: from when one was due to its end
	First      Quantiles `json:"first_byte_ms,omitzero"` // from when one was due to its first byte, of those that read objects; left out if there are none
}

// Quantiles are durations in milliseconds, exact to three digits, by the nearest rank; Max is exact. All are 0 of nothing.
type Quantiles struct {
	P50  float64 `json:"p50"`  // half of all took no longer
	P90  float64 `json:"p90"`  // of ten, nine
	P99  float64 `json:"p99"`  // of a hundred, 99
	P999 float64 `json:"p999"` // of a thousand, 999
	Max  float64 `json:"max"`
	Mean float64 `json:"mean"`
}

// Seconds are rates in single seconds of the interval. Those that it has in part are left out. By bytes where any moved, else by operations, one is faster
// than another.
type Seconds struct {
	Count   int  `json:"count"` // whole seconds; 0: the rates say nothing
	Fastest Rate `json:"fastest"`
	Median  Rate `json:"median"` // the upper one of two
	Slowest Rate `json:"slowest"`
}

// Rate is what was done in a second, of operations that reach beyond it their share.
type Rate struct {
	At  int     `json:"at_s"` // the second's begin, since the start of the run
	Ops float64 `json:"ops_per_second"`
	MiB float64 `json:"mib_per_second"`
}

// Failure is how often an error came.
type Failure struct {
	Operation string `json:"operation"`      // put, get, …
	Class     string `json:"class"`          // what kind of error it is, whoever said it: denied, unavailable, …
	Code      string `json:"code"`           // what the store calls it
	Message   string `json:"message"`        // of the first one, as it came: it may have any characters
	Hint      string `json:"hint,omitempty"` // what may be done about it
	Count     int64  `json:"count"`
}

const mib = 1 << 20

// sum collects groups.
type sum struct {
	ops, errors    int64
	done, moved    float64
	latency, first record.Histogram
}

func (s *sum) add(g *record.Group) {
	s.ops, s.errors = s.ops+g.Ops, s.errors+g.Errors
	s.done, s.moved = s.done+g.Done, s.moved+g.Moved
	s.latency.Merge(&g.Latency)
	s.first.Merge(&g.First)
}

func (s *sum) figures(length time.Duration) Figures {
	f := Figures{Operations: s.ops, Errors: s.errors, Latency: quantiles(&s.latency), First: quantiles(&s.first)}
	if length > 0 {
		f.Ops, f.MiB = s.done/length.Seconds(), s.moved/mib/length.Seconds()
	}
	return f
}

func quantiles(h *record.Histogram) Quantiles {
	return Quantiles{
		P50: millis(h.Quantile(0.5)), P90: millis(h.Quantile(0.9)), P99: millis(h.Quantile(0.99)), P999: millis(h.Quantile(0.999)),
		Max: millis(h.Quantile(1)), Mean: millis(h.Mean()),
	}
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Summarize says what a run was like.
func Summarize(run *record.Run) *Summary {
	t := run.Totals
	var all sum
	byKind, bySize, byHost := map[string]*sum{}, map[string]*sum{}, map[string]*sum{}
	for _, g := range t.Groups {
		all.add(g)
		of(byKind, g.Kind.String()).add(g)
		if g.Kind != workload.List && g.Kind != workload.Delete { // these have no size
			of(bySize, g.Class.String()).add(g)
		}
		of(byHost, g.Host).add(g)
	}
	s := &Summary{
		Figures: all.figures(t.Length()), Seconds: seconds(t), ByOperation: each(byKind, t), BySize: each(bySize, t), ByHost: each(byHost, t),
		Failures: []Failure{}, Interval: t.Length().Seconds(), Outside: t.Outside, NotBegun: t.NotBegun, LagMillis: millis(t.Lag.Quantile(0.99)),
		Spread:  millis(run.Spread),
		Partial: append([]string{}, run.Partial...),
	}
	for _, f := range t.Faults {
		s.Failures = append(s.Failures, Failure{
			Operation: f.Kind.String(), Class: f.Fault.Class, Code: f.Fault.Code, Message: f.Fault.Message, Hint: f.Fault.Hint, Count: f.Count,
		})
	}
	return s
}

func of(sums map[string]*sum, name string) *sum {
	if sums[name] == nil {
		sums[name] = &sum{}
	}
	return sums[name]
}

func each(sums map[string]*sum, t *record.Totals) map[string]Figures {
	figures := make(map[string]Figures, len(sums))
	for name, s := range maps.All(sums) {
		figures[name] = s.figures(t.Length())
	}
	return figures
}

// within are the whole seconds of the interval. Those in which nothing was done any more are among them.
func within(t *record.Totals) (seconds []record.Second, first int) {
	first = int((t.From + time.Second - 1) / time.Second)
	last := int(min(t.To, longestSeries) / time.Second)
	if last <= first {
		return nil, first
	}
	seconds = make([]record.Second, last-first)
	if first < len(t.Seconds) {
		copy(seconds, t.Seconds[first:])
	}
	return seconds, first
}

// longestSeries is the longest run whose seconds are kept one by one.
const longestSeries = 24 * time.Hour

func seconds(t *record.Totals) Seconds {
	whole, first := within(t)
	if len(whole) == 0 {
		return Seconds{}
	}
	rates := make([]Rate, len(whole))
	for i, s := range whole {
		rates[i] = Rate{At: first + i, Ops: s.Ops, MiB: s.Bytes / mib}
	}
	slices.SortStableFunc(rates, func(a, b Rate) int { return cmp.Or(cmp.Compare(a.MiB, b.MiB), cmp.Compare(a.Ops, b.Ops)) })
	return Seconds{Count: len(rates), Fastest: rates[len(rates)-1], Median: rates[len(rates)/2], Slowest: rates[0]}
}

package report

import (
	"cmp"
	"errors"
	"math"
	"slices"

	"github.com/aclements/go-moremath/stats"

	"github.com/copyfleet/copyfleet/loadtest/record"
)

// Windows is how many pieces the interval of a run is cut into for a comparison. Few and long ones: a store is fast or slow for seconds at a time, and
// pieces as short as that would be taken for independent ones, so that a whim of the machine would look certain.
const Windows = 6

const (
	confidence = 0.99
	// leastRuns of each side are compared with each other instead of their pieces: they tell how much runs differ that ought to be the same. Fewer would
	// be too few to tell a change of a fifth.
	leastRuns = 5
	// leastSamples of a side tell how much they vary.
	leastSamples = 2
	// mostPercent stands for all changes that are larger, and for those from nothing: JSON knows no infinity.
	mostPercent = 1e6
)

// Change is how one figure differs between two sides.
type Change struct {
	Operation string  `json:"operation"` // put, get, …; "all": of all of several
	Figure    string  `json:"figure"`    // ops_per_second, mib_per_second, mean_ms, p50_ms, p90_ms, p99_ms or error_percent
	Before    float64 `json:"before"`    // mean
	After     float64 `json:"after"`     // mean
	Percent   float64 `json:"percent"`   // by which it changed, at most a million; of error_percent: the difference
	Low       float64 `json:"low"`       // the least that the change can be, in the unit of Percent, with a confidence of 99 %
	High      float64 `json:"high"`      // the most
	Verdict   Verdict `json:"verdict"`
}

// Verdict says what a change means.
type Verdict string

// The verdicts.
const (
	Same   Verdict = "no difference" // less than the tolerance, or not to be told from noise
	Better Verdict = "better"
	Worse  Verdict = "worse"
)

// figure is something that is compared.
type figure struct {
	name   string
	higher bool  // is better
	least  int64 // operations that a sample must have to say something of it; 0: those without any count, too, as they are slow
	// noise is by how much it differs between runs of the same thing without their own pieces showing it, as a standard deviation of the ratio: a disk is
	// in another state, memory lies elsewhere. Too few runs of a side cannot tell it. Chosen by 41 runs of 8 s on a disk: 106 of 115 pairs are the same by it.
	noise float64
	of    func(f *Figures) float64
}

// A percentile has to have operations beyond it in each sample: the 99th of fewer than 100 is the slowest one.
var figures = []figure{
	{"ops_per_second", true, 0, 0.025, func(f *Figures) float64 { return f.Ops }},
	{"mib_per_second", true, 0, 0.025, func(f *Figures) float64 { return f.MiB }},
	{"mean_ms", false, 2, 0.025, func(f *Figures) float64 { return f.Latency.Mean }},
	{"p50_ms", false, 2, 0.025, func(f *Figures) float64 { return f.Latency.P50 }},
	{"p90_ms", false, 10, 0.04, func(f *Figures) float64 { return f.Latency.P90 }},
	{"p99_ms", false, 100, 0.12, func(f *Figures) float64 { return f.Latency.P99 }},
}

const errorFigure = "error_percent"

// errorShare is compared by its difference: from no errors to some no percentage leads.
func errorShare(f *Figures) float64 {
	if f.Errors == 0 {
		return 0
	}
	return 100 * float64(f.Errors) / float64(f.Errors+f.Operations)
}

// errorPoints are how many percent of all operations more or fewer have to fail to make a difference.
const errorPoints = 0.1

// Side is one side of a comparison: runs that ought to be the same, each cut into [Windows] pieces.
type Side [][]*record.Totals

// Compare says how the runs of after differ from those of before. A change counts if it is certain, to 99 %, and larger than the tolerance, a share. Of five
// runs or more on each side the runs are compared with each other, else their pieces; then a change that is smaller than what runs of one side differ by is
// never certain, nor, between single runs, one of less than about a tenth. Figures of which there are too few operations to judge by are left out.
func Compare(before, after Side, tolerance float64) ([]Change, error) {
	if len(before) == 0 || len(after) == 0 {
		return nil, errors.New("there is nothing to compare")
	}
	byRun := len(before) >= leastRuns && len(after) >= leastRuns
	a, b := before.samples(byRun), after.samples(byRun)
	var changes []Change
	for _, operation := range operations(a.samples, b.samples) {
		for i := range figures {
			f := &figures[i]
			c, ok := a.relative(b, operation, f)
			if !ok {
				continue
			}
			c.Operation, c.Figure = operation, f.name
			c.Verdict = verdict(&c, f.higher, tolerance*100)
			changes = append(changes, c)
		}
		if c, ok := a.absolute(b, operation); ok {
			c.Operation, c.Figure = operation, errorFigure
			c.Verdict = verdict(&c, false, errorPoints)
			changes = append(changes, c)
		}
	}
	return changes, nil
}

// sampled is a side with what is taken for independent of each other.
type sampled struct {
	samples []*Summary
	runs    []*Summary // nil: the samples are the runs
}

func (s Side) samples(byRun bool) *sampled {
	var pieces, runs []*Summary
	for _, run := range s {
		whole := &record.Totals{}
		for i, piece := range run {
			if !byRun {
				pieces = append(pieces, Summarize(&record.Run{Totals: piece}))
			}
			if i == 0 {
				whole.From, whole.To = piece.From, piece.From
			}
			whole.Append(piece)
		}
		runs = append(runs, Summarize(&record.Run{Totals: whole}))
	}
	if byRun {
		return &sampled{samples: runs}
	}
	return &sampled{pieces, runs}
}

// had tells whether a side had such operations, well or not.
func had(samples []*Summary, operation string) bool {
	return slices.ContainsFunc(samples, func(s *Summary) bool {
		f := s.of(operation)
		return f.Operations+f.Errors > 0
	})
}

// of are the figures of an operation, or of "all".
func (s *Summary) of(operation string) Figures {
	if operation == "all" {
		return s.Figures
	}
	return s.ByOperation[operation]
}

// operations are those that both sides had, and first "all".
func operations(a, b []*Summary) []string {
	if !had(a, "all") || !had(b, "all") {
		return nil
	}
	names := []string{"all"}
	seen := map[string]bool{}
	for _, s := range a {
		for name := range s.ByOperation {
			if !seen[name] && had(a, name) && had(b, name) {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	slices.Sort(names[1:])
	if len(names) == 2 && onlyOne(a) && onlyOne(b) {
		return names[1:] // of one operation "all" says the same
	}
	return names
}

func onlyOne(samples []*Summary) bool {
	names := map[string]bool{}
	for _, s := range samples {
		for name := range s.ByOperation {
			names[name] = true
		}
	}
	return len(names) == 1
}

// values are those of the samples that have enough operations.
func values(samples []*Summary, operation string, least int64, of func(f *Figures) float64) []float64 {
	list := make([]float64, 0, len(samples))
	for _, s := range samples {
		f := s.of(operation)
		if f.Operations >= least {
			list = append(list, of(&f))
		}
	}
	return list
}

// relative compares a figure by how many percent it changed; false: it cannot be told.
func (s *sampled) relative(after *sampled, operation string, f *figure) (Change, bool) {
	x, y := values(s.samples, operation, f.least, f.of), values(after.samples, operation, f.least, f.of)
	if len(x) < leastSamples || len(y) < leastSamples {
		return Change{}, false
	}
	c := Change{Before: stats.Mean(x), After: stats.Mean(y)}
	switch {
	case c.Before == 0 && c.After == 0: // stats move no bytes
		return Change{}, false
	case c.Before == 0:
		c.Percent, c.Low, c.High = mostPercent, mostPercent, mostPercent
		return c, true
	case c.After == 0:
		c.Percent, c.Low, c.High = -100, -100, -100
		return c, true
	}
	// Logarithms make the interval one of the ratio: the same both ways round, and never below nothing. Their errors are those of the means, relatively.
	ratio := math.Log(c.After / c.Before)
	half := interval(x, y, c.Before, c.After, f.noise*f.noise*(s.unseen()+after.unseen()))
	low, high := ratio-half, ratio+half
	for _, v := range values(s.runs, operation, f.least, f.of) {
		for _, w := range values(after.runs, operation, f.least, f.of) {
			if v > 0 && w > 0 {
				low, high = min(low, math.Log(w/v)), max(high, math.Log(w/v))
			}
		}
	}
	c.Percent, c.Low, c.High = percent(ratio), percent(low), percent(high)
	return c, true
}

func percent(log float64) float64 { return min(100*math.Expm1(log), mostPercent) }

// absolute compares the share of errors by its difference; false: there were none.
func (s *sampled) absolute(after *sampled, operation string) (Change, bool) {
	x, y := values(s.samples, operation, 0, errorShare), values(after.samples, operation, 0, errorShare)
	c := Change{Before: stats.Mean(x), After: stats.Mean(y)}
	if c.Before == 0 && c.After == 0 || len(x) < leastSamples || len(y) < leastSamples {
		return Change{}, false
	}
	half := interval(x, y, 1, 1, 0)
	c.Percent = c.After - c.Before
	c.Low, c.High = c.Percent-half, c.Percent+half
	for _, v := range values(s.runs, operation, 0, errorShare) {
		for _, w := range values(after.runs, operation, 0, errorShare) {
			c.Low, c.High = min(c.Low, w-v), max(c.High, w-v)
		}
	}
	return c, true
}

// unseen is how many times the variance between runs the mean of a side has that its samples do not show.
func (s *sampled) unseen() float64 {
	if s.runs == nil {
		return 0
	}
	return 1 / float64(len(s.runs))
}

// interval is half of the one that the difference of two means has, each divided by a unit, by Welch's test, which lets both sides differ in how much
// they vary. known is the variance of the difference that is known beforehand.
func interval(x, y []float64, unitX, unitY, known float64) float64 {
	vx := stats.Variance(x) / float64(len(x)) / (unitX * unitX)
	vy := stats.Variance(y) / float64(len(y)) / (unitY * unitY)
	all := vx + vy + known
	if all == 0 {
		return 0
	}
	degrees := all * all / (vx*vx/float64(len(x)-1) + vy*vy/float64(len(y)-1)) // infinite if the samples do not vary
	return math.Sqrt(all) * stats.InvCDF(stats.TDist{V: min(degrees, mostDegrees)})(1-(1-confidence)/2)
}

// mostDegrees make a distribution that nobody can tell from the normal one.
const mostDegrees = 1e4

func verdict(c *Change, higher bool, tolerance float64) Verdict {
	certain := c.Low > 0 || c.High < 0
	if !certain || math.Abs(c.Percent) <= tolerance {
		return Same
	}
	if (cmp.Compare(c.Percent, 0) > 0) == higher {
		return Better
	}
	return Worse
}

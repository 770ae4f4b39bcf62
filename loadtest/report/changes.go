package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/copyfleet/copyfleet/internal/display"
	"github.com/copyfleet/copyfleet/loadtest/record"
)

// ChangesText prints a comparison: a table, and what it comes to in plain words.
func ChangesText(w io.Writer, changes []Change, look Look) error {
	width := look.width()
	page := &page{width: width}
	if len(changes) > 0 {
		list := []column{
			{title: "OPERATION", left: true}, {title: "FIGURE", left: true}, {title: "BEFORE", spare: 2}, {title: "AFTER", spare: 1},
			{title: "CHANGE"}, {title: "99 % SURE", left: true, spare: 3}, {title: "VERDICT", left: true},
		}
		for i := range changes {
			c, verdict := &changes[i], string(changes[i].Verdict)
			if c.Verdict == Same {
				verdict = "same"
			}
			for at, cell := range []string{
				display.Clean(c.Operation), display.Clean(c.Figure), digitsOrShort(c.Figure, c.Before), digitsOrShort(c.Figure, c.After),
				c.by(), c.between(), verdict,
			} {
				list[at].cells = append(list[at].cells, cell)
			}
		}
		t := figureTable{columns: list}
		page.add(t.lines(width, len(changes)+1)...)
		page.gap()
	}
	page.add(wrap(strings.Fields(inWords(changes)), width, 0)...)
	return page.write(w, look.ASCII)
}

func digitsOrShort(figure string, v float64) string {
	if strings.HasSuffix(figure, "_ms") {
		return milliseconds(v)
	}
	return short(v)
}

// unit is what a change is counted in.
func (c *Change) unit() string {
	if c.Figure == errorFigure {
		return " points"
	}
	return " %"
}

func signed(percent float64) string {
	switch {
	case percent >= mostPercent:
		return ">+1M"
	case percent >= 0.05:
		return "+" + tenths(percent)
	}
	return tenths(percent)
}

// tenths writes percent: to a tenth below ten, whole above.
func tenths(percent float64) string {
	const whole, large = 9.95, 9999.5
	switch size := math.Abs(percent); {
	case size >= large:
		return short(percent)
	case size >= whole:
		return strconv.FormatFloat(percent, 'f', 0, 64)
	case size < 0.05:
		return "0.0"
	}
	return strconv.FormatFloat(percent, 'f', 1, 64)
}

func (c *Change) by() string { return signed(c.Percent) + c.unit() }

func (c *Change) between() string { return signed(c.Low) + " to " + signed(c.High) + c.unit() }

// says is a change in words.
func (c *Change) says() string {
	of := " of " + c.Operation
	if c.Operation == "all" {
		of = " of all operations"
	}
	names := map[string]string{
		"ops_per_second": "operations a second", "mib_per_second": "MiB a second", "mean_ms": "the mean", "p50_ms": "p50", "p90_ms": "p90", "p99_ms": "p99",
		errorFigure: "the share of errors",
	}
	return fmt.Sprintf("%s%s by %s (%s)", cmp.Or(names[c.Figure], c.Figure), of, c.by(), c.between())
}

// inWords says what a comparison comes to: the worst changes, or that there are none.
func inWords(changes []Change) string {
	if len(changes) == 0 {
		return "Nothing can be compared: the sides have no operation in common of which there are enough in each part of a run. Longer runs have more."
	}
	const most = 3
	var said []string
	for _, v := range []struct {
		verdict Verdict
		word    string
	}{{Worse, "Worse"}, {Better, "Better"}} {
		list := slices.DeleteFunc(slices.Clone(changes), func(c Change) bool { return c.Verdict != v.verdict })
		if len(list) == 0 {
			continue
		}
		slices.SortStableFunc(list, func(a, b Change) int { return cmp.Compare(b.size(), a.size()) })
		var words []string
		for i := range list[:min(len(list), most)] {
			words = append(words, list[i].says())
		}
		text := v.word + ": " + strings.Join(words, ", ")
		if more := len(list) - most; more > 0 {
			text += fmt.Sprintf(", and %d more", more)
		}
		said = append(said, text+".")
	}
	if len(said) > 0 {
		return strings.Join(said, " ")
	}
	return "No difference: " + nearest(changes)
}

// size is how much a change weighs beside others: a fifth more and a sixth less are as much.
func (c *Change) size() float64 {
	if c.Percent < 0 && c.Figure != errorFigure {
		return -c.Percent / max(1e-9, 1+c.Percent/100)
	}
	return max(c.Percent, -c.Percent)
}

// nearest names the largest change among those that make no difference.
func nearest(changes []Change) string {
	c := slices.MaxFunc(changes, func(a, b Change) int { return cmp.Compare(a.size(), b.size()) })
	if c.Percent == 0 {
		return "no figure changed."
	}
	if c.Low > 0 || c.High < 0 {
		return "no figure changed by more than the tolerance. The largest change is that of " + c.says() + "."
	}
	return "no figure changed by more than noise does or the tolerance allows. The largest change is that of " + c.says() + "."
}

// Unlike says by what the runs of two sides differ beside what is measured, so that nobody takes the difference of their loads for one of their stores. Seeds
// may differ: they choose the objects, not what is done.
func Unlike(before, after []*record.Run) []string {
	a, b := traits(before), traits(after)
	names := maps.Clone(a)
	maps.Copy(names, b)
	var list []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		x, y := distinct(a[name]), distinct(b[name])
		if x != y {
			list = append(list, fmt.Sprintf("the sides differ in %s: %s before, %s after", name, cmp.Or(x, "none"), cmp.Or(y, "none")))
		}
	}
	return list
}

// distinct lists values, each once.
func distinct(values []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(values))), " and ")
}

// traits are the options, versions, generators and machines of runs, made harmless.
func traits(runs []*record.Run) map[string][]string {
	const mostShown = 80
	list := map[string][]string{}
	add := func(name, value string) {
		if value != "" {
			name = display.Clean(name)
			list[name] = append(list[name], display.Cut(display.Clean(value), mostShown))
		}
	}
	for _, run := range runs {
		add("the number of generators", strconv.Itoa(len(run.Headers)))
		for _, h := range run.Headers {
			for _, o := range flat(h.Options) {
				if o.Name != "seed" {
					add(o.Name, o.Value)
				}
			}
			add("the version of copyfleet", h.Version)
			add("the machine", fmt.Sprintf("%s/%s with %s", h.System.OS, h.System.Arch, things(int64(h.System.CPUs), "CPU", "CPUs")))
		}
	}
	return list
}

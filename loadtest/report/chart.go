package report

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/internal/display"
	"github.com/copyfleet/copyfleet/loadtest/record"
)

// chart is a plot as the page draws it. Coordinates are those of the picture, from its upper left corner.
type chart struct {
	Title, Note    string
	AxisX, AxisY   string // what they count
	Width, Height  float64
	Left, Right    float64 // of the plot within the picture
	Top, Bottom    float64
	TicksX, TicksY []tick
	Shades         []box // where it was not measured
	Areas, Lines   []stroke
	Bars           []box
	Legend         []legend
}

type tick struct {
	At    float64
	Label string // "": a line only
}

type box struct {
	X, Y, Width, Height float64
	Label               string
}

// stroke is a line or an area of a kind of operations, or of all.
type stroke struct{ Class, Points string }

type legend struct{ Class, Name string }

// Sizes of pictures, in CSS pixels; they grow and shrink with the page.
const (
	chartWidth  = 960
	chartHeight = 240
	latencyHigh = 340
	plotLeft    = 64
	plotRight   = 16
	plotTop     = 10
	plotBottom  = 42

	mostPoints = 1000 // of a time series
	curvePoints,
	histogramBins = 240, 80
)

func newChart(title, x, y string, height float64) *chart {
	return &chart{
		Title: title, AxisX: x, AxisY: y, Width: chartWidth, Height: height,
		Left: plotLeft, Right: chartWidth - plotRight, Top: plotTop, Bottom: height - plotBottom,
	}
}

// across and up place shares of the axes.
func (c *chart) across(share float64) float64 { return rounded(c.Left + share*(c.Right-c.Left)) }
func (c *chart) up(share float64) float64     { return rounded(c.Bottom - share*(c.Bottom-c.Top)) }

// MiddleX and MiddleY are where the names of the axes stand.
func (c *chart) MiddleX() float64 { return (c.Left + c.Right) / 2 }

// MiddleY is the middle of the vertical axis.
func (c *chart) MiddleY() float64 { return (c.Top + c.Bottom) / 2 }

func rounded(v float64) float64 { return math.Round(v*10) / 10 }

// path collects the points of a line.
type path struct{ b strings.Builder }

func (p *path) to(x, y float64) {
	if p.b.Len() > 0 {
		p.b.WriteByte(' ')
	}
	p.b.WriteString(strconv.FormatFloat(x, 'f', -1, 64))
	p.b.WriteByte(',')
	p.b.WriteString(strconv.FormatFloat(y, 'f', -1, 64))
}

func (p *path) String() string { return p.b.String() }

// timeCharts are the throughput and the errors over a run.
func timeCharts(t *record.Totals) []*chart {
	list := points(t, mostPoints)
	if len(list) == 0 {
		return nil
	}
	var charts []*chart
	for _, of := range []struct {
		title, unit string
		rate        func(p *point) *spread
	}{
		{"Operations a second", "operations a second", func(p *point) *spread { return &p.ops }},
		{"MiB a second", "MiB a second", func(p *point) *spread { return &p.mib }},
	} {
		if c := rateChart(t, list, of.title, of.unit, of.rate); c != nil {
			charts = append(charts, c)
		}
	}
	if c := errorChart(t, list); c != nil {
		charts = append(charts, c)
	}
	return charts
}

// timeChart has the axis of time, and shades what was not measured.
func timeChart(t *record.Totals, list []point, title, unit string, highest float64) (c *chart, x, y func(v float64) float64) {
	c = newChart(title, "since the start of the run", unit, chartHeight)
	end := float64(list[len(list)-1].to)
	step := niceStep(highest, 5)
	full := step * math.Ceil(highest/step)
	x = func(second float64) float64 { return c.across(second / end) }
	y = func(v float64) float64 { return c.up(v / full) }
	for v := 0.0; v <= full+step/2; v += step {
		c.TicksY = append(c.TicksY, tick{y(v), axisLabel(v)})
	}
	every := timeStep(end)
	for v := 0.0; v <= end; v += every {
		c.TicksX = append(c.TicksX, tick{x(v), at(int(v))})
	}
	shade := func(from, to float64, label string) {
		if to > from {
			c.Shades = append(c.Shades, box{x(from), c.Top, rounded(x(to) - x(from)), rounded(c.Bottom - c.Top), label})
		}
	}
	shade(0, min(t.From.Seconds(), end), "warm-up")
	shade(min(t.To.Seconds(), end), end, "after the stop")
	return c, x, y
}

func rateChart(t *record.Totals, list []point, title, unit string, rate func(p *point) *spread) *chart {
	highest := 0.0
	for i := range list {
		highest = max(highest, rate(&list[i]).high)
	}
	if highest == 0 {
		return nil
	}
	c, x, y := timeChart(t, list, title, unit, highest)
	var mean, top path
	each := 0
	for i := range list {
		p := &list[i]
		from, to := x(float64(p.from)), x(float64(p.to))
		mean.to(from, y(rate(p).mean))
		mean.to(to, y(rate(p).mean))
		top.to(from, y(rate(p).high))
		top.to(to, y(rate(p).high))
		each = max(each, p.to-p.from)
	}
	for i := range slices.Backward(list) {
		p := &list[i]
		top.to(x(float64(p.to)), y(rate(p).low))
		top.to(x(float64(p.from)), y(rate(p).low))
	}
	c.Lines = []stroke{{"k-all", mean.String()}}
	if each > 1 {
		c.Areas = []stroke{{"k-all", top.String()}}
		c.Note = "Each point is " + at(each) + ": the line is their mean; the band goes from their slowest to their fastest second."
	}
	return c
}

func errorChart(t *record.Totals, list []point) *chart {
	highest := 0
	for i := range list {
		highest = max(highest, list[i].errors)
	}
	if highest == 0 {
		return nil
	}
	unit := "errors a second"
	if each := list[0].to - list[0].from; each > 1 {
		unit = "errors in " + at(each)
	}
	c, x, y := timeChart(t, list, "Errors", unit, float64(highest))
	for i := range list {
		p := &list[i]
		if p.errors == 0 {
			continue
		}
		const least = 1.5 // pixels, so that a single one is seen
		left, top := x(float64(p.from)), min(y(float64(p.errors)), c.Bottom-least)
		wide := max(least, rounded(x(float64(p.to))-left))
		c.Bars = append(c.Bars, box{left, top, wide, rounded(c.Bottom - top), at(p.from) + ": " + things(int64(p.errors), "error", "errors")})
	}
	return c
}

// niceStep is a step of 1, 2 or 5 times a power of ten by which an axis has about as many ticks.
func niceStep(whole float64, ticks int) float64 {
	raw := whole / float64(ticks)
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, times := range []float64{1, 2, 5} {
		if raw <= times*power {
			return times * power
		}
	}
	return 10 * power
}

// timeStep is how many seconds are between two ticks of an axis of time.
func timeStep(end float64) float64 {
	const most = 10
	for _, step := range []time.Duration{
		time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
		time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 3 * time.Hour,
	} {
		if end/step.Seconds() <= most {
			return step.Seconds()
		}
	}
	return (4 * time.Hour).Seconds()
}

// axisLabel is a round number, without digits that say nothing.
func axisLabel(v float64) string {
	const kilo = 1000
	if v >= 10*kilo {
		return short(v)
	}
	return strconv.FormatFloat(v, 'g', 6, 64)
}

// logTicks are where a logarithmic axis has lines, the ones with labels being few enough to be read.
func logTicks(low, high float64, place func(v float64) float64) []tick {
	var ticks []tick
	decades := math.Log10(high / low)
	for power := math.Floor(math.Log10(low)); power <= math.Log10(high); power++ {
		for _, times := range []float64{1, 2, 5} {
			const few, many = 3.2, 4
			v := times * math.Pow(10, power)
			if v < low*0.999 || v > high*1.001 || times != 1 && decades > many {
				continue
			}
			label := ""
			if times == 1 || decades < few {
				label = axisLabel(v)
			}
			ticks = append(ticks, tick{place(v), label})
		}
	}
	return ticks
}

// latencyCharts are the latencies by percentile and how often each came.
func latencyCharts(t *record.Totals) []*chart {
	list := curves(t)
	if len(list) == 0 {
		return nil
	}
	charts := []*chart{percentileChart(list), histogramChart(list)}
	for i := range list {
		entry := legend{"k-" + list[i].kind.String(), list[i].kind.String() + " (" + display.Number(int(list[i].latency.Count())) + ")"}
		for _, c := range charts {
			c.Legend = append(c.Legend, entry)
		}
	}
	return charts
}

func percentileChart(list []curve) *chart {
	c := newChart("Latency by percentile", "share of the operations that took no longer", "ms", latencyHigh)
	low, high := latencyRange(list)
	most := mostNines(list)
	y := func(v float64) float64 { return c.up(math.Log(max(v, low)/low) / math.Log(high/low)) }
	c.TicksY = logTicks(low, high, y)
	c.TicksX = []tick{{c.across(0), "fastest"}, {c.across(nines(0.5) / most), "50 %"}}
	for n := 1; n <= maxNines && float64(n) <= most; n++ {
		c.TicksX = append(c.TicksX, tick{c.across(float64(n) / most), strings.TrimPrefix(percentileName(n), "p") + " %"})
	}
	for i := range list {
		var p path
		own := min(most, max(1, math.Log10(float64(list[i].latency.Count())))) // where its slowest one stands
		for at := range curvePoints {
			nine := own * float64(at) / (curvePoints - 1)
			q := share(nine)
			if at == curvePoints-1 {
				q = 1
			}
			p.to(c.across(nine/most), y(millis(list[i].latency.Quantile(q))))
		}
		c.Lines = append(c.Lines, stroke{"k-" + list[i].kind.String(), p.String()})
	}
	c.Note = "Both axes are logarithmic: each step to the right leaves a tenth of the operations. A curve ends at the slowest one."
	return c
}

func histogramChart(list []curve) *chart {
	c := newChart("How often each latency came", "ms", "% of the operations", chartHeight)
	low, high := latencyRange(list)
	shares := make([][]float64, len(list))
	highest := 0.0
	for i := range list {
		shares[i] = make([]float64, histogramBins)
		all := float64(list[i].latency.Count())
		list[i].latency.Each(func(value time.Duration, count int64) {
			bin := int(math.Log(max(millis(value), low)/low) / math.Log(high/low) * histogramBins)
			shares[i][min(max(bin, 0), histogramBins-1)] += 100 * float64(count) / all
		})
		highest = max(highest, slices.Max(shares[i]))
	}
	step := niceStep(highest, 5)
	full := step * math.Ceil(highest/step)
	for v := 0.0; v <= full+step/2; v += step {
		c.TicksY = append(c.TicksY, tick{c.up(v / full), axisLabel(v)})
	}
	c.TicksX = logTicks(low, high, func(v float64) float64 { return c.across(math.Log(v/low) / math.Log(high/low)) })
	for i := range list {
		var p path
		p.to(c.across(0), c.up(0))
		for bin, v := range shares[i] {
			p.to(c.across(float64(bin)/histogramBins), c.up(v/full))
			p.to(c.across(float64(bin+1)/histogramBins), c.up(v/full))
		}
		p.to(c.across(1), c.up(0))
		class := "k-" + list[i].kind.String()
		c.Areas = append(c.Areas, stroke{class, p.String()})
		c.Lines = append(c.Lines, stroke{class, p.String()})
	}
	return c
}

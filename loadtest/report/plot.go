package report

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/internal/display"
	"github.com/copyfleet/copyfleet/loadtest/record"
)

const (
	axisWidth = 7 // columns of labels of a vertical axis
	mostRows  = 6 // of the plot of throughput
	leastRows = 3
	moreRows  = 3 // that the one of latencies has
)

// marks are the signs of operations in a plot.
var marks = []rune{'●', '■', '▲', '◆', '○', '□', '△'}

// throughputPlot draws the throughput by second as bars: light ones where the run was not measured. A '!' below says that operations failed then.
func throughputPlot(t *record.Totals, width, rows int) []string {
	room := width - axisWidth - 2
	list := points(t, room)
	if len(list) < 2 {
		return nil
	}
	each := min(room/len(list), 4)
	value := func(p *point) float64 { return p.ops.mean }
	unit := "operations a second"
	if top(list, func(p *point) float64 { return p.mib.mean }) > 0 {
		value, unit = func(p *point) float64 { return p.mib.mean }, "MiB a second"
	}
	highest := top(list, value)
	if highest == 0 {
		return nil
	}
	title := fmt.Sprintf("%s over %s", unit, display.Span(time.Duration(list[len(list)-1].to)*time.Second))
	if beside(list) {
		title += " (light: not measured)"
	}
	lines := append([]string{""}, sentence(title, width)...)
	for row := rows - 1; row >= 0; row-- {
		label := ""
		if (rows-1-row)%2 == 0 {
			label = short(highest * float64(row+1) / float64(rows))
		}
		var b strings.Builder
		for i := range list {
			b.WriteString(strings.Repeat(string(bar(&list[i], value(&list[i])/highest*float64(rows)-float64(row))), each))
		}
		lines = append(lines, axis(label)+b.String())
	}
	lines = append(lines, strings.Repeat(" ", axisWidth)+"└"+strings.Repeat("─", each*len(list)))
	return append(lines, timeAxis(list, each)...)
}

func top(list []point, value func(p *point) float64) float64 {
	most := 0.0
	for i := range list {
		most = max(most, value(&list[i]))
	}
	return most
}

func beside(list []point) bool {
	for i := range list {
		if !list[i].inside {
			return true
		}
	}
	return false
}

func axis(label string) string { return fmt.Sprintf("%*s", axisWidth, label) + "│" }

// bar is the piece of a bar in one row: filled is how much of the row the bar takes, from 0 on.
func bar(p *point, filled float64) rune {
	eighths := []rune(" ▁▂▃▄▅▆▇█")
	n := int(math.Round(min(max(filled, 0), 1) * 8))
	if !p.inside && n > 0 {
		return '░'
	}
	return eighths[n]
}

// timeAxis names the begin, the middle and the end of a plot, with the errors above where there are any.
func timeAxis(list []point, each int) []string {
	var lines []string
	var errors strings.Builder
	failed := 0
	for i := range list {
		sign := " "
		if list[i].errors > 0 {
			sign, failed = "!", failed+list[i].errors
		}
		errors.WriteString(strings.Repeat(sign, each))
	}
	if failed > 0 {
		lines = append(lines, fmt.Sprintf("%*s ", axisWidth, "errors")+errors.String())
	}
	labels := []rune(strings.Repeat(" ", axisWidth+1+each*len(list)+1))
	place := func(second, column int) {
		text := []rune(at(second))
		column = min(column, len(labels)-len(text))
		for _, r := range labels[max(0, column-1):min(len(labels), column+len(text)+1)] {
			if r != ' ' {
				return // there is no room beside another one
			}
		}
		copy(labels[column:], text)
	}
	place(list[0].from, axisWidth+1)
	place(list[len(list)-1].to, len(labels))
	for _, part := range []int{2, 4} {
		for n := 1; n < part; n += 2 {
			i := len(list) * n / part
			place(list[i].from, axisWidth+1+i*each)
		}
	}
	return append(lines, string(labels))
}

// latencyPlot draws latencies by percentile, both axes logarithmic: each step to the right is a tenth of the operations.
func latencyPlot(t *record.Totals, width, height int) []string {
	list := curves(t)
	if len(list) == 0 {
		return nil
	}
	low, high := latencyRange(list)
	most := mostNines(list)
	columns := width - axisWidth - 2
	rows := make([][]rune, height)
	for i := range rows {
		rows[i] = []rune(strings.Repeat(" ", columns))
	}
	last := float64(height - 1)
	row := func(latency float64) int {
		at := math.Log(max(latency, low)/low) / math.Log(high/low) * last
		return height - 1 - int(math.Round(min(max(at, 0), last)))
	}
	for i := range list {
		for c := range columns {
			q := share(most * float64(c) / float64(columns-1))
			if c == columns-1 {
				q = 1 // the slowest
			}
			rows[row(millis(list[i].latency.Quantile(q)))][c] = marks[list[i].kind-1]
		}
	}
	legend := make([]string, 0, len(list))
	for i := range list {
		legend = append(legend, string(marks[list[i].kind-1])+" "+list[i].kind.String())
	}
	lines := make([]string, 0, height+4)
	lines = append(lines, "")
	lines = append(lines, wrap(append([]string{"latency", "in", "ms", "by", "percentile:"}, legend...), width, reportMargin)...)
	for i, cells := range rows {
		label := ""
		if i%2 == 0 {
			label = milliseconds(low * math.Pow(high/low, 1-float64(i)/last))
		}
		lines = append(lines, axis(label)+string(cells))
	}
	lines = append(lines, strings.Repeat(" ", axisWidth)+"└"+strings.Repeat("─", columns))
	return append(lines, percentileAxis(columns, most))
}

// percentileName is the name of a whole number of nines: 90, 99, 99.9.
func percentileName(nines int) string {
	switch nines {
	case 1:
		return "p90"
	case 2:
		return "p99"
	}
	return "p99." + strings.Repeat("9", nines-2)
}

func percentileAxis(columns int, most float64) string {
	labels := []rune(strings.Repeat(" ", axisWidth+1+columns+1))
	end := len(labels) - len("max")
	place := func(text string, nines float64) {
		column := axisWidth + 1 + int(math.Round(nines/most*float64(columns-1)))
		if nines > 0 {
			column -= len(text) / 2
		}
		if column+len(text) < end && labels[column] == ' ' && labels[column-1] == ' ' {
			copy(labels[column:], []rune(text))
		}
	}
	place("min", 0)
	for n := 1; float64(n) < most; n++ {
		place(percentileName(n), float64(n))
	}
	place("p50", nines(0.5))
	copy(labels[end:], []rune("max"))
	return string(labels)
}

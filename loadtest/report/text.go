package report

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/internal/display"
	"github.com/copyfleet/copyfleet/loadtest/record"
)

// Look is how text is laid out.
type Look struct {
	Width int  // columns; 0: 80, at least 40
	ASCII bool // nothing but ASCII, for terminals and files that show no more
}

const (
	usualWidth = 80
	leastWidth = 40
	mostWidth  = 160
	mostLines  = 60 // of a report, so that it can be read at a glance

	reportMargin = 2 // columns before what belongs to the line above
)

func (l Look) width() int { return min(max(cmp.Or(l.Width, usualWidth), leastWidth), mostWidth) }

// Text writes a report for a terminal: what was run, its figures by operation, what went wrong, and plots of the throughput and the latencies. It has 60 lines
// at most; what has no place is counted. Names and messages from servers are made harmless.
func Text(w io.Writer, run *record.Run, s *Summary, look Look) error {
	width := look.width()
	page := &page{width: width}
	page.add(partial(s, width)...)
	page.add(head(run, s, width)...)
	page.gap()
	page.add(operationTable(s, width)...)
	page.add(secondsLines(s, width)...)
	page.add(notes(run, s, width)...)
	var tables []*figureTable
	for _, t := range []*figureTable{failureTable(s), sizeTable(s), hostTable(s)} {
		if t != nil {
			tables = append(tables, t)
		}
	}
	const (
		most  = 9              // lines of a table
		least = leastTable + 1 // with the one before it: each table says more than higher plots or more rows of another one
	)
	plots := plotsIn(run.Totals, width, mostLines-len(page.lines)-least*len(tables))
	for i, t := range tables {
		if room := min(most, mostLines-len(plots)-len(page.lines)-1-least*(len(tables)-1-i)); room >= leastTable {
			page.gap()
			page.add(t.lines(width, room)...)
		}
	}
	page.add(plots...)
	page.lines = page.lines[:min(len(page.lines), mostLines)]
	return page.write(w, look.ASCII)
}

// plotsIn draws as high as the room allows; if it is too low for both plots, the latencies.
func plotsIn(t *record.Totals, width, room int) []string {
	var plots []string
	for rows := mostRows; rows >= leastRows; rows-- {
		plots = append(throughputPlot(t, width, rows), latencyPlot(t, width, rows+moreRows)...)
		if len(plots) <= room {
			return plots
		}
	}
	return latencyPlot(t, width, leastRows+moreRows)
}

// page collects lines.
type page struct {
	width int
	lines []string
}

func (p *page) add(lines ...string) { p.lines = append(p.lines, lines...) }

func (p *page) gap() {
	if len(p.lines) > 0 && p.lines[len(p.lines)-1] != "" {
		p.add("")
	}
}

func (p *page) write(w io.Writer, ascii bool) error {
	var b strings.Builder
	for _, line := range p.lines {
		b.WriteString(strings.TrimRight(display.Cut(line, p.width), " "))
		b.WriteByte('\n')
	}
	text := b.String()
	if ascii {
		text = plain(text)
	}
	_, err := io.WriteString(w, text)
	return err //nolint:wrapcheck // of the writer that was given
}

// signs are what stands for a character where there is ASCII only.
var signs = map[rune]rune{
	'…': '~', '·': '-', '–': '-', '→': '>', '─': '-', '│': '|', '└': '+', '┤': '+', '┬': '+', '░': '.', '▒': ':', '█': '#',
	'▁': '.', '▂': '.', '▃': '.', '▄': ':', '▅': ':', '▆': ':', '▇': ':', '●': '*', '■': 'x', '▲': '^', '◆': '%', '○': 'o', '□': '=', '△': '&',
}

func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x80 {
			return r
		}
		return cmp.Or(signs[r], '?')
	}, text)
}

// wrap breaks words into lines; all but the first are indented. A word that is too long is cut.
func wrap(words []string, width, indent int) []string {
	var lines []string
	line := ""
	for _, word := range words {
		word = display.Cut(word, width-indent)
		switch {
		case line == "":
			line = word
		case display.Width(line)+1+display.Width(word) <= width:
			line += " " + word
			continue
		default:
			lines = append(lines, line)
			line = strings.Repeat(" ", indent) + word
			continue
		}
	}
	if line == "" {
		return lines
	}
	return append(lines, line)
}

func sentence(text string, width int) []string {
	return wrap(strings.Fields(display.Clean(text)), width, reportMargin)
}

// atMost shortens lines, and says by how much.
func atMost(lines []string, most int) []string {
	if len(lines) <= most {
		return lines
	}
	return append(lines[:most-1:most-1], fmt.Sprintf("  … %d more lines", len(lines)-most+1))
}

// partial says loudly why a run did not do all that it was to do.
func partial(s *Summary, width int) []string {
	if len(s.Partial) == 0 {
		return nil
	}
	const most = 3
	return append(atMost(sentence("PARTIAL RUN: "+partialWhy(s), width), most), "")
}

func partialWhy(s *Summary) string {
	why := counted(s.Partial)
	return strings.Join(why, "; ") + ". The figures are of what was done."
}

// counted leaves out what was said before, and says how often it was.
func counted(texts []string) []string {
	var list []string
	times := map[string]int{}
	for _, text := range texts {
		if times[text]++; times[text] == 1 {
			list = append(list, text)
		}
	}
	for i, text := range list {
		if n := times[text]; n > 1 {
			list[i] = fmt.Sprintf("%s (%d generators)", text, n)
		}
	}
	return list
}

// head says what was run.
func head(run *record.Run, s *Summary, width int) []string {
	var lines []string
	if len(run.Headers) > 0 {
		h := run.Headers[0]
		words := []string{"run", display.Clean(cmp.Or(h.Run, "-")) + ",", h.Started.UTC().Format("2006-01-02 15:04:05 UTC") + ","}
		words = append(words, "copyfleet", display.Clean(cmp.Or(h.Version, "?"))+",", fmt.Sprintf("seed %d", h.Seed))
		lines = append(lines, wrap(words, width, reportMargin)...)
		const most = 4
		var pairs []string
		for _, o := range shown(h) {
			pairs = append(pairs, display.Clean(o.Name+"="+o.Value))
		}
		lines = append(lines, atMost(wrap(append([]string{" "}, pairs...), width, reportMargin), most)...)
	}
	return append(lines, sentence("measured "+measured(run, s), width)...)
}

// measured says how long, after what, and by whom.
func measured(run *record.Run, s *Summary) string {
	text := display.Span(run.Totals.Length())
	if from := run.Totals.From; from > 0 {
		text += " after a warm-up of " + display.Span(from)
	}
	if s.Outside > 0 {
		text += " (" + things(int64(s.Outside), "operation", "operations") + " outside it do not count)"
	}
	if len(run.Headers) == 0 {
		return text
	}
	text += ", by " + things(int64(len(run.Headers)), "generator", "generators")
	where := run.Headers[0].System
	if where.Host != "" && len(run.Headers) == 1 {
		text += " on " + where.Host
	}
	if where.OS != "" {
		text += fmt.Sprintf(" (%s/%s, %s, %s)", where.OS, where.Arch, things(int64(where.CPUs), "CPU", "CPUs"), where.Go)
	}
	return text
}

func things(n int64, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return display.Number(int(n)) + " " + more
}

// secondsLines says how even the throughput was.
func secondsLines(s *Summary, width int) []string {
	if s.Seconds.Count < 2 || s.Seconds.Fastest.Ops == 0 {
		return nil
	}
	rate := func(r Rate) string {
		if s.MiB == 0 {
			return short(r.Ops) + " ops/s"
		}
		return short(r.Ops) + " ops/s, " + short(r.MiB) + " MiB/s"
	}
	by := "by operations"
	if s.MiB > 0 {
		by = "by MiB"
	}
	f, m, l := s.Seconds.Fastest, s.Seconds.Median, s.Seconds.Slowest
	text := fmt.Sprintf("a second, %s: fastest %s (at %s) · median %s · slowest %s (at %s)", by, rate(f), at(f.At), rate(m), rate(l), at(l.At))
	return sentence(text, width)
}

// at says when a second was.
func at(second int) string {
	const minute = 60
	if second < minute {
		return strconv.Itoa(second) + " s"
	}
	return display.Span(time.Duration(second) * time.Second)
}

// notes are what a reader of the figures has to know, a sentence each.
func notes(run *record.Run, s *Summary, width int) []string {
	var lines []string
	for _, text := range remarks(run, s) {
		lines = append(lines, sentence("! "+text, width)...)
	}
	if len(lines) == 0 {
		return nil
	}
	const most = 11
	return append([]string{""}, atMost(lines, most)...)
}

// remarks are the sentences of notes.
func remarks(run *record.Run, s *Summary) []string {
	var list []string
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	attempts := s.Operations + s.Errors
	switch {
	case attempts == 0:
		say("Nothing was due in the interval: there is nothing to judge by. A longer run measures something.")
	case s.Operations == 0:
		say("No operation went well: there are no latencies.")
	case s.Errors > 0:
		say("%s of %s failed (%s %%): latencies are of those that went well.", display.Number(int(s.Errors)), things(attempts, "operation", "operations"),
			short(100*float64(s.Errors)/float64(attempts)))
	}
	if s.Operations > 0 && 1000*s.Interval < s.Latency.P50 {
		say("All began within %s, which is less than one took: what a second saw is a guess. Make more operations than run at once.", milli(1000*s.Interval))
	}
	if s.NotBegun > 0 {
		say("%s due and never begun: the store does not keep up with the rate.", wereWas(int64(s.NotBegun)))
	}
	if s.LagMillis >= lateMillis && s.LagMillis >= lateShare*s.Latency.P50 {
		say("The generator itself was late by p99 %s: latencies are not the store's alone. Use more machines, or a lower rate.", milli(s.LagMillis))
	}
	const few = 1000
	if s.Operations > 0 && s.Operations < few {
		say("Only %s went well: a p99.9 of so few is one of the slowest, and says little.", things(s.Operations, "operation", "operations"))
	}
	if s.Spread >= apartMillis {
		say("The generators began %s apart: for so long not all of them made their load.", milli(s.Spread))
	}
	if n := versions(run); n > 1 {
		say("The generators are of %d versions.", n)
	}
	return list
}

// A generator that is late by less is not worth a word.
const (
	lateMillis = 1
	lateShare  = 0.1
)

// apartMillis is how far apart generators may begin without a word.
const apartMillis = 5

func wereWas(n int64) string {
	if n == 1 {
		return "1 operation was"
	}
	return display.Number(int(n)) + " operations were"
}

func versions(run *record.Run) int {
	seen := map[string]bool{}
	for _, h := range run.Headers {
		seen[h.Version] = true
	}
	return len(seen)
}

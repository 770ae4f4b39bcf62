package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/internal/display"
	"github.com/copyfleet/copyfleet/loadtest/record"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"short": short, "count": count, "ms": milliseconds, "clean": display.Clean, "at": at,
}).Parse(pageText))

const (
	mostRowsOfPage = 200 // of a table
	mostGenerators = 200
)

// pageData is what the page shows. Its texts are harmless in a document by the template, and to its reader by [display.Clean].
type pageData struct {
	Title     string
	Started   string
	Measured  string
	Partial   string
	Remarks   []string
	Tiles     []option
	Tables    []pageTable
	Seconds   Seconds
	Failures  []Failure
	Times     []*chart
	Latencies []*chart

	Options    []option
	Generators []generator
	More       int // generators that are left out
	Seed       uint64
	Version    string
	Header     string // of the first generator, as JSON
}

type pageTable struct {
	Title, Column string
	Rows          []named
	More          int // rows that are left out
	First         bool
	Moved         bool
}

type generator struct {
	Number  int
	Version string
	record.System
}

// HTML writes a page about a run: its figures, its course over time, its latencies and how to repeat it. It is one file, which needs no network and no script.
func HTML(w io.Writer, run *record.Run, s *Summary) error {
	data := pageData{
		Title: "Load test", Measured: measured(run, s), Remarks: remarks(run, s), Tiles: tiles(s), Seconds: s.Seconds, Failures: s.Failures,
		Times: timeCharts(run.Totals), Latencies: latencyCharts(run.Totals),
	}
	if len(s.Partial) > 0 {
		data.Partial = partialWhy(s)
	}
	data.Tables = append(data.Tables, tableOf("By operation", "Operation", operationsOf(s)))
	if len(s.BySize) > 1 {
		data.Tables = append(data.Tables, tableOf("By size", "Size", sizesOf(s)))
	}
	if len(s.ByHost) > 1 {
		data.Tables = append(data.Tables, tableOf("By host, the slowest first", "Host", hostsOf(s)))
	}
	if err := data.describe(run); err != nil {
		return err
	}
	if err := pageTemplate.Execute(w, &data); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// describe says what was run, where and how.
func (d *pageData) describe(run *record.Run) error {
	if len(run.Headers) == 0 {
		return nil
	}
	h := run.Headers[0]
	d.Title, d.Started = "Load test "+display.Clean(h.Run), h.Started.UTC().Format(time.RFC1123)
	d.Seed, d.Version = h.Seed, h.Version
	d.Options = slices.DeleteFunc(flat(h.Options), func(o option) bool { return o.Name == "seed" })
	for _, g := range run.Headers[:min(len(run.Headers), mostGenerators)] {
		d.Generators = append(d.Generators, generator{g.Generator, g.Version, g.System})
	}
	d.More = len(run.Headers) - len(d.Generators)
	shown := *h
	if !json.Valid(shown.Options) {
		shown.Options = nil
	}
	text, err := json.Marshal(&shown)
	if err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = display.Clean(lines[i])
	}
	d.Header = strings.Join(lines, "\n")
	return nil
}

func tableOf(title, column string, rows []named) pageTable {
	t := pageTable{Title: title, Column: column, Rows: rows[:min(len(rows), mostRowsOfPage)], More: max(0, len(rows)-mostRowsOfPage)}
	for i := range rows {
		t.First, t.Moved = t.First || rows[i].First.P50 > 0, t.Moved || rows[i].MiB > 0
	}
	return t
}

// tiles are the figures that one looks for first.
func tiles(s *Summary) []option {
	list := []option{{"operations a second", short(s.Ops)}}
	if s.MiB > 0 {
		list = append(list, option{"MiB a second", short(s.MiB)})
	}
	if s.Operations > 0 {
		list = append(list, option{"p50", milli(s.Latency.P50)}, option{"p99", milli(s.Latency.P99)}, option{"slowest", milli(s.Latency.Max)})
	}
	return append(list, option{"operations", count(s.Operations)}, option{"errors", count(s.Errors)})
}

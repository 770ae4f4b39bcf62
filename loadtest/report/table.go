package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/copyfleet/copyfleet/internal/display"
	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/workload"
)

// leastTable is how many lines a table needs to say anything: its header and two rows.
const leastTable = 3

// named are figures with the name that they have in a table.
type named struct {
	Name string
	Figures
}

// operationsOf are the figures by operation, in the order of the kinds, and those of all if there are several.
func operationsOf(s *Summary) []named {
	var rows []named
	for _, kind := range workload.Kinds() {
		if f, ok := s.ByOperation[kind.String()]; ok {
			rows = append(rows, named{kind.String(), f})
		}
	}
	if len(rows) != 1 {
		rows = append(rows, named{"all", s.Figures})
	}
	return rows
}

// sizesOf are the figures by size class, the smallest first.
func sizesOf(s *Summary) []named {
	var rows []named
	for class := record.Class(0); len(rows) < len(s.BySize) && class <= record.LastClass; class++ {
		if f, ok := s.BySize[class.String()]; ok {
			rows = append(rows, named{class.String(), f})
		}
	}
	return rows
}

// hostsOf are the figures by host, the slowest first.
func hostsOf(s *Summary) []named {
	rows := make([]named, 0, len(s.ByHost))
	for name, f := range maps.All(s.ByHost) {
		rows = append(rows, named{cmp.Or(name, "unknown"), f})
	}
	slices.SortFunc(rows, func(a, b named) int {
		return cmp.Or(cmp.Compare(b.Latency.P99, a.Latency.P99), cmp.Compare(b.Errors, a.Errors), cmp.Compare(a.Name, b.Name))
	})
	return rows
}

// column is one of a table.
type column struct {
	title string
	left  bool
	spare int // which of the columns goes first where they do not all fit: the highest; 0: it stays
	cells []string
}

// figureTable is a table that leaves out columns and rows for which there is no room.
type figureTable struct {
	columns []column
	what    string // the rows
}

// figureColumns are the columns that all tables of figures have. What no row has is left out.
func figureColumns(title string, rows []named) []column {
	list := []column{
		{title: title, left: true}, {title: "OPS", spare: 4}, {title: "ERR", spare: 1}, {title: "OPS/S"}, {title: "MIB/S", spare: 2},
		{title: "P50"}, {title: "P90", spare: 7}, {title: "P99"}, {title: "P99.9", spare: 5}, {title: "MAX", spare: 3}, {title: "FIRST", spare: 6},
	}
	moved, first := false, false
	for i := range rows {
		r := &rows[i]
		moved, first = moved || r.MiB > 0, first || r.First.P50 > 0
		l := func(v float64) string {
			if r.Operations == 0 {
				return "-"
			}
			return milliseconds(v)
		}
		begun := "-"
		if r.First.P50 > 0 {
			begun = milliseconds(r.First.P50)
		}
		for c, cell := range []string{
			display.Clean(r.Name), count(r.Operations), count(r.Errors), short(r.Ops), short(r.MiB), l(r.Latency.P50), l(r.Latency.P90), l(r.Latency.P99),
			l(r.Latency.P999), l(r.Latency.Max), begun,
		} {
			list[c].cells = append(list[c].cells, cell)
		}
	}
	return slices.DeleteFunc(list, func(c column) bool { return c.title == "MIB/S" && !moved || c.title == "FIRST" && !first })
}

func operationTable(s *Summary, width int) []string {
	t := figureTable{columns: figureColumns("OPERATION", operationsOf(s))}
	lines := t.lines(width, len(t.columns[0].cells)+1)
	explain := "latencies in ms from when an operation was due"
	if strings.Contains(lines[0], "FIRST") {
		explain += "; FIRST: p50 to the first byte"
	}
	return append(lines, sentence(explain, width)...)
}

// sizeTable returns nil where there is one size class only.
func sizeTable(s *Summary) *figureTable {
	if len(s.BySize) < 2 {
		return nil
	}
	return &figureTable{columns: figureColumns("SIZE", sizesOf(s)), what: "size classes"}
}

// hostTable returns nil where there is one host only.
func hostTable(s *Summary) *figureTable {
	if len(s.ByHost) < 2 {
		return nil
	}
	return &figureTable{columns: figureColumns("HOST", hostsOf(s)), what: "hosts, none of them slower"}
}

// mostCode is how many columns the code of an error takes: a server may send any.
const mostCode = 24

// failureTable returns nil where nothing failed.
func failureTable(s *Summary) *figureTable {
	if len(s.Failures) == 0 {
		return nil
	}
	list := []column{
		{title: "ERRORS"}, {title: "OF", left: true}, {title: "CLASS", left: true, spare: 2}, {title: "CODE", left: true, spare: 1},
		{title: "FOR EXAMPLE", left: true},
	}
	for _, f := range s.Failures {
		for c, cell := range []string{count(f.Count), f.Operation, f.Class, f.Code, cause(f.Message)} {
			text := display.Clean(cell)
			if c < len(list)-1 {
				text = display.Cut(text, mostCode)
			}
			list[c].cells = append(list[c].cells, text)
		}
	}
	return &figureTable{columns: list, what: "kinds of errors"}
}

// place is what a message begins with that a store's driver has made: what was done and to which object. Other columns and the next such error say it as well.
var place = regexp.MustCompile(`^[a-z ]{1,20} s3://\S+: `)

// cause is what a message says of why, which is cut off otherwise where lines are short.
func cause(message string) string {
	return cmp.Or(message[len(place.FindString(message)):], message)
}

// lines lays the table out in so many columns of the screen and lines.
func (t *figureTable) lines(width, most int) []string {
	const (
		gap       = 2
		leastName = 12 // columns of a name that is cut
	)
	columns := slices.Clone(t.columns)
	widths := func() (each []int, sum int) {
		for _, c := range columns {
			w := display.Width(c.title)
			for _, cell := range c.cells {
				w = max(w, display.Width(cell))
			}
			each, sum = append(each, w), sum+w+gap
		}
		return each, sum - gap
	}
	each, sum := widths()
	longest := len(columns) - 1 // what is text may be cut
	if !columns[longest].left {
		longest = 0
	}
	for over := sum - width; over > 0; over = sum - width {
		if cut := each[longest] - over; cut >= leastName {
			each[longest] = cut
			break
		}
		spare := slices.MaxFunc(columns, func(a, b column) int { return cmp.Compare(a.spare, b.spare) })
		if spare.spare == 0 {
			each[longest] = max(1, each[longest]-over)
			break
		}
		columns = slices.DeleteFunc(columns, func(c column) bool { return c.title == spare.title })
		longest = min(longest, len(columns)-1)
		each, sum = widths()
	}
	rows := len(columns[0].cells)
	more := 0
	if rows+1 > most {
		more = rows - most + 2
		rows -= more
	}
	text := make([]string, 0, rows+2)
	for row := -1; row < rows; row++ {
		text = append(text, rowText(columns, each, row))
	}
	if more > 0 {
		text = append(text, fmt.Sprintf("… and %d more %s", more, t.what))
	}
	return text
}

// rowText is one line of a table; row -1 is its header.
func rowText(columns []column, widths []int, row int) string {
	var b strings.Builder
	for i, c := range columns {
		cell := c.title
		if row >= 0 {
			cell = c.cells[row]
		}
		cell = display.Cut(cell, widths[i])
		pad := strings.Repeat(" ", max(0, widths[i]-display.Width(cell)))
		if c.left {
			cell += pad
		} else {
			cell = pad + cell
		}
		if i > 0 {
			b.WriteString("  ")
		}
		b.WriteString(cell)
	}
	return strings.TrimRight(b.String(), " ")
}

// short writes a number in about three digits: 0.04, 1.23, 12.3, 1234, 12.3k.
func short(v float64) string {
	const kilo = 1000
	units := []string{"", "k", "M", "G", "T", "P", "E"}
	unit := 0
	if math.Abs(v) >= 9999.5 {
		for math.Abs(v) >= 999.5 && unit < len(units)-1 {
			v, unit = v/kilo, unit+1
		}
	}
	return digits(v) + units[unit]
}

// digits writes a number with as many digits behind the point as matter.
func digits(v float64) string {
	switch size := math.Abs(v); {
	case v == 0:
		return "0"
	case size >= 99.95:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case size >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case size >= 0.9995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case size < 0.0005:
		return strconv.FormatFloat(v, 'g', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// count writes a number of things, which is exact up to a million.
func count(n int64) string {
	const exact = 1_000_000
	if n < exact {
		return display.Number(int(n))
	}
	return short(float64(n))
}

// milliseconds writes a latency in ms, and from 10 s on in s.
func milliseconds(v float64) string {
	const seconds = 9999.5
	if v >= seconds {
		return short(v/1000) + "s"
	}
	return digits(v)
}

// milli writes a latency with its unit.
func milli(v float64) string {
	text := milliseconds(v)
	if seconds, found := strings.CutSuffix(text, "s"); found {
		return seconds + " s"
	}
	return text + " ms"
}

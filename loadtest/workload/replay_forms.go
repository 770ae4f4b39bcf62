package workload

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
)

// reportItem is a line of an NDJSON report.
type reportItem struct {
	Receipt *struct {
		State    string `json:"state"`
		Bytes    *int64 `json:"bytes"`
		Attempts []struct {
			Start string `json:"start"`
		} `json:"attempts"`
	} `json:"receipt"`
}

// readNDJSON reads an item a line.
func (r *reportRows) readNDJSON(in *bufio.Reader) error {
	var long []byte // of a line that does not fit into the reader
	for line := 1; ; line++ {
		text, err := nextRow(in, &long)
		switch {
		case errors.Is(err, errLongRow):
			return wrong(line, "it is longer than %d bytes", mostRow)
		case err != nil && !errors.Is(err, io.EOF):
			return r.unreadable(line, err)
		}
		whole := err == nil
		if text = bytes.TrimSpace(text); len(text) > 0 {
			item, problem := parseItem(text)
			switch {
			case problem != "" && !whole && !r.none():
				r.schedule.Truncated = true
			case problem != "":
				return wrong(line, "%s", problem)
			default:
				if err := r.take(line, &item); err != nil {
					return err
				}
			}
		} else if whole && line > mostSchedule {
			return wrong(line, "it has more than %d lines", mostSchedule)
		}
		if !whole {
			return nil
		}
	}
}

// none tells whether no line of the report was one so far.
func (r *reportRows) none() bool { return r.n == 0 }

// parseItem reads a line of NDJSON. The library's own words would show parts of the line, which may hold credentials.
func parseItem(text []byte) (item reportRow, problem string) {
	var line reportItem
	if err := json.Unmarshal(text, &line); err != nil {
		return item, "it is no item in JSON as a report has it; \"copyfleet report BATCH\" writes one"
	}
	if line.Receipt == nil || line.Receipt.Bytes == nil {
		return item, "it has no receipt: this is a manifest, or another file; \"copyfleet report BATCH\" writes a report"
	}
	item = reportRow{state: line.Receipt.State, bytes: *line.Receipt.Bytes}
	if len(line.Receipt.Attempts) > 0 {
		item.started = line.Receipt.Attempts[0].Start
	}
	return item, ""
}

var errLongRow = errors.New("a row is too long")

// nextRow returns a line without its end, until the next call. The last line of a report that is cut off comes with io.EOF.
func nextRow(in *bufio.Reader, long *[]byte) ([]byte, error) {
	*long = (*long)[:0]
	for {
		part, err := in.ReadSlice('\n')
		if len(*long)+len(part) > mostRow {
			return nil, errLongRow
		}
		if err == nil && len(*long) == 0 {
			return part, nil
		}
		*long = append(*long, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return *long, err //nolint:wrapcheck // wrapped by the caller
		}
	}
}

// rowMeter lets a reader of CSV have as many bytes at once as a row has at most: a quote that is never closed would have it take all that there is.
type rowMeter struct {
	in   io.Reader
	left int
	last byte
}

// Read implements io.Reader.
func (m *rowMeter) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, errLongRow
	}
	n, err := m.in.Read(p[:min(len(p), m.left)])
	if m.left -= n; n > 0 {
		m.last = p[n-1]
	}
	return n, err //nolint:wrapcheck // io.Reader passes on what it got
}

// columns are where the members of a row stand.
type columns struct{ state, bytes, started int }

// readCSV reads a row an item, after the names of the columns.
func (r *reportRows) readCSV(in io.Reader) error {
	meter := &rowMeter{in: in, left: mostRow}
	table := csv.NewReader(meter)
	table.ReuseRecord = true
	names, err := table.Read()
	if err != nil {
		return wrong(1, "it is no table, and no JSON either; \"copyfleet report BATCH\" writes a report")
	}
	at := columns{slices.Index(names, "receipt_state"), slices.Index(names, "receipt_bytes"), slices.Index(names, "receipt_started_at")}
	if min(at.state, at.bytes, at.started) < 0 {
		return wrong(1, "there are no columns receipt_state, receipt_bytes and receipt_started_at; \"copyfleet report BATCH --format csv\" writes a report")
	}
	for line := 2; ; {
		meter.left = mostRow
		cells, err := table.Read()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return r.badRow(table, meter, line, err)
		}
		line, _ = table.FieldPos(0)
		item, problem := at.row(cells)
		if problem != "" {
			return wrong(line, "%s", problem)
		}
		if err := r.take(line, &item); err != nil {
			return err
		}
		line++
	}
}

// row reads the cells of an item.
func (c columns) row(cells []string) (item reportRow, problem string) {
	size, err := strconv.ParseInt(strings.TrimSpace(cells[c.bytes]), 10, 64)
	if err != nil {
		return item, quoted(cells[c.bytes]) + " is no number of bytes"
	}
	return reportRow{state: cells[c.state], bytes: size, started: cells[c.started]}, ""
}

// badRow tells why a row cannot be read. The last one may have been cut off.
func (r *reportRows) badRow(table *csv.Reader, meter *rowMeter, line int, err error) error {
	broken, is := errors.AsType[*csv.ParseError](err)
	switch {
	case errors.Is(err, errLongRow):
		return wrong(line, "it is longer than %d bytes, or has a quote that is never closed", mostRow)
	case !is:
		return r.unreadable(line, err)
	}
	if _, next := table.Read(); errors.Is(next, io.EOF) && meter.last != '\n' {
		r.schedule.Truncated = true
		return nil
	}
	if errors.Is(err, csv.ErrFieldCount) {
		return wrong(broken.Line, "it has another number of columns than the first line")
	}
	return wrong(broken.StartLine, "a quote stands where none may be")
}

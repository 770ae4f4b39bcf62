package producer

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/copyfleet/copyfleet/protocol"
)

// csvColumns is the header row of a report. The intake reads those that do not begin with receipt_.
var csvColumns = []string{
	"id", "src_url", "src_bucket", "src_key", "src_sandbox", "src_path",
	"dest_url", "dest_bucket", "dest_key", "dest_sandbox", "dest_path", "size", "sha256", "md5",
	"receipt_index", "receipt_state", "receipt_bytes", "receipt_sha256", "receipt_etag", "receipt_verified",
	"receipt_error_class", "receipt_error_code", "receipt_error_message", "receipt_http_status", "receipt_attempts",
	"receipt_started_at", "receipt_ended_at", "receipt_trace_id",
	// These came later: readers that count columns find the others where they were.
	"conflict", "digest", "receipt_skip_reason", "receipt_method", "receipt_resumed_from_bytes", "receipt_restart_reason",
	"receipt_incomplete",
}

// csvHeader is the first line of a report.
func csvHeader() []byte {
	w := csvWriter{}
	for _, name := range csvColumns {
		w.cell(name)
	}
	w.end()
	return w.b
}

// csvRows renders rows as RFC 4180 has it.
func csvRows(rows []row, secrets bool) ([]byte, error) {
	w := csvWriter{b: make([]byte, 0, len(rows)*384)}
	for i := range rows {
		w.row(&rows[i], secrets)
	}
	return w.b, nil
}

// csvWriter appends cells and ends lines.
type csvWriter struct {
	b     []byte
	begun bool // the line has a cell
}

// row appends a line: the cells of the item exactly as the intake will read them, those of the receipt safe for a spreadsheet.
func (w *csvWriter) row(r *row, secrets bool) {
	src, srcCut := shownLocation(r.item.Src, secrets)
	dest, destCut := shownLocation(r.item.Dest, secrets)
	missing := append(absent("src", &src, srcCut), absent("dest", &dest, destCut)...)
	w.cell(r.item.ID)
	w.location(&src, true)
	w.location(&dest, dest.Type != protocol.HTTPPostForm) // as dest_url it would be a PUT: no destination is refused, a wrong one is not
	if r.item.Size == nil {
		w.cell("")
	} else {
		w.number(*r.item.Size)
	}
	w.cell(r.item.SHA256)
	w.cell(r.item.MD5)
	w.receipt(&r.receipt)
	w.cell(string(r.item.Conflict))
	w.cell(string(r.item.Digest))
	w.text(r.receipt.SkipReason)
	w.text(r.receipt.Method)
	w.number(r.receipt.ResumedFrom)
	w.text(r.receipt.RestartReason)
	w.cell(strings.Join(missing, " "))
	w.end()
}

// location appends the five cells of a location.
func (w *csvWriter) location(loc *protocol.Location, withURL bool) {
	if withURL {
		w.cell(loc.URL)
	} else {
		w.cell("")
	}
	w.cell(loc.Bucket)
	w.cell(loc.Key)
	w.cell(string(loc.Sandbox))
	w.cell(loc.Path)
}

// absent names what of a location is not in its cells: it was taken out, or a table has no place for it.
func absent(side string, loc *protocol.Location, taken cut) []string {
	var names []string
	if taken.query {
		names = append(names, side+"_query")
	}
	if taken.headers || len(loc.Headers) > 0 {
		names = append(names, side+"_headers")
	}
	if loc.Type == protocol.HTTPPostForm {
		names = append(names, side+"_form")
	}
	return names
}

func (w *csvWriter) receipt(r *protocol.Receipt) {
	var failure protocol.Failure
	if r.Failure != nil {
		failure = *r.Failure
	}
	var started, ended time.Time
	if n := len(r.Attempts); n > 0 {
		started, ended = r.Attempts[0].Start, r.Attempts[n-1].End
	}
	w.number(int64(r.Index))
	w.text(string(r.State))
	w.number(r.Bytes)
	w.text(r.SHA256)
	w.text(r.ETag)
	w.cell(strconv.FormatBool(r.Verified))
	w.text(string(failure.Class))
	w.text(failure.Code)
	w.text(failure.Message)
	if r.Status == 0 {
		w.cell("")
	} else {
		w.number(int64(r.Status))
	}
	w.number(int64(len(r.Attempts)))
	w.time(started)
	w.time(ended)
	w.text(r.TraceID)
}

func (w *csvWriter) number(n int64) { w.b = strconv.AppendInt(w.next(), n, 10) }

func (w *csvWriter) time(t time.Time) {
	w.b = w.next()
	if !t.IsZero() {
		w.b = t.UTC().AppendFormat(w.b, time.RFC3339Nano)
	}
}

var lineEnds = strings.NewReplacer("\r", " ", "\n", " ")

// formula begins what a spreadsheet takes for a formula (OWASP, "CSV Injection"), also in full width, as some locales do.
const formula = "=+-@\t＝＋－＠"

// text appends a cell whose text is somebody else's: an apostrophe keeps a spreadsheet from running it. It stays on its line, as the
// intake wants a manifest to be.
func (w *csvWriter) text(s string) {
	s = strings.TrimLeft(lineEnds.Replace(s), " ")
	if first, _ := utf8.DecodeRuneInString(s); s != "" && strings.ContainsRune(formula, first) {
		s = "'" + s
	}
	w.cell(s)
}

// cell appends a cell as it is, in quotes where it must be, or where a reader might trim it.
func (w *csvWriter) cell(s string) {
	w.b = w.next()
	if s == "" || !strings.ContainsAny(s, "\",\r\n") && s[0] != ' ' && s[len(s)-1] != ' ' {
		w.b = append(w.b, s...)
		return
	}
	w.b = append(w.b, '"')
	for {
		before, after, more := strings.Cut(s, `"`)
		w.b = append(w.b, before...)
		if !more {
			break
		}
		w.b, s = append(w.b, '"', '"'), after
	}
	w.b = append(w.b, '"')
}

// next begins a cell.
func (w *csvWriter) next() []byte {
	if w.begun {
		return append(w.b, ',')
	}
	w.begun = true
	return w.b
}

func (w *csvWriter) end() { w.b, w.begun = append(w.b, '\r', '\n'), false }

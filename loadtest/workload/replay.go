package workload

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/copyfleet/copyfleet/protocol"
)

const (
	mostRow    = 4 << 20  // bytes of an item in a report: a line of a manifest has 1 MiB at most, and quoting may double it
	mostWindow = 64 << 20 // bytes that decompression may take
)

// ErrReport says that something is no completion report of a batch, or none that can be replayed.
var ErrReport = errors.New("not a completion report that can be replayed")

// ReadSchedule reads the completion report of a batch, as "copyfleet report" writes it: CSV or NDJSON, as it is or compressed by gzip or Zstandard. It reads
// what a thousand items need as well as ten million, which is the most.
func ReadSchedule(r io.Reader) (*Schedule, error) {
	plain, closing, err := decompress(r)
	if err != nil {
		return nil, err
	}
	defer closing()
	in := bufio.NewReaderSize(plain, 64<<10)
	if start, _ := in.Peek(3); string(start) == "\xef\xbb\xbf" {
		_, _ = in.Discard(3) // they were there a moment ago
	}
	rows := &reportRows{schedule: &Schedule{}}
	first, err := firstOf(in)
	switch {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%w: it is empty", ErrReport)
	case err != nil:
		return nil, fmt.Errorf("%w: it cannot be read: %w", ErrReport, err)
	case first == '{':
		err = rows.readNDJSON(in)
	default:
		err = rows.readCSV(in)
	}
	if err != nil {
		return nil, err
	}
	s := rows.schedule
	if s.n == 0 {
		return nil, fmt.Errorf("%w: %w (%s)", ErrReport, errNoSchedule, orNone(s.Left.String()))
	}
	s.settle()
	return s, nil
}

func orNone(text string) string {
	if text == "" {
		return "it has no items"
	}
	return text
}

// firstOf is the first byte that says which form a report has.
func firstOf(in *bufio.Reader) (byte, error) {
	const most = 4096 // blank lines before it
	for range most {
		b, err := in.Peek(1)
		if err != nil {
			return 0, err //nolint:wrapcheck // wrapped by the caller
		}
		if !bytes.ContainsAny(b, " \t\r\n") {
			return b[0], nil
		}
		_, _ = in.Discard(1) // it is there
	}
	return 0, errors.New("it begins with nothing but blanks")
}

// decompress returns the plain text of a report, by how it begins.
func decompress(r io.Reader) (plain io.Reader, closing func(), err error) {
	in := bufio.NewReader(r)
	start, _ := in.Peek(4) // what is shorter is not compressed
	switch {
	case bytes.HasPrefix(start, []byte{0x1f, 0x8b}):
		zip, err := gzip.NewReader(in)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: its compression by gzip cannot be read: %w", ErrReport, err)
		}
		return zip, func() { _ = zip.Close() }, nil // it was only read
	case bytes.Equal(start, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		zip, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(mostWindow))
		if err != nil {
			return nil, nil, fmt.Errorf("%w: its compression by Zstandard cannot be read: %w", ErrReport, err)
		}
		return zip, zip.Close, nil
	}
	return in, func() {}, nil
}

// reportRow is what is looked at of an item.
type reportRow struct {
	state   string
	bytes   int64
	started string // RFC 3339; "": not told
}

// reportRows takes the items of a report.
type reportRows struct {
	schedule       *Schedule
	n              int
	earliest, last time.Time
}

// wrong says what is wrong with a line.
func wrong(line int, format string, args ...any) error {
	return fmt.Errorf("%w: line %d: %s", ErrReport, line, fmt.Sprintf(format, args...))
}

// take adds an item, or counts it among those that are left out.
func (r *reportRows) take(line int, item *reportRow) error {
	if r.n++; r.n > mostSchedule {
		return wrong(line, "it has more than %d items: replay a part of it", mostSchedule)
	}
	left := &r.schedule.Left
	switch protocol.ItemState(item.state) {
	case protocol.ItemSucceeded:
	case protocol.ItemSkipped:
		left.Skipped++
		return nil
	case protocol.ItemQueued, protocol.ItemRunning, protocol.ItemRetrying, protocol.ItemFailed, protocol.ItemCanceled:
		left.Failed++
		return nil
	default:
		return wrong(line, "%s is no state of an item", quoted(item.state))
	}
	if item.bytes < 0 {
		return wrong(line, "an item of %d bytes", item.bytes)
	}
	if item.started == "" {
		left.WithoutAt++
		return nil
	}
	at, err := r.time(line, item.started)
	switch {
	case err != nil:
		return err
	case item.bytes > MostBytes:
		left.TooLarge++
	default:
		r.schedule.add(at, item.bytes)
	}
	return nil
}

// time reads when an item was begun.
func (r *reportRows) time(line int, text string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || at.Year() < 1970 || at.Year() > 2261 { // beyond there are none in nanoseconds
		return at, wrong(line, "%s is no time at which an item was begun", quoted(text))
	}
	if r.earliest.IsZero() || at.Before(r.earliest) {
		r.earliest = at
	}
	if at.After(r.last) {
		r.last = at
	}
	if r.last.Sub(r.earliest) > longestSpan {
		return at, wrong(line, "it was begun %.0f days from another item; a replay spans a year at most", math.Ceil(r.last.Sub(r.earliest).Hours()/24))
	}
	return at, nil
}

// quoted shows a value of a report, shortened.
func quoted(value string) string {
	const most = 40
	if len(value) > most {
		return fmt.Sprintf("%.*q…", most, value)
	}
	return fmt.Sprintf("%q", value)
}

// unreadable tells why a report could not be read on. One that breaks off is read as far as it goes.
func (r *reportRows) unreadable(line int, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) { // of what decompresses it
		r.schedule.Truncated = true
		return nil
	}
	return fmt.Errorf("%w: line %d: it cannot be read on: %w", ErrReport, line, err)
}

package record

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"
)

const mostLine = 256 << 10 // bytes of a line that is read

// Reader reads a file, one section after another.
type Reader struct {
	zip    *zstd.Decoder
	lines  *bufio.Scanner
	number int // of the line

	header *Header // of the section
	ending Ending
	ops    int64
	next   *Header // of the next section, if its first line was come upon
}

// ErrFormat says that a file is not one of a load test.
var ErrFormat = errors.New("not the file of a load test")

// NewReader reads the first line of a file. The reader is closed after use.
func NewReader(r io.Reader) (*Reader, error) {
	zip, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	f := &Reader{zip: zip, lines: bufio.NewScanner(zip)}
	f.lines.Buffer(make([]byte, 0, 64<<10), mostLine)
	f.lines.Split(wholeLines)
	if err := f.begin(); err != nil {
		zip.Close()
		return nil, err
	}
	return f, nil
}

// begin reads the first line of a section.
func (f *Reader) begin() error {
	if !f.lines.Scan() {
		return fmt.Errorf("%w: its first line cannot be read: %w", ErrFormat, orEOF(f.lines.Err()))
	}
	f.number++
	err := f.head(f.lines.Bytes())
	f.open()
	return err
}

// head reads the first line of the section that is next.
func (f *Reader) head(line []byte) error {
	var h Header
	if err := json.Unmarshal(line, &h); err != nil || h.Format != Format {
		return fmt.Errorf("%w: line %d does not begin a section of the form %s", ErrFormat, f.number, Format)
	}
	if h.WarmUp < 0 || h.WarmUp > longestRun {
		return fmt.Errorf("%w: line %d has a warm-up of %v", ErrFormat, f.number, h.WarmUp)
	}
	f.next = &h
	return nil
}

// open makes the next section the one that is read.
func (f *Reader) open() { f.header, f.next, f.ending, f.ops = f.next, nil, Ending{}, 0 }

// NextSection goes on to the next section, once [Reader.Next] has returned false; false: there is none.
func (f *Reader) NextSection() (bool, error) {
	if f.next == nil {
		if !f.lines.Scan() {
			return false, f.broken()
		}
		f.number++
		if err := f.head(f.lines.Bytes()); err != nil {
			return false, err
		}
	}
	f.open()
	return true, nil
}

// wholeLines splits lines, and leaves out a last one that broke off.
func wholeLines(data []byte, _ bool) (advance int, token []byte, err error) {
	if at := bytes.IndexByte(data, '\n'); at >= 0 {
		return at + 1, data[:at], nil
	}
	return 0, nil, nil
}

func orEOF(err error) error {
	if err == nil {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Header is the first line of the section.
func (f *Reader) Header() *Header { return f.header }

// Next reads the next operation of the section into op; false after the last one. What op had is overwritten.
func (f *Reader) Next(op *Op) (bool, error) {
	if f.ending.Whole || f.next != nil {
		return false, nil
	}
	for f.lines.Scan() {
		f.number++
		var l line
		if err := json.Unmarshal(f.lines.Bytes(), &l); err != nil {
			return false, fmt.Errorf("line %d: %w", f.number, err)
		}
		switch {
		case l.Format != "": // this section broke off
			return false, f.head(f.lines.Bytes())
		case l.End != nil:
			return false, f.end(l.End)
		case l.Stop != nil && (*l.Stop < 0 || *l.Stop > longestRun || l.NotBegun < 0):
			return false, fmt.Errorf("line %d is no stop that a run can have", f.number)
		case l.Stop != nil:
			f.ending.Stopped, f.ending.Stop, f.ending.NotBegun = true, *l.Stop, l.NotBegun
		case !l.operation():
			return false, fmt.Errorf("line %d is no operation", f.number)
		default:
			*op = Op{Kind: l.Kind, Due: l.Due, Wait: l.Wait, First: l.First, Took: l.Took, Bytes: l.Bytes, Lag: l.Lag, Host: l.Host, Fault: l.Fault}
			f.ops++
			return true, nil
		}
	}
	return false, f.broken()
}

// end takes the last line of the section.
func (f *Reader) end(l *endLine) error {
	f.ending.Whole, f.ending.Partial = true, l.Partial
	if l.Ops != f.ops {
		return fmt.Errorf("line %d says that there are %d operations, and there are %d", f.number, l.Ops, f.ops)
	}
	return nil
}

// operation tells whether the line is one that could have been.
func (l *line) operation() bool {
	return l.Kind != 0 && min(l.Due, l.Wait, l.First, l.Lag) >= 0 && l.Bytes >= 0 && l.Took >= l.Wait && max(l.Due, l.Took) <= longestRun
}

// longestRun bounds times in a file: a year.
const longestRun = 366 * 24 * time.Hour

// broken returns why the lines ended, unless they only broke off, which [Reader.Ending] says.
func (f *Reader) broken() error {
	err := f.lines.Err()
	if err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return fmt.Errorf("after line %d: %w", f.number, err)
}

// Ending says how the section ended, once all its operations were read.
func (f *Reader) Ending() Ending { return f.ending }

// Close releases the reader. What it read from is not closed.
func (f *Reader) Close() { f.zip.Close() }

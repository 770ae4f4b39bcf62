package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/copyfleet/copyfleet/loadtest/workload"
)

// Format names the form of the file in its first line.
const Format = "copyfleet-bench/1"

// Header says what is needed to repeat a run.
type Header struct {
	Format     string          `json:"format"` // [Format]; a [Writer] sets it
	Run        string          `json:"run"`    // the same for all generators of a run
	Generator  int             `json:"generator"`
	Generators int             `json:"generators"`
	Started    time.Time       `json:"started_at"`
	WarmUp     time.Duration   `json:"warm_up_ns"`
	Seed       uint64          `json:"seed"`
	Options    json.RawMessage `json:"options"` // without secrets
	Version    string          `json:"version"` // of the program
	System     System          `json:"system"`
}

// System is where a generator ran.
type System struct {
	Host string `json:"host"`
	Go   string `json:"go"`
	OS   string `json:"os"`
	Arch string `json:"arch"`
	CPUs int    `json:"cpus"`
}

// Ending says how a run ended.
type Ending struct {
	Stopped  bool          // it is known when
	Stop     time.Duration // since the start of the run
	NotBegun int
	Whole    bool   // the file has its last line
	Partial  string // why the run did not do all that it was to do; "": it did
}

// line is any line but those of operations, of which it has the error only.
type line struct {
	Format   string         `json:"format,omitempty"` // of a line that begins a section
	Stop     *time.Duration `json:"stop_ns,omitempty"`
	NotBegun int            `json:"not_begun,omitempty"`
	End      *endLine       `json:"end,omitempty"`

	Kind  workload.Kind `json:"k,omitempty"`
	Due   time.Duration `json:"d,omitempty"`
	Wait  time.Duration `json:"w,omitempty"`
	First time.Duration `json:"f,omitempty"`
	Took  time.Duration `json:"t,omitempty"`
	Bytes int64         `json:"n,omitempty"`
	Lag   time.Duration `json:"l,omitempty"`
	Host  string        `json:"h,omitempty"`
	Fault *Fault        `json:"e,omitempty"`
}

type endLine struct {
	Ops     int64  `json:"ops"`
	Partial string `json:"partial,omitempty"`
}

// Writer writes the file of one generator. A [Recorder] calls it.
type Writer struct {
	zip *zstd.Encoder
	buf []byte
	ops int64
}

// NewWriter begins a file.
func NewWriter(w io.Writer, h *Header) (*Writer, error) {
	zip, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2))
	if err != nil {
		return nil, fmt.Errorf("begin the file: %w", err)
	}
	f := &Writer{zip: zip}
	first := *h
	first.Format = Format
	if err := f.json(&first); err != nil {
		return nil, errors.Join(err, zip.Close())
	}
	_ = zip.Flush() // who is killed leaves a file that says at least what it is. An error comes again with what follows: no run is to end for its file.
	return f, nil
}

// op writes an operation. It is on the way of each one, so that it does without reflection.
func (f *Writer) op(op *Op) error {
	b := f.buf[:0]
	b = append(b, `{"k":"`...)
	b = append(b, op.Kind.String()...)
	b = append(b, `","d":`...)
	b = strconv.AppendInt(b, int64(op.Due), 10)
	number := func(name string, n int64) {
		if n == 0 {
			return
		}
		b = append(b, name...)
		b = strconv.AppendInt(b, n, 10)
	}
	number(`,"w":`, int64(op.Wait))
	number(`,"f":`, int64(op.First))
	number(`,"t":`, int64(op.Took))
	number(`,"n":`, op.Bytes)
	number(`,"l":`, int64(op.Lag))
	if op.Host != "" {
		b = append(b, `,"h":`...)
		b = appendText(b, op.Host)
	}
	if op.Fault != nil {
		fault := *op.Fault
		fault.Message = fault.Message[:min(len(fault.Message), mostMessage)]
		text, err := json.Marshal(&fault)
		if err != nil {
			return fmt.Errorf("write an error: %w", err)
		}
		b = append(b, `,"e":`...)
		b = append(b, text...)
	}
	b = append(b, "}\n"...)
	f.buf = b
	f.ops++
	return f.write()
}

// appendText appends a string of JSON.
func appendText(b []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			quoted, _ := json.Marshal(text) //nolint:errchkjson // a string has no error
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), text...), '"')
}

func (f *Writer) stop(at time.Duration, notBegun int) error {
	return f.json(&line{Stop: &at, NotBegun: notBegun})
}

func (f *Writer) json(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write the file: %w", err)
	}
	f.buf = append(append(f.buf[:0], text...), '\n')
	return f.write()
}

func (f *Writer) write() error {
	if _, err := f.zip.Write(f.buf); err != nil {
		return fmt.Errorf("write the file: %w", err)
	}
	return nil
}

// Close writes the last line. partial says why the run did not do all that it was to do. What it wrote to is not closed.
func (f *Writer) Close(partial string) error {
	err := f.json(&line{End: &endLine{Ops: f.ops, Partial: partial}})
	if closed := f.zip.Close(); closed != nil && err == nil {
		err = fmt.Errorf("write the file: %w", closed)
	}
	return err
}

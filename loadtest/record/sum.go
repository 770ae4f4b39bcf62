package record

import (
	"fmt"
	"io"
	"math"
	"time"
)

// Cut is the interval that counts, where it is not to be the one of the run. The zero Cut changes nothing.
type Cut struct {
	Head time.Duration // since the start of the run; 0: its warm-up
	Tail time.Duration // before its stop
}

// Run is what files say of a run.
type Run struct {
	Headers []*Header // by generator
	Totals  *Totals
	Partial []string // why it did not do all that it was to do; empty: it did
	// Spread is how far apart its generators began, as their coordinator measured it; 0: nobody did.
	Spread time.Duration
}

// Sum reads a file, which open opens, once or twice. Its sections are generators of one run. One that breaks off makes the run partial.
func Sum(open func() (io.ReadCloser, error), cut Cut) (*Run, error) {
	to := time.Duration(math.MaxInt64)
	if cut.Tail > 0 { // the stop has to be known from the beginning
		whole, err := read(open, 0, to)
		if err != nil {
			return nil, err
		}
		to = max(1, whole.Totals.To-cut.Tail)
	}
	return read(open, cut.Head, to)
}

// read reads a file. What lies behind to does not count, even if the run stopped later.
func read(open func() (io.ReadCloser, error), from, to time.Duration) (*Run, error) {
	var run *Run
	err := reading(open, func(file *Reader) error {
		for more := true; more; {
			next, err := section(file, from, to)
			if err != nil {
				return err
			}
			if run == nil {
				run = next
			} else {
				run.Merge(next)
			}
			if more, err = file.NextSection(); err != nil {
				return fmt.Errorf("read the file: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return run, nil
}

// reading has a file read from its beginning.
func reading(open func() (io.ReadCloser, error), do func(file *Reader) error) error {
	content, err := open()
	if err != nil {
		return err
	}
	defer content.Close()
	file, err := NewReader(content)
	if err != nil {
		return err
	}
	defer file.Close()
	return do(file)
}

// section reads the operations of a section.
func section(file *Reader, from, to time.Duration) (*Run, error) {
	if from == 0 {
		from = file.header.WarmUp
	}
	sum := NewRecorder(from, nil)
	sum.totals.To = to
	var op Op
	for {
		stopped := file.ending.Stopped
		more, err := file.Next(&op)
		if err != nil {
			return nil, fmt.Errorf("read the file: %w", err)
		}
		if e := file.ending; e.Stopped && !stopped {
			sum.Stop(min(to, e.Stop), e.NotBegun)
		}
		if !more {
			break
		}
		sum.Add(&op)
	}
	run := &Run{Headers: []*Header{file.header}}
	var err error
	run.Totals, err = sum.Totals()
	switch e := file.ending; {
	case e.Partial != "":
		run.Partial = []string{e.Partial}
	case !e.Whole:
		run.Partial = []string{"its file breaks off"}
	}
	return run, err
}

// Merge adds the file of another generator that ran at the same time.
func (r *Run) Merge(other *Run) {
	r.Headers = append(r.Headers, other.Headers...)
	r.Totals.Merge(other.Totals)
	r.Partial = append(r.Partial, other.Partial...)
	r.Spread = max(r.Spread, other.Spread)
}

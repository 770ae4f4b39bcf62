package record

import (
	"fmt"
	"io"
	"time"
)

// Windows reads a file, and cuts the interval into windows of one length. An operation belongs to the window in which it was due, to its
// end; throughput is that within the window.
func Windows(open func() (io.ReadCloser, error), cut Cut, windows int) ([]*Totals, error) {
	run, err := Sum(open, cut)
	if err != nil {
		return nil, err
	}
	from, length := run.Totals.From, run.Totals.Length()/time.Duration(windows)
	if length <= 0 {
		return nil, fmt.Errorf("an interval of %v has no %d windows", run.Totals.Length(), windows)
	}
	sums := make([]*Recorder, windows)
	for i := range sums {
		sums[i] = NewRecorder(from+time.Duration(i)*length, nil)
		sums[i].totals.To = from + time.Duration(i+1)*length
	}
	err = reading(open, func(file *Reader) error {
		for more := true; more; {
			var op Op
			var err error
			more, err = file.Next(&op)
			switch {
			case err != nil:
			case more:
				first := max(0, int((op.Due-from)/length))
				last := min(windows-1, int((op.end()-from)/length))
				for i := first; i <= last; i++ {
					sums[i].Add(&op)
				}
			default:
				more, err = file.NextSection()
			}
			if err != nil {
				return fmt.Errorf("read the file: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	totals := make([]*Totals, windows)
	for i, sum := range sums {
		totals[i] = &sum.totals
	}
	return totals, nil
}

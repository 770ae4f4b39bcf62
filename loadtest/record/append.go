package record

import (
	"fmt"
	"io"
)

// Append writes all sections of a file behind what w has, so that the files of several generators become one.
func Append(w io.Writer, file *Reader) error {
	for {
		if err := appendSection(w, file); err != nil {
			return err
		}
		more, err := file.NextSection()
		if err != nil {
			return fmt.Errorf("read the file: %w", err)
		}
		if !more {
			return nil
		}
	}
}

func appendSection(w io.Writer, file *Reader) error {
	out, err := NewWriter(w, file.Header())
	if err != nil {
		return err
	}
	if err := out.copy(file); err != nil {
		_ = out.zip.Close() // what is there is of no use
		return err
	}
	if e := file.Ending(); e.Whole {
		return out.Close(e.Partial)
	}
	if err := out.zip.Close(); err != nil { // it breaks off as the one that it comes from
		return fmt.Errorf("write the file: %w", err)
	}
	return nil
}

// copy writes what is left of a section, in its order: operations that ended after the stop stand behind it.
func (f *Writer) copy(file *Reader) error {
	for {
		var op Op
		stopped := file.Ending().Stopped
		more, err := file.Next(&op)
		if err != nil {
			return fmt.Errorf("read the file: %w", err)
		}
		if e := file.Ending(); e.Stopped && !stopped {
			if err := f.stop(e.Stop, e.NotBegun); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		if err := f.op(&op); err != nil {
			return err
		}
	}
}

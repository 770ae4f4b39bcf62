package sandbox

import (
	"bytes"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// hollow reports whether a file has less space than it is long: it has holes, or the file system packs its content.
func (s state) hollow() bool { return s.blocks*blockUnit < s.size }

// hollow is that of an open file.
func hollow(file *os.File) bool {
	var st unix.Stat_t
	err := uninterrupted(func() error { return unix.Fstat(int(file.Fd()), &st) })
	return err == nil && state{size: st.Size, blocks: st.Blocks}.hollow()
}

// blockUnit is what stat(2) counts space in, in bytes, whatever the blocks of the file system are.
const blockUnit = 512

// stretch tells how many bytes from at on, up to limit, are all in a hole or all outside of one, and leaves the file there. No bytes: the file
// ends at at, or before.
func stretch(file *os.File, at, limit int64) (n int64, hole bool, err error) {
	end, err := file.Seek(at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // nothing follows but a hole, or the file was cut
		hole = true
		end, err = file.Seek(0, io.SeekEnd)
	case err == nil && end > at:
		hole = true
	case err == nil:
		if end, err = file.Seek(at, unix.SEEK_HOLE); errors.Is(err, unix.ENXIO) {
			end, err = at, nil
		}
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) { // the file system does not tell
		end, hole, err = limit, false, nil
	}
	if err == nil {
		_, err = file.Seek(at, io.SeekStart)
	}
	return max(0, min(end, limit)-at), hole, err
}

// sendStretch has the system copy at most so many bytes from one file, which is read at from on, to where another one is written next. What is
// a hole becomes one; so nothing may be there yet.
func sendStretch(to, file *os.File, from, most int64) (int64, error) {
	n, hole, err := stretch(file, from, from+most)
	if err != nil || n == 0 {
		return 0, err
	}
	if !hole {
		return to.ReadFrom(io.LimitReader(file, n)) // copy_file_range(2), where the system has it
	}
	end, err := to.Seek(n, io.SeekCurrent)
	if err == nil {
		err = to.Truncate(end)
	}
	if err == nil {
		_, err = file.Seek(from+n, io.SeekStart)
	}
	return n, err
}

// holeWriter writes to a file, but leaves blocks of zeros out where the file has a hole. What was written at the place before is
// replaced: a part may come twice.
type holeWriter struct {
	file *os.File
	at   int64
}

// holeBlock is what is left out at least, in bytes: what most file systems give space by.
const holeBlock = 4 << 10

// Write implements [io.Writer].
func (w *holeWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, zero := run(p[done:])
		if zero {
			free, err := w.free(int64(n))
			if err != nil {
				return done, err
			}
			zero = free
		}
		if !zero {
			if _, err := w.file.WriteAt(p[done:done+n], w.at); err != nil {
				return done, err
			}
		}
		done += n
		w.at += int64(n)
	}
	return done, nil
}

// free reports whether the next n bytes are in a hole, or behind the end.
func (w *holeWriter) free(n int64) (bool, error) {
	data, err := w.file.Seek(w.at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return true, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return false, nil
	}
	return err == nil && data >= w.at+n, err
}

// run is how many bytes of p come first that are all of zero blocks, or all of others.
func run(p []byte) (n int, zero bool) {
	for n < len(p) {
		block := p[n:min(n+holeBlock, len(p))]
		isZero := bytes.Equal(block, zeros[:len(block)])
		if n > 0 && isZero != zero {
			return n, zero
		}
		zero = isZero
		n += len(block)
	}
	return n, zero
}

var zeros [holeBlock]byte

// finish makes the file as long as what was written, be it that it ends in a hole.
func (w *holeWriter) finish() error { return w.file.Truncate(w.at) }

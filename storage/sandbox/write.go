package sandbox

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/copyfleet/copyfleet/storage"
)

// bufferSize is what a copy in progress holds in memory, in bytes.
const bufferSize = 256 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// write copies the body to the file and holds it to its announced size.
func (d *destination) write(ctx context.Context, file io.Writer, body io.Reader, size int64) (int64, error) {
	buffer, _ := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	var total int64
	for {
		n, end, err := d.read(ctx, body, buffer[:])
		if err != nil {
			return total, err
		}
		total += int64(n)
		if err := d.checkSize(total, size, end); err != nil {
			return total, err
		}
		if n > 0 {
			if _, err := file.Write(buffer[:n]); err != nil {
				return total, d.store.fail("write", d.place, err)
			}
		}
		if end {
			return total, nil
		}
	}
}

// writeWhole writes the content to a new file.
func (d *destination) writeWhole(ctx context.Context, file *os.File, content storage.Content) (int64, error) {
	if !content.Sparse {
		return d.write(ctx, file, content.Body, content.Size)
	}
	to := &holeWriter{file: file}
	n, err := d.write(ctx, to, content.Body, content.Size)
	if err != nil {
		return n, err
	}
	if err := to.finish(); err != nil {
		return n, d.store.fail("write", d.place, err)
	}
	return n, nil
}

// sendStep is what is copied from file to file before it is asked again whether to go on, in bytes.
const sendStep = 16 << 20

// send has the system copy the body to the file.
func (d *destination) send(ctx context.Context, file *os.File, body storage.FileSender, size int64) (int64, error) {
	var total int64
	for {
		if err := stopped(ctx, "write", d.place); err != nil {
			return total, err
		}
		n, err := body.SendFile(file, sendStep)
		total += n
		end := err == io.EOF //nolint:errorlint // an error that wraps io.EOF is a broken connection, not the end
		if _, classified := errors.AsType[*storage.Error](err); err != nil && !end && !classified {
			return total, d.store.fail("write", d.place, err)
		}
		if err != nil && !end {
			return total, d.foreign("read", err)
		}
		if err := d.checkSize(total, size, end); err != nil || end {
			return total, err
		}
		if n == 0 {
			return total, d.foreign("read", io.ErrNoProgress)
		}
	}
}

// read fills the buffer, so that a body that comes in small pieces does not cost a write for each. end tells that the
// body is over.
func (d *destination) read(ctx context.Context, body io.Reader, buffer []byte) (n int, end bool, err error) {
	for idle := 0; n < len(buffer); {
		if err := stopped(ctx, "write", d.place); err != nil {
			return n, false, err
		}
		m, err := body.Read(buffer[n:])
		n += m
		if err == io.EOF { // an error that wraps io.EOF is a broken connection, not the end
			return n, true, nil
		}
		if err != nil {
			return n, false, d.foreign("read", err)
		}
		if idle++; m > 0 {
			idle = 0
		}
		if idle == maxIdleReads {
			return n, false, d.foreign("read", io.ErrNoProgress)
		}
	}
	return n, false, nil
}

// maxIdleReads is how many times in a row a body may give neither bytes nor an error.
const maxIdleReads = 100

// checkSize compares the bytes that came with those announced.
func (d *destination) checkSize(n, size int64, end bool) error {
	switch {
	case size == storage.UnknownSize:
		return nil
	case n > size:
		return storage.Errorf(storage.Corrupt, "source_long", "write", d.place.subject(), "more than the announced %d bytes came", size)
	case end && n < size:
		return storage.Errorf(storage.Corrupt, "source_short", "write", d.place.subject(), "%d of the announced %d bytes came", n, size)
	}
	return nil
}

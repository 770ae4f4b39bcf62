package sandbox

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/storage"
)

// source is a file in a sandbox.
type source struct {
	store *Store
	place place
}

// Open opens the file without waiting for anybody: a FIFO without a writer would otherwise hold the worker for ever.
func (s *source) Open(ctx context.Context) (*storage.Object, error) {
	if _, _, err := s.place.split("open"); err != nil {
		return nil, err
	}
	if err := stopped(ctx, "open", s.place); err != nil {
		return nil, err
	}
	file, err := s.open()
	if err != nil {
		return nil, s.fail(err)
	}
	info, err := file.Stat()
	if err == nil {
		err = s.readable(info)
	}
	if err != nil {
		_ = file.Close()
		return nil, s.fail(err)
	}
	b := &body{ctx: ctx, source: s, file: file, size: info.Size(), modified: info.ModTime()}
	return &storage.Object{Body: b, Size: b.size, Modified: b.modified}, nil
}

func (s *source) open() (*os.File, error) {
	root, err := s.store.openSandbox(s.place)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.OpenFile(s.place.path[1:], os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
}

// readable refuses what is not a regular file. It looks at the open file, which cannot be swapped any more.
func (s *source) readable(info fs.FileInfo) error {
	switch {
	case info.Mode().IsRegular():
		return nil
	case info.IsDir():
		return storage.Errorf(storage.Invalid, "source_is_directory", "open", s.place.subject(), "it is a directory")
	default:
		return s.notRegular()
	}
}

func (s *source) notRegular() *storage.Error {
	return storage.Errorf(storage.Invalid, "source_not_regular", "open", s.place.subject(), "it is not a regular file")
}

// fail gives an error of opening its meaning for a source.
func (s *source) fail(err error) error {
	if e, ok := errors.AsType[*storage.Error](err); ok {
		return e
	}
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return verdict{storage.NotFound, "sandbox_file_not_found", "File not found in sandbox: " + s.place.path, ""}.
			error("open", s.place, err)
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV), errors.Is(err, unix.EOPNOTSUPP):
		return s.notRegular() // a socket, or a device that nobody drives
	}
	return s.store.fail("open", s.place, err)
}

// body reads a source and holds it to what it was when it was opened. It is used by one goroutine at a time, except
// for Close.
type body struct {
	ctx      context.Context
	source   *source
	file     *os.File
	size     int64
	modified time.Time
	read     int64
	end      error // what every further Read returns: io.EOF, or why the file is not what it was
}

// Read asks for one byte more than is left where p has room for it, so that a file that grew is noticed without a
// further call. The last bytes are given only once the file turned out to be unchanged.
func (b *body) Read(p []byte) (int, error) {
	if err := stopped(b.ctx, "read", b.source.place); err != nil {
		return 0, err
	}
	if b.end != nil {
		return 0, b.end
	}
	if len(p) == 0 {
		return 0, nil
	}
	left := b.size - b.read
	n, err := b.file.Read(p[:min(int64(len(p)), left+1)])
	if err != nil && err != io.EOF { // os.File returns io.EOF itself
		return 0, b.source.store.fail("read", b.source.place, err)
	}
	if int64(n) < left && n > 0 {
		b.read += int64(n)
		return n, nil
	}
	if b.end = b.verify(int64(n), left, int64(len(p)) > left); b.end != nil {
		return 0, b.end
	}
	b.read, b.end = b.size, io.EOF
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// verify checks the file at its end: n bytes came where left were expected, probed tells if more could have come.
func (b *body) verify(n, left int64, probed bool) error {
	if n < left {
		return b.corrupt("source_short", "the file ended after %d of %d bytes", b.read+n, b.size)
	}
	if n == left && !probed {
		extra, err := b.file.ReadAt(make([]byte, 1), b.size)
		if err != nil && err != io.EOF { // os.File returns io.EOF itself
			return b.source.store.fail("read", b.source.place, err)
		}
		n += int64(extra)
	}
	if n > left {
		return b.corrupt("source_changed", "the file grew beyond its %d bytes while it was read", b.size)
	}
	info, err := b.file.Stat()
	if err != nil {
		return b.source.store.fail("read", b.source.place, err)
	}
	if info.Size() != b.size || !info.ModTime().Equal(b.modified) {
		return b.corrupt("source_changed", "the file was modified while it was read")
	}
	return nil
}

func (b *body) corrupt(code, format string, args ...any) error {
	e := storage.Errorf(storage.Corrupt, code, "read", b.source.place.subject(), format, args...)
	e.Hint = "copy it when nothing writes to it any more"
	return e
}

// Close closes the file.
func (b *body) Close() error { return b.file.Close() }

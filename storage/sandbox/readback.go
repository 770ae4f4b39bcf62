package sandbox

import (
	"context"
	"io"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/storage"
)

// OpenUpload reads what was stored.
func (d *destination) OpenUpload(ctx context.Context, upload string, offset int64) (io.ReadCloser, error) {
	u, dir, _, err := d.reach(ctx, "open", upload)
	if err != nil {
		return nil, err
	}
	defer dir.close()
	if offset < 0 || offset > u.size {
		return nil, storage.Errorf(storage.Invalid, "range_invalid", "open", d.place.subject(), "byte %d is none of its %d", offset, u.size)
	}
	file, err := d.openUpload(dir, u, u.hidden(), "open", unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return &stored{ctx: ctx, destination: d, file: file, at: offset, size: u.size}, nil
}

// stored reads a hidden file.
type stored struct {
	ctx         context.Context
	destination *destination
	file        *os.File
	at, size    int64
}

// Read reads on, up to the length that was begun.
func (s *stored) Read(p []byte) (int, error) {
	if err := stopped(s.ctx, "read", s.destination.place); err != nil {
		return 0, err
	}
	p = p[:min(int64(len(p)), s.size-s.at, math.MaxInt32)]
	if len(p) == 0 {
		if s.at == s.size {
			return 0, io.EOF
		}
		return 0, nil
	}
	n, err := s.file.ReadAt(p, s.at)
	s.at += int64(n)
	switch {
	case n > 0 || err == nil:
		return n, nil
	case err == io.EOF: // os.File returns io.EOF itself
		return 0, s.destination.gone("read", "its length was changed")
	}
	return 0, s.destination.store.fail("read", s.destination.place, err)
}

// Close closes the file.
func (s *stored) Close() error { return s.file.Close() }

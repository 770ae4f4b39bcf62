package sandbox

import (
	"context"
	"errors"
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
	file, is, err := s.openRegular(ctx)
	if err != nil {
		return nil, err
	}
	b := &body{ctx: ctx, source: s, file: file, is: is, limit: is.size, ranged: false}
	return is.object(b, is.size), nil
}

// openRegular opens the file and tells what state it is in.
func (s *source) openRegular(ctx context.Context) (*os.File, state, error) {
	if _, _, err := s.place.split("open"); err != nil {
		return nil, state{}, err
	}
	if err := stopped(ctx, "open", s.place); err != nil {
		return nil, state{}, err
	}
	file, err := s.open()
	if err != nil {
		return nil, state{}, s.fail(err)
	}
	is, err := s.stateOf(file)
	if err != nil {
		_ = file.Close()
		return nil, state{}, s.fail(err)
	}
	return file, is, nil
}

func (s *source) open() (*os.File, error) {
	root, err := s.store.openSandbox(s.place)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.OpenFile(s.place.path[1:], os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
}

// stateOf refuses what is not a regular file. It looks at the open file, which cannot be swapped any more.
func (s *source) stateOf(file *os.File) (state, error) {
	var st unix.Stat_t
	if err := uninterrupted(func() error { return unix.Fstat(int(file.Fd()), &st) }); err != nil {
		return state{}, err
	}
	switch uint32(st.Mode) & unix.S_IFMT { //nolint:unconvert // 16 bits on darwin
	case unix.S_IFREG:
		return state{size: st.Size, blocks: st.Blocks, modified: time.Unix(st.Mtim.Unix()), changed: time.Unix(st.Ctim.Unix())}, nil
	case unix.S_IFDIR:
		return state{}, storage.Errorf(storage.Invalid, "source_is_directory", "open", s.place.subject(), "it is a directory")
	}
	return state{}, s.notRegular()
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

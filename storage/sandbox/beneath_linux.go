package sandbox

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// openBeneath opens the directory dir of a sandbox in one system call, where the system has openat2(2) and there are no links on the
// way, nor above it below the root: without links nothing leads out of the sandbox. It reports whether it did; if not,
// os.Root says what is wrong, or finds its way, at some ten calls.
func (s *Store) openBeneath(p place, dir string) (directory, bool) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	fd := -1
	var failed error
	// Control keeps the descriptor from being closed, and its number from being another's, meanwhile.
	err := s.top.Control(func(top uintptr) { fd, failed = unix.Openat2(int(top), p.org+"/"+p.sandbox+"/"+dir, &how) })
	if err != nil || failed != nil {
		return directory{}, false
	}
	return directory{os.NewFile(uintptr(fd), dir)}, true
}

// within is open for what is not mounted: another mount of the same file system is told from a directory by nothing else. It fails with EXDEV.
func (d directory) within(name string) (directory, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS,
	}
	fd := -1
	err := uninterrupted(func() (err error) {
		fd, err = unix.Openat2(d.fd(), name, &how)
		return err
	})
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // an old kernel, or a filter of system calls
		return d.open(name)
	}
	if err != nil {
		return directory{}, err
	}
	return directory{os.NewFile(uintptr(fd), name)}, nil
}

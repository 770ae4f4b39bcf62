package sandbox

import (
	"os"

	"golang.org/x/sys/unix"
)

// openBeneath opens the directory dir of a sandbox in two system calls, where the system has openat2(2) and nothing is unusual: the
// sandbox is a real directory, and every link on the way to dir stays inside it. It reports whether it did; if not, os.Root
// says what is wrong, or finds its way, at some ten calls.
func (s *Store) openBeneath(p place, dir string) (directory, bool) {
	fd := -1
	// Control keeps the descriptor from being closed, and its number from being another's, meanwhile.
	err := s.top.Control(func(top uintptr) { fd = openBeneath(int(top), p.org+"/"+p.sandbox, dir) })
	if err != nil || fd < 0 {
		return directory{}, false
	}
	return directory{os.NewFile(uintptr(fd), dir)}, true
}

func openBeneath(top int, sandbox, dir string) int {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	place, err := unix.Openat2(top, sandbox, &how)
	if err != nil {
		return -1
	}
	defer unix.Close(place) //nolint:errcheck // nothing was written
	how = unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH}
	fd, err := unix.Openat2(place, dir, &how)
	if err != nil {
		return -1
	}
	return fd
}

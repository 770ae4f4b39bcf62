package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// directory is an open directory. All its methods take a single name, without a slash, and follow no link, so they
// cannot leave it whatever happens to its path meanwhile.
type directory struct{ file *os.File }

// openDirectory opens the directory name below root; symbolic links on the way are followed as far as they stay inside.
func openDirectory(root *os.Root, name string) (directory, error) {
	// O_NONBLOCK is there only because os.File spends three more calls on a descriptor that lacks it.
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	return directory{f}, err
}

func (d directory) close() { _ = d.file.Close() }

func (d directory) fd() int { return int(d.file.Fd()) }

// create makes a new file for writing.
func (d directory) create(name string) (*os.File, error) { return d.createAs(name, filePerm) }

// createAs is create with permissions of the caller's choice, less the umask.
func (d directory) createAs(name string, perm uint32) (*os.File, error) {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	var fd int
	err := uninterrupted(func() (err error) {
		fd, err = unix.Openat(d.fd(), name, flags, perm)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// unlink removes a file; that there is none is no error.
func (d directory) unlink(name string) error {
	err := uninterrupted(func() error { return unix.Unlinkat(d.fd(), name, 0) })
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func (d directory) rename(from, to string) error {
	return uninterrupted(func() error { return unix.Renameat(d.fd(), from, d.fd(), to) })
}

// reopen opens a file that is there, and never waits for anybody.
func (d directory) reopen(name string, mode int) (*os.File, error) {
	var fd int
	err := uninterrupted(func() (err error) {
		fd, err = unix.Openat(d.fd(), name, mode|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// linkNew is a rename that replaces nothing, in two steps: who dies between them leaves both names.
func (d directory) linkNew(from, to string) error {
	if err := uninterrupted(func() error { return unix.Linkat(d.fd(), from, d.fd(), to, 0) }); err != nil {
		return err
	}
	return d.unlink(from)
}

// kind returns the S_IFMT bits of what bears a name, and 0 if nothing does.
func (d directory) kind(name string) (uint32, error) {
	var st unix.Stat_t
	err := uninterrupted(func() error { return unix.Fstatat(d.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	return uint32(st.Mode) & unix.S_IFMT, err //nolint:unconvert // 16 bits on darwin
}

// uninterrupted repeats a system call that a signal broke off.
func uninterrupted(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// makeDirs creates what lacks of the directory name below root. The first missing level is found by bisection and the
// rest is walked with a handle a level, so that a path of two thousand levels costs thousands of calls, not millions.
func (s *Store) makeDirs(root *os.Root, name string) error {
	levels := strings.Split(name, "/")
	missing := sort.Search(len(levels), func(i int) bool {
		_, err := root.Stat(path.Join(levels[:i+1]...))
		return errors.Is(err, fs.ErrNotExist)
	})
	base := path.Join(".", path.Join(levels[:missing]...))
	parent, err := root.OpenRoot(base + "/.") // see openSandbox for the dot
	if err != nil {
		return err
	}
	for _, level := range levels[missing:] {
		if parent, err = s.descend(parent, level); err != nil {
			return err
		}
	}
	return parent.Close()
}

// descend creates a directory in parent, unless it is there already, closes parent and returns the directory.
func (s *Store) descend(parent *os.Root, name string) (*os.Root, error) {
	defer parent.Close()
	err := parent.Mkdir(name, dirPerm)
	switch {
	case err == nil && s.sync:
		err = s.syncRoot(parent)
	case errors.Is(err, fs.ErrExist):
		// Somebody was faster, or a link points to nothing: such a link is not a missing directory.
		var info fs.FileInfo
		if info, err = parent.Lstat(name); err == nil && !info.IsDir() {
			err = unix.ENOTDIR
		}
	}
	if err != nil {
		return nil, err
	}
	return parent.OpenRoot(name + "/.")
}

// syncRoot makes the names in a directory durable.
func (s *Store) syncRoot(root *os.Root) error {
	d, err := openDirectory(root, ".")
	if err != nil {
		return err
	}
	defer d.close()
	return s.dirs.sync(d.file)
}

package sandbox

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Calls that trees are made and moved with. Like all methods of a directory they take single names and follow no link.

func (d directory) mkdir(name string, perm uint32) error {
	return uninterrupted(func() error { return unix.Mkdirat(d.fd(), name, perm) })
}

func (d directory) rmdir(name string) error {
	return uninterrupted(func() error { return unix.Unlinkat(d.fd(), name, unix.AT_REMOVEDIR) })
}

func (d directory) symlink(target, name string) error {
	return uninterrupted(func() error { return unix.Symlinkat(target, d.fd(), name) })
}

// open opens a directory in the directory.
func (d directory) open(name string) (directory, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	var fd int
	err := uninterrupted(func() (err error) {
		fd, err = unix.Openat(d.fd(), name, flags, 0)
		return err
	})
	if err != nil {
		return directory{}, err
	}
	return directory{os.NewFile(uintptr(fd), name)}, nil
}

// link gives a file another name, which nothing bears yet.
func link(from directory, name string, to directory, as string) error {
	return uninterrupted(func() error { return unix.Linkat(from.fd(), name, to.fd(), as, 0) })
}

// move renames, over what is there.
func move(from directory, name string, to directory, as string) error {
	return uninterrupted(func() error { return unix.Renameat(from.fd(), name, to.fd(), as) })
}

// moveNewByHand is moveNew where the system has no such rename: a directory replaces an empty one that was just made, so nobody else's.
func moveNewByHand(from directory, name string, to directory, as string) error {
	kind, err := from.kind(name)
	if err != nil {
		return err
	}
	if kind == 0 {
		return unix.ENOENT
	}
	if kind != unix.S_IFDIR {
		if err := link(from, name, to, as); err != nil {
			return err
		}
		return from.unlink(name)
	}
	if err := to.mkdir(as, dirPerm); err != nil {
		return err
	}
	if err = move(from, name, to, as); errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.ENOTDIR) {
		return unix.EEXIST
	}
	if err != nil {
		_ = to.rmdir(as) // empty, or somebody else's by now
	}
	return err
}

// unsupported reports that a file system has no such call.
func unsupported(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP)
}

// same reports whether a name is that of the open directory other.
func (d directory) same(name string, other directory) bool {
	var a, b unix.Stat_t
	err := uninterrupted(func() error { return unix.Fstatat(d.fd(), name, &a, unix.AT_SYMLINK_NOFOLLOW) })
	if err == nil {
		err = uninterrupted(func() error { return unix.Fstat(other.fd(), &b) })
	}
	return err == nil && a.Dev == b.Dev && a.Ino == b.Ino
}

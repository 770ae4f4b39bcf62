package sandbox

import (
	"errors"

	"golang.org/x/sys/unix"
)

// renameNew is a rename that replaces nothing: it fails with EEXIST where something is. File systems that have no such rename (NFS) have
// links.
func (d directory) renameNew(from, to string) error {
	err := uninterrupted(func() error { return unix.Renameat2(d.fd(), from, d.fd(), to, unix.RENAME_NOREPLACE) })
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) {
		return d.linkNew(from, to)
	}
	return err
}

// moveNew renames to another directory of the same file system, and replaces nothing.
func moveNew(from directory, name string, to directory, as string) error {
	err := uninterrupted(func() error { return unix.Renameat2(from.fd(), name, to.fd(), as, unix.RENAME_NOREPLACE) })
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) {
		return moveNewByHand(from, name, to, as)
	}
	return err
}

// exchange swaps two names. A file system that cannot, says EINVAL, ENOSYS or EOPNOTSUPP.
func (d directory) exchange(a, b string) error {
	return uninterrupted(func() error { return unix.Renameat2(d.fd(), a, d.fd(), b, unix.RENAME_EXCHANGE) })
}

//go:build !linux

package sandbox

import "golang.org/x/sys/unix"

// renameNew is a rename that replaces nothing: it fails with EEXIST where something is.
func (d directory) renameNew(from, to string) error { return d.linkNew(from, to) }

// moveNew renames to another directory of the same file system, and replaces nothing.
func moveNew(from directory, name string, to directory, as string) error {
	return moveNewByHand(from, name, to, as)
}

// exchange is what other systems do not have, or under other names.
func (directory) exchange(_, _ string) error { return unix.ENOSYS }

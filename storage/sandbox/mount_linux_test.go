package sandbox_test

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// mountSmall mounts a file system of size bytes at dir until the test ends.
func mountSmall(t *testing.T, dir string, size int) error {
	t.Helper()
	if err := unix.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		return err
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return nil
}

// mountBind shows the directory at dir, too, until the test ends: another mount of the same file system.
func mountBind(t *testing.T, directory, dir string) error {
	t.Helper()
	if err := unix.Mount(directory, dir, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return nil
}

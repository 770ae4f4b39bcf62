package sandbox_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
)

// describe returns class and code of an error.
func describe(err error) string {
	e, ok := errors.AsType[*storage.Error](err)
	if !ok {
		return fmt.Sprintf("unclassified: %v", err)
	}
	return fmt.Sprint(int(e.Class), " ", e.Code)
}

func TestSystemErrors(t *testing.T) {
	for _, c := range []struct {
		errno unix.Errno
		class storage.Class
		code  string
	}{
		{unix.ENOSPC, storage.NoSpace, "no_space"},
		{unix.EDQUOT, storage.NoSpace, "no_space"},
		{unix.EFBIG, storage.TooLarge, "file_too_large"},
		{unix.EACCES, storage.Denied, "permission_denied"},
		{unix.EPERM, storage.Denied, "permission_denied"},
		{unix.EROFS, storage.Denied, "permission_denied"},
		{unix.ENAMETOOLONG, storage.Invalid, "name_too_long"},
		{unix.EILSEQ, storage.Invalid, "name_not_accepted"},
		{unix.ELOOP, storage.Invalid, "symlink_loop"},
		{unix.ENOTDIR, storage.Conflict, "parent_not_directory"},
		{unix.EISDIR, storage.Conflict, "destination_is_directory"},
		{unix.EMFILE, storage.Unavailable, "too_many_open_files"},
		{unix.ENFILE, storage.Unavailable, "too_many_open_files"},
		{unix.EIO, storage.Unavailable, "io_error"},
		{unix.ESTALE, storage.Unavailable, "io_error"},
	} {
		for _, err := range []error{c.errno, &fs.PathError{Op: "openat", Path: "/host/path", Err: c.errno}, os.NewSyscallError("x", c.errno)} {
			got := sandbox.Classify(err)
			expectCode(t, got, c.class, c.code)
			expectNoPath(t, got, "/host/path")
			if !errors.Is(got, c.errno) {
				t.Errorf("%v does not wrap %v", got, c.errno)
			}
		}
	}
}

// TestPermissionDenied writes where an ordinary user may not. Root, whom no mode stops, becomes nobody for it, in a
// child: identity belongs to a whole process.
func TestPermissionDenied(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	if err := os.Mkdir(b.file("/d"), 0o555); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint(int(storage.Denied), " permission_denied")
	if got := inChild(t, "unprivileged", b.root); got != want {
		t.Errorf("class and code are %q, want %q", got, want)
	}
}

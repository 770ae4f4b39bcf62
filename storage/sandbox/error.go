package sandbox

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/storage"
)

// verdict is what a system error means to the fleet.
type verdict struct {
	class               storage.Class
	code, message, hint string
}

// verdicts of system errors. What is not listed is io_error, which is worth another attempt.
var verdicts = map[unix.Errno]verdict{
	unix.ENOSPC:       {storage.NoSpace, "no_space", "the file system is full", "Free space where the sandboxes are."},
	unix.EDQUOT:       {storage.NoSpace, "no_space", "the disk quota is used up", "Raise the quota or remove files."},
	unix.EFBIG:        {storage.TooLarge, "file_too_large", "the file is larger than the file system or the process may write", ""},
	unix.EACCES:       {storage.Denied, "permission_denied", "the worker has no permission", ""},
	unix.EPERM:        {storage.Denied, "permission_denied", "the operation is not permitted", ""},
	unix.EROFS:        {storage.Denied, "permission_denied", "the file system is read-only", ""},
	unix.ENAMETOOLONG: {storage.Invalid, "name_too_long", "a name in the path is too long for the file system", ""},
	unix.EILSEQ:       {storage.Invalid, "name_not_accepted", "the file system does not accept a name in the path", ""},
	unix.ELOOP:        {storage.Invalid, "symlink_loop", "the path has too many symbolic links", ""},
	unix.ENOTDIR: {
		storage.Conflict, "parent_not_directory", "a parent in the path is not a directory",
		"Choose another path, or remove what stands in the place of a directory.",
	},
	unix.EISDIR: {storage.Conflict, "destination_is_directory", "the destination is a directory", ""},
	unix.EBUSY:  {storage.Conflict, "destination_busy", "it is a mount point, or the system is using it", ""},
	unix.EXDEV: {
		storage.Conflict, "destination_other_filesystem", "a part of it is on another file system", "Choose a destination without mount points in it.",
	},
	unix.EMFILE: {storage.Unavailable, "too_many_open_files", "the worker has too many open files", "Raise its limit of open files or lower its slots."},
	unix.ENFILE: {storage.Unavailable, "too_many_open_files", "the machine has too many open files", ""},
	unix.ENOENT: {storage.Interrupted, "parent_removed", "the directory was removed meanwhile", ""},
}

// fail makes the error for what went wrong with the place in operation op.
func (s *Store) fail(op string, p place, err error) *storage.Error {
	v := verdict{storage.Unavailable, "io_error", "the file system failed", ""}
	errno, system := errors.AsType[unix.Errno](err)
	switch {
	case errors.Is(err, os.ErrClosed):
		v = verdict{storage.Internal, "closed", "it was closed", ""}
	case errors.Is(err, s.escapes):
		v = verdict{storage.Denied, "path_escapes", "the path leaves the sandbox", "Links must be relative and stay inside the sandbox."}
	case errors.Is(err, errSandboxNotDirectory):
		v = verdict{storage.Conflict, "sandbox_not_directory", "the sandbox is not a directory", "Remove what stands in its place."}
	case system:
		if known, ok := verdicts[errno]; ok {
			v = known
		}
	}
	return v.error(op, p, err)
}

func (v verdict) error(op string, p place, err error) *storage.Error {
	return &storage.Error{
		Class: v.class, Code: v.code, Op: op, Subject: p.subject(), Message: v.message, Hint: v.hint, Err: cause(err),
	}
}

// cause strips the wrapping that names a path of this machine.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.SyscallError](err); ok {
		return e.Err
	}
	return err
}

// stopped returns the error for a context that ended, and nil for one that did not.
func stopped(ctx context.Context, op string, p place) error {
	if ctx.Err() == nil {
		return nil
	}
	return verdict{storage.Interrupted, "interrupted", "the copy was stopped", ""}.error(op, p, context.Cause(ctx))
}

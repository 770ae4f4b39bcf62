package sandbox

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncfs writes everything of the file system to disk that a file is on.
func syncfs(file *os.File) error {
	return uninterrupted(func() error { return unix.Syncfs(int(file.Fd())) })
}

// fdatasync writes a file to disk, without what is not needed to read it.
func fdatasync(file *os.File) error {
	return uninterrupted(func() error { return unix.Fdatasync(int(file.Fd())) })
}

// unseen tells an error in writing the file to disk of which file was not told yet, whatever byte it was at. Somebody else has synced it.
func unseen(file *os.File) error {
	err := uninterrupted(func() error { return unix.SyncFileRange(int(file.Fd()), 0, 1, unix.SYNC_FILE_RANGE_WAIT_BEFORE) })
	if errors.Is(err, unix.EIO) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return err
	}
	if err != nil {
		return file.Sync()
	}
	return nil
}

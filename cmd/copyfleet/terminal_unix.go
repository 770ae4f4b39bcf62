//go:build unix

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// windowSize asks the terminal behind a file for its size; is tells whether there is one.
func windowSize(file *os.File) (columns, rows int, is bool) {
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0, false
	}
	return int(size.Col), int(size.Row), true
}

// openFiles is how many files this process may open, now and at most.
func openFiles() (now, most uint64, err error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, 0, err //nolint:wrapcheck // an errno says all
	}
	return limit.Cur, limit.Max, nil
}

// freeSpace is how many bytes a file system has left for us.
func freeSpace(dir string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return fs.Bavail * uint64(fs.Bsize), nil //nolint:gosec // a block size is positive
}

// openFile opens a file below a directory for reading. Should it have become a named pipe meanwhile, that does not wait for its other end.
func openFile(root *os.Root, name string) (*os.File, error) {
	return root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) //nolint:wrapcheck // names the file
}

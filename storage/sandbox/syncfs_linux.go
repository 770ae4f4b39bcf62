package sandbox

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncfs writes everything of the file system to disk that a file is on.
func syncfs(file *os.File) error {
	return uninterrupted(func() error { return unix.Syncfs(int(file.Fd())) })
}

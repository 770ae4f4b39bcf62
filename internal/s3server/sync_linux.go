package s3server

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncFilesystem writes back the file system that holds f: one call for any number of files.
func syncFilesystem(f *os.File) error {
	return unix.Syncfs(int(f.Fd())) //nolint:wrapcheck,gosec // wrapped by the caller; a descriptor fits
}

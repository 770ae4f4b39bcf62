package s3server

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncFilesystem writes back the file system that holds f: one call for any number of files. Since Linux 5.8 it
// reports what could not be written.
func syncFilesystem(f *os.File) error { return unix.Syncfs(int(f.Fd())) }

//go:build !linux

package s3server

import (
	"os"
	"syscall"
)

// syncFilesystem writes back all file systems: only Linux can do it for one.
func syncFilesystem(*os.File) error {
	syscall.Sync()
	return nil
}

//go:build !linux

package sandbox

import (
	"errors"
	"os"
)

// syncfs is what other systems do not have, or without telling errors.
func syncfs(*os.File) error { return errors.ErrUnsupported }

// fdatasync writes a file to disk.
func fdatasync(file *os.File) error { return file.Sync() }

// unseen tells an error in writing the file to disk of which file was not told yet.
func unseen(file *os.File) error { return file.Sync() }

//go:build !linux

package sandbox

import (
	"errors"
	"os"
)

// syncfs is what other systems do not have, or without telling errors.
func syncfs(*os.File) error { return errors.ErrUnsupported }

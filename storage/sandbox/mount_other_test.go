//go:build !linux

package sandbox_test

import (
	"errors"
	"testing"
)

// mountSmall mounts nothing: there is no such file system without a device.
func mountSmall(*testing.T, string, int) error { return errors.ErrUnsupported }

// mountBind mounts nothing either.
func mountBind(*testing.T, string, string) error { return errors.ErrUnsupported }

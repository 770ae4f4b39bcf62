//go:build !linux

package sandbox

import (
	"context"
	"os"
)

// allocate makes a new file size bytes long, without taking the space for it.
func (d *destination) allocate(_ context.Context, file *os.File, size int64) error {
	return d.allocateSparse(file, size)
}

package sandbox

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// allocateStep is what is asked of the file system at once, in bytes: some undo all of a call that a signal breaks off.
const allocateStep = 256 << 20

// allocate makes a new file size bytes long and takes the space for it, so that a lack of it is told before the first byte is
// copied. Where the file system cannot, the file is sparse.
func (d *destination) allocate(ctx context.Context, file *os.File, size int64) error {
	for offset := int64(0); offset < size; offset += allocateStep {
		if err := stopped(ctx, "allocate", d.place); err != nil {
			return err
		}
		err := uninterrupted(func() error { return unix.Fallocate(int(file.Fd()), 0, offset, min(allocateStep, size-offset)) })
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
			return d.allocateSparse(file, size)
		}
		if err != nil {
			return d.store.fail("allocate", d.place, err)
		}
	}
	return nil
}

package sandbox

import (
	"context"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/storage"
)

// Complete gives the hidden file the name of the destination.
func (d *destination) Complete(
	ctx context.Context, upload string, content storage.PartContent, parts []storage.PartStored, ready func() error,
) (storage.Stored, error) {
	u, dir, name, err := d.reach(ctx, "commit", upload)
	if err == nil {
		defer dir.close()
		err = d.completeIn(ctx, dir, name, u, completion{content, parts, ready})
	}
	if err != nil {
		return storage.Stored{}, err
	}
	return storage.Stored{Bytes: u.size}, nil
}

// completion is what Complete was told.
type completion struct {
	content storage.PartContent
	parts   []storage.PartStored
	ready   func() error
}

// completeIn does the work in the open directory.
func (d *destination) completeIn(ctx context.Context, dir directory, name string, u upload, c completion) error {
	source := u.hidden()
	if id, err := dir.identify(name); err == nil && id.regular && id.size == u.size && id.same(u.id) {
		// It became visible by a call whose answer was lost. A rename in two steps may have left the other name.
		if err := dir.unlink(u.hidden()); err != nil {
			return d.store.fail("commit", d.place, err)
		}
		if !c.content.Fresh {
			return d.syncName(dir)
		}
		source, c.content.OnlyNew = name, false // what is replaced is our own
	}
	file, err := d.openUpload(dir, u, source, "commit", unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read
	if err := c.content.Check("commit", d.place.subject(), c.parts); err != nil {
		return err
	}
	if c.content.Size != u.size {
		return storage.Errorf(storage.Invalid, "part_size_invalid", "commit", d.place.subject(), "%d bytes were begun, not %d", u.size, c.content.Size)
	}
	if !c.content.Fresh {
		return d.showUpload(dir, name, source, u, c)
	}
	if err := d.checkTokens(); err != nil {
		return err
	}
	if err := d.refresh(ctx, dir, file, u); err != nil {
		return err
	}
	fresh := hiddenPrefix + d.temp
	if err := d.showUpload(dir, name, fresh, u, c); err != nil {
		_ = dir.unlink(fresh) // it has its other name if only that could not be made durable
		return err
	}
	return nil
}

// showUpload makes visible what is in the hidden file, be it that of the upload or a copy.
func (d *destination) showUpload(dir directory, name, hidden string, u upload, c completion) error {
	if err := d.ready(dir, name, c.content.OnlyNew, c.ready); err != nil {
		return err
	}
	if err := d.show(dir, hidden, name, c.content.OnlyNew); err != nil {
		return err
	}
	failpoint.Hit(failpoint.Renamed)
	if hidden != u.hidden() {
		if err := dir.unlink(u.hidden()); err != nil {
			return d.store.fail("commit", d.place, err)
		}
	}
	return d.syncName(dir)
}

// refresh copies the content to a hidden file of this attempt's own, which nobody else has open. The predecessors' go first.
func (d *destination) refresh(ctx context.Context, dir directory, from *os.File, u upload) error {
	if err := d.fence(dir); err != nil {
		return err
	}
	to, err := dir.create(hiddenPrefix + d.temp)
	if err != nil {
		return d.failCreate(err)
	}
	if err := d.copyWhole(ctx, to, from, u.size); err != nil {
		_ = to.Close() // closed before, unless something failed
		_ = dir.unlink(hiddenPrefix + d.temp)
		return err
	}
	return nil
}

// copyWhole copies a file and leaves the copy closed and, if so configured, durable.
func (d *destination) copyWhole(ctx context.Context, to, from *os.File, size int64) error {
	holes := hollow(from)
	for left := size; left > 0; {
		if err := stopped(ctx, "copy", d.place); err != nil {
			return err
		}
		var n int64
		var err error
		if holes {
			n, err = sendStretch(to, from, size-left, min(left, refreshStep))
		} else {
			n, err = to.ReadFrom(io.LimitReader(from, min(left, refreshStep))) // copy_file_range(2), where the system has it
		}
		if err != nil {
			return d.store.fail("copy", d.place, err)
		}
		if left -= n; n == 0 {
			return d.gone("copy", "its length was changed")
		}
	}
	if d.store.sync {
		if err := d.store.files.sync(to); err != nil {
			return d.store.fail("sync", d.place, err)
		}
	}
	if err := to.Close(); err != nil {
		return d.store.fail("copy", d.place, err)
	}
	return nil
}

// refreshStep is what is copied before it is asked again whether to go on, in bytes.
const refreshStep = 64 << 20

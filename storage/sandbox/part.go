package sandbox

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/storage"
)

// PartLimits returns none: a file has no parts.
func (d *destination) PartLimits() storage.PartLimits { return storage.PartLimits{} }

// reach opens the directory of an upload, which is not made again if it is gone.
func (d *destination) reach(ctx context.Context, op, upload string) (u upload, dir directory, name string, err error) {
	dirName, name, err := d.place.split(op)
	if err == nil {
		u, err = d.parseUpload(op, upload)
	}
	if err == nil {
		err = stopped(ctx, op, d.place)
	}
	if err != nil {
		return u, dir, name, err
	}
	dir, err = d.existingParent(dirName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = d.gone(op, "its directory is not there")
	case err != nil:
		err = d.store.fail("open", d.place, err)
	}
	return u, dir, name, err
}

// PutPart writes a part to its place in the hidden file.
func (d *destination) PutPart(ctx context.Context, upload string, part storage.Part) (storage.PartStored, error) {
	u, dir, _, err := d.reach(ctx, "write", upload)
	if err != nil {
		return storage.PartStored{}, err
	}
	defer dir.close()
	if part.Offset < 0 || part.Size < 0 || part.Offset > u.size-part.Size {
		return storage.PartStored{}, storage.Errorf(storage.Invalid, "part_outside", "write", d.place.subject(),
			"%d bytes at %d are not within the %d bytes", part.Size, part.Offset, u.size)
	}
	file, err := d.openUpload(dir, u, u.hidden(), "write", unix.O_WRONLY)
	if err != nil {
		return storage.PartStored{}, err
	}
	defer func() { _ = file.Close() }() // closed before, unless something failed
	var to io.Writer = io.NewOffsetWriter(file, part.Offset)
	if hollow(file) {
		to = &holeWriter{file: file, at: part.Offset}
	}
	if _, err := d.write(ctx, to, part.Body, part.Size); err != nil {
		return storage.PartStored{}, err
	}
	if d.store.sync {
		if err := d.store.syncPart(file); err != nil {
			return storage.PartStored{}, d.store.fail("sync", d.place, err)
		}
	}
	if err := d.whole(file, u, "write"); err != nil { // it may have been removed meanwhile
		return storage.PartStored{}, err
	}
	if err := file.Close(); err != nil { // network file systems tell only here that a write failed
		return storage.PartStored{}, d.store.fail("write", d.place, err)
	}
	return storage.PartStored{Number: part.Number, Size: part.Size}, nil
}

// Abort removes the hidden file.
func (d *destination) Abort(ctx context.Context, upload string) error {
	u, dir, _, err := d.reach(ctx, "abort", upload)
	if e, ok := errors.AsType[*storage.Error](err); ok && e.Code == storage.CodeUploadGone {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.close()
	if err := dir.unlink(u.hidden()); err != nil && !errors.Is(err, unix.EISDIR) { // a directory is none of ours
		return d.store.fail("abort", d.place, err)
	}
	return nil
}

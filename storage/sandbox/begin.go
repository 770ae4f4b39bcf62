package sandbox

import (
	"context"
	"os"

	"github.com/copyfleet/copyfleet/storage"
)

// Begin creates a hidden file as long as the content, and takes the space for it, unless it may have holes.
func (d *destination) Begin(ctx context.Context, content storage.PartContent) (string, error) {
	dirName, name, err := d.place.split("begin")
	if err == nil {
		err = d.checkTokens()
	}
	if err == nil {
		err = stopped(ctx, "begin", d.place)
	}
	if err == nil && (content.Size < 0 || content.PartSize <= 0) {
		err = storage.Errorf(storage.Invalid, "part_size_invalid", "begin", d.place.subject(), "%d bytes in parts of %d", content.Size, content.PartSize)
	}
	if err != nil {
		return "", err
	}
	dir, err := d.openParent(dirName)
	if err != nil {
		return "", d.store.fail("open", d.place, err)
	}
	defer dir.close()
	if err := d.fence(dir); err != nil {
		return "", err
	}
	if err := d.removeUploads(dir, ""); err != nil {
		return "", err
	}
	if err := d.replaceable(dir, name, content.OnlyNew); err != nil {
		return "", err
	}
	u, err := newUpload(d.temp, content.Size)
	if err != nil {
		return "", d.store.fail("create", d.place, err)
	}
	if err := d.create(ctx, dir, &u, content.Sparse); err != nil {
		_ = dir.unlink(u.hidden())
		return "", err
	}
	return u.String(), nil
}

// create makes the file of an upload and finds out what it is told by.
func (d *destination) create(ctx context.Context, dir directory, u *upload, sparse bool) error {
	file, err := dir.create(u.hidden())
	if err != nil {
		return d.failCreate(err)
	}
	defer func() { _ = file.Close() }() // closed before, unless something failed
	if sparse {
		err = d.allocateSparse(file, u.size)
	} else {
		err = d.allocate(ctx, file, u.size)
	}
	if err != nil {
		return err
	}
	if d.store.sync {
		if err := d.store.files.sync(file); err != nil {
			return d.store.fail("sync", d.place, err)
		}
	}
	if err := file.Close(); err != nil {
		return d.store.fail("create", d.place, err)
	}
	if u.id, err = dir.identify(u.hidden()); err != nil {
		return d.store.fail("create", d.place, err)
	}
	return d.syncName(dir)
}

// allocateSparse makes a file size bytes long.
func (d *destination) allocateSparse(file *os.File, size int64) error {
	if err := file.Truncate(size); err != nil {
		return d.store.fail("allocate", d.place, err)
	}
	return nil
}

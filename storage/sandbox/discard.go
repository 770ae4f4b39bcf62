package sandbox

import (
	"errors"
	"io/fs"
)

// Discard removes the hidden files of the stale attempts and writes nothing: for an item that will not come to its Put. That
// there are none, or that their directory is gone, is no error.
func (d *destination) Discard() error {
	dirName, _, err := d.place.split("clean up")
	if err == nil {
		err = d.checkTokens()
	}
	if err != nil {
		return err
	}
	root, err := d.store.openSandbox(d.place)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return d.store.fail("open", d.place, err)
	}
	defer func() { _ = root.Close() }()
	dir, err := openDirectory(root, dirName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return d.store.fail("open", d.place, err)
	}
	defer dir.close()
	return d.fence(dir)
}

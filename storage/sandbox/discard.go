package sandbox

import (
	"errors"
	"io/fs"
)

// Discard removes the hidden files of the stale attempts and writes nothing: for an item that will not come to its Put. That
// there are none, or that their directory is gone, is no error. What parts were written to stays.
func (d *destination) Discard() error { return d.discardIn(d.fence) }

// DiscardUploads removes what the stale attempts began to write parts to, except the upload keep, of which another record knows ("" is
// none): one of them may have died before it could tell anybody.
func (d *destination) DiscardUploads(keep string) error {
	return d.discardIn(func(dir directory) error { return d.removeUploads(dir, keep) })
}

// discardIn removes something from the directory of the destination, if it is there.
func (d *destination) discardIn(remove func(directory) error) error {
	dirName, _, err := d.place.split("clean up")
	if err == nil {
		err = d.checkTokens()
	}
	if err != nil {
		return err
	}
	dir, err := d.existingParent(dirName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return d.store.fail("open", d.place, err)
	}
	defer dir.close()
	return remove(dir)
}

// existingParent opens the directory of the destination, if it is there.
func (d *destination) existingParent(name string) (directory, error) {
	if dir, ok := d.store.openBeneath(d.place, name); ok {
		return dir, nil
	}
	root, err := d.store.openSandbox(d.place)
	if err != nil {
		return directory{}, err
	}
	defer func() { _ = root.Close() }()
	return openDirectory(root, name)
}

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/storage"
)

// destination is one attempt to write a file in a sandbox.
type destination struct {
	store *Store
	place place
	temp  string
	stale []string
}

// NeedsSize reports false: a file can be written without knowing its length.
func (d *destination) NeedsSize() bool { return false }

// Put writes content to a hidden file beside its destination and renames it.
func (d *destination) Put(ctx context.Context, content storage.Content) (storage.Stored, error) {
	dirName, name, err := d.place.split("write")
	if err == nil {
		err = d.checkTokens()
	}
	if err == nil {
		err = stopped(ctx, "write", d.place)
	}
	if err != nil {
		return storage.Stored{}, err
	}
	dir, err := d.openParent(dirName)
	if err != nil {
		return storage.Stored{}, d.store.fail("open", d.place, err)
	}
	defer dir.close()
	n, err := d.putIn(ctx, dir, name, content)
	if err != nil {
		return storage.Stored{}, err
	}
	return storage.Stored{Bytes: n}, nil
}

func (d *destination) checkTokens() error {
	for _, token := range append([]string{d.temp}, d.stale...) {
		if !validToken(token) {
			return storage.Errorf(storage.Internal, "temp_invalid", "write", d.place.subject(), "the name of a hidden file is not valid")
		}
	}
	return nil
}

// openParent opens the directory of the destination and creates what lacks of it. Somebody in the sandbox may remove
// it again at once; that this goes on for ever is not assumed.
func (d *destination) openParent(name string) (directory, error) {
	if dir, ok := d.store.openBeneath(d.place, name); ok {
		return dir, nil
	}
	var last error
	for range 3 {
		root, err := d.openSandbox()
		if err != nil {
			return directory{}, err
		}
		dir, err := openDirectory(root, name)
		if errors.Is(err, fs.ErrNotExist) {
			last = err
			err = d.store.makeDirs(root, name)
			if err == nil {
				dir, err = openDirectory(root, name)
			}
		}
		_ = root.Close()
		if !errors.Is(err, fs.ErrNotExist) {
			return dir, err
		}
	}
	return directory{}, last
}

func (d *destination) openSandbox() (*os.Root, error) {
	root, err := d.store.openSandbox(d.place)
	if !errors.Is(err, fs.ErrNotExist) {
		return root, err
	}
	if err := d.store.makeDirs(d.store.root, d.place.org+"/"+d.place.sandbox); err != nil {
		return nil, err
	}
	return d.store.openSandbox(d.place)
}

// putIn does the work in the open directory.
func (d *destination) putIn(ctx context.Context, dir directory, name string, content storage.Content) (int64, error) {
	if err := d.fence(dir); err != nil {
		return 0, err
	}
	if content.Size == storage.UnknownSize || content.Size >= leastInParts {
		if err := d.removeUploads(dir, ""); err != nil {
			return 0, err
		}
	}
	// The check that counts comes right before the rename. This one spares a long transfer that cannot end well.
	if content.Size == storage.UnknownSize || content.Size > bufferSize || content.OnlyNew {
		if err := d.replaceable(dir, name, content.OnlyNew); err != nil {
			return 0, err
		}
	}
	file, err := dir.create(hiddenPrefix + d.temp)
	if err != nil {
		return 0, d.failCreate(err)
	}
	committed := false
	defer func() {
		_ = file.Close() // closed before, unless something failed
		if !committed {
			_ = dir.unlink(hiddenPrefix + d.temp)
		}
	}()
	n, err := d.fill(ctx, file, content)
	if err == nil {
		err = d.commit(dir, name, content)
	}
	if err != nil {
		return n, err
	}
	committed = true
	failpoint.Hit(failpoint.Renamed)
	return n, d.syncName(dir)
}

// fence removes the hidden files of predecessors: what is left of a dead one, and the way to commit of a slow one.
func (d *destination) fence(dir directory) error {
	for _, token := range d.stale {
		if err := dir.unlink(hiddenPrefix + token); err != nil {
			return d.store.fail("remove the hidden file of a predecessor", d.place, err)
		}
	}
	return nil
}

// fill writes the content and leaves the file closed and, if so configured, durable.
func (d *destination) fill(ctx context.Context, file *os.File, content storage.Content) (int64, error) {
	var n int64
	var err error
	if sender, ok := content.Body.(storage.FileSender); ok {
		n, err = d.send(ctx, file, sender, content.Size)
	} else {
		n, err = d.writeWhole(ctx, file, content)
	}
	if err != nil {
		return n, err
	}
	if d.store.sync {
		if err := d.store.files.sync(file); err != nil {
			return n, d.store.fail("sync", d.place, err)
		}
	}
	failpoint.Hit(failpoint.TempSynced)
	if err := file.Close(); err != nil { // network file systems tell only here that a write failed
		return n, d.store.fail("write", d.place, err)
	}
	return n, stopped(ctx, "commit", d.place)
}

// commit asks whether the content may become visible and makes it so.
func (d *destination) commit(dir directory, name string, content storage.Content) error {
	if err := d.ready(dir, name, content.OnlyNew, content.Ready); err != nil {
		return err
	}
	return d.show(dir, hiddenPrefix+d.temp, name, content.OnlyNew)
}

// ready asks everybody who has a say.
func (d *destination) ready(dir directory, name string, onlyNew bool, asked func() error) error {
	if err := d.replaceable(dir, name, onlyNew); err != nil {
		return err
	}
	if asked == nil {
		return nil
	}
	if err := asked(); err != nil {
		return d.foreign("commit", err)
	}
	return nil
}

// show gives the hidden file the name of the destination.
func (d *destination) show(dir directory, hidden, name string, onlyNew bool) error {
	rename := dir.rename
	if onlyNew {
		rename = dir.renameNew
	}
	err := rename(hidden, name)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOENT):
		return verdict{
			storage.Interrupted, "lease_lost", "the hidden file is gone",
			"another worker took the item over, or a process in the sandbox removed the file",
		}.error("commit", d.place, err)
	case onlyNew && errors.Is(err, unix.EEXIST):
		return d.exists()
	case onlyNew && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPERM)):
		return verdict{storage.Invalid, "only_new_unsupported", "the file system cannot promise that nothing is replaced", ""}.
			error("commit", d.place, err)
	}
	return d.store.fail("commit", d.place, err)
}

func (d *destination) exists() error {
	return storage.Errorf(storage.Conflict, storage.CodeDestinationExists, "commit", d.place.subject(), "the destination exists")
}

// replaceable reports a destination that is there and not a regular file. Should it change between this look and the
// rename, a directory makes the rename fail, and a link is replaced itself, not what it points to.
func (d *destination) replaceable(dir directory, name string, onlyNew bool) error {
	kind, err := dir.kind(name)
	switch {
	case err != nil:
		return d.store.fail("open", d.place, err)
	case kind == unix.S_IFREG && onlyNew:
		return d.exists()
	case kind == 0 || kind == unix.S_IFREG:
		return nil
	case kind == unix.S_IFDIR:
		return d.store.fail("commit", d.place, unix.EISDIR)
	}
	return storage.Errorf(storage.Conflict, "destination_not_regular", "commit", d.place.subject(), "the destination is there and not a regular file")
}

// syncName makes the new name durable.
func (d *destination) syncName(dir directory) error {
	if !d.store.sync {
		return nil
	}
	err := d.store.files.syncOr(dir.file, func() error { return d.store.dirs.sync(dir.file) })
	if err != nil {
		return verdict{
			storage.Unavailable, "sync_failed", "the new content is visible, but its directory could not be made durable", "",
		}.error("sync", d.place, err)
	}
	return nil
}

func (d *destination) failCreate(err error) error {
	if errors.Is(err, unix.EEXIST) {
		return verdict{storage.Internal, "temp_exists", "the hidden file is there already", "a claim must name its hidden file once only"}.
			error("create", d.place, err)
	}
	return d.store.fail("create", d.place, err)
}

// foreign wraps an error of the caller's Body or Ready, so that its class and cause are found.
func (d *destination) foreign(op string, err error) error {
	if _, ok := errors.AsType[*storage.Error](err); ok {
		return fmt.Errorf("%s %s: %w", op, d.place.subject(), err)
	}
	return &storage.Error{
		Class: storage.Interrupted, Code: "interrupted", Op: op, Subject: d.place.subject(),
		Message: "the content could not be had to its end", Err: err,
	}
}

package sandbox

import (
	"context"
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/archive"
)

// ownerPerm is what the owner of a directory may always do, whatever the archive says: else nobody could fill or remove it.
const ownerPerm = 0o700

// unpacker makes the entries of an archive below a directory.
type unpacker struct {
	at   *destination
	ctx  context.Context
	top  directory // hidden
	each bool      // every file is synced by itself
	made storage.Unpacked

	// Archives tell the files of a directory one after the other, so one is kept open.
	open directory
	path string // of it; "": it is top, or none
}

// visit makes one entry.
func (u *unpacker) visit(e archive.Entry) error {
	whole := u.at.place
	whole.path += "/" + e.Path
	if err := stopped(u.ctx, "write", u.at.place); err != nil {
		return err
	}
	if _, _, err := whole.split("unpack"); err != nil { // a hidden name, or too long with the path of the destination
		return err
	}
	above, name := path.Split(e.Path)
	dir, err := u.enter(strings.TrimSuffix(above, "/"))
	if err == nil {
		err = u.make(dir, name, e)
	}
	if _, classified := errors.AsType[*storage.Error](err); err == nil || classified {
		return err
	}
	if errors.Is(err, unix.EEXIST) {
		return storage.Errorf(
			storage.Invalid, archive.CodeDuplicate, "unpack", whole.subject(), "the file system takes the name for one that the archive has already",
		)
	}
	return u.at.store.fail("unpack", whole, err)
}

// make makes an entry in its directory.
func (u *unpacker) make(dir directory, name string, e archive.Entry) error {
	switch e.Kind {
	case archive.Dir:
		err := dir.mkdir(name, uint32(e.Mode.Perm())|ownerPerm)
		if errors.Is(err, unix.EEXIST) {
			if kind, look := dir.kind(name); look == nil && kind == unix.S_IFDIR {
				return nil // told before; it keeps the mode with which it came first
			}
		}
		return err
	case archive.Symlink:
		u.made.Files++
		return dir.symlink(e.Target, name)
	case archive.Link:
		u.made.Files++
		return u.link(dir, name, e.Target)
	case archive.File:
		u.made.Files++
		u.made.Bytes += e.Size
		return u.file(dir, name, e)
	}
	return unix.EINVAL
}

func (u *unpacker) file(dir directory, name string, e archive.Entry) error {
	file, err := dir.createAs(name, uint32(e.Mode.Perm()))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // closed before, unless something failed
	if _, err := u.at.write(u.ctx, file, e.Body, e.Size); err != nil {
		return err
	}
	if !e.Modified.IsZero() {
		at := unix.NsecToTimespec(e.Modified.UnixNano())
		err := unix.UtimesNanoAt(dir.fd(), name, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.EPERM) && !unsupported(err) { // a file system without times keeps its own
			return err
		}
	}
	if u.each {
		if err := file.Sync(); err != nil {
			return err
		}
	}
	return file.Close() // network file systems tell only here that a write failed
}

func (u *unpacker) link(dir directory, name, target string) error {
	above, from := path.Split(target)
	source, err := u.walk(strings.TrimSuffix(above, "/"))
	if err != nil {
		return err
	}
	defer source.close()
	return link(source, from, dir, name)
}

// enter opens a directory of the tree and keeps it open until the next one.
func (u *unpacker) enter(name string) (directory, error) {
	if name == "" {
		return u.top, nil
	}
	if u.path == name {
		return u.open, nil
	}
	u.leave()
	dir, err := u.walk(name)
	if err == nil {
		u.open, u.path = dir, name
	}
	return dir, err
}

func (u *unpacker) leave() {
	if u.path != "" {
		u.open.close()
		u.path = ""
	}
}

// walk opens a directory of the tree. It follows no link, should somebody have put one there.
func (u *unpacker) walk(name string) (directory, error) {
	at, err := u.top.open(".")
	if name == "" {
		return at, err
	}
	for element := range strings.SplitSeq(name, "/") {
		if err != nil {
			return directory{}, err
		}
		var next directory
		next, err = at.open(element)
		at.close()
		at = next
	}
	return at, err
}

// durable returns when everything is on disk: by one sync of the file system, whose errors since the directory was opened it tells, or,
// where there is none, by one of each directory.
func (u *unpacker) durable() error {
	switch {
	case !u.at.store.sync:
		return nil
	case !u.each:
		return syncfs(u.top.file)
	}
	return u.at.syncTree(u.top)
}

// syncTree syncs the directories below one that is open, and this one.
func (d *destination) syncTree(dir directory) error {
	list, err := dir.open(".")
	if err != nil {
		return err
	}
	defer list.close()
	for {
		entries, err := list.file.ReadDir(1024)
		for _, e := range entries {
			if !e.IsDir() {
				continue
			}
			sub, err := dir.open(e.Name())
			if err == nil {
				err = d.syncTree(sub)
				sub.close()
			}
			if err != nil {
				return err
			}
		}
		if len(entries) == 0 || err != nil {
			break
		}
	}
	return fsync(dir.file)
}

package sandbox

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/storage"
)

// Stat looks at the file without reading it.
func (s *source) Stat(ctx context.Context) (storage.Stat, error) {
	object, err := s.Open(ctx)
	if err != nil {
		return storage.Stat{}, err
	}
	defer object.Body.Close()
	return storage.Stat{Size: object.Size, Modified: object.Modified, Ranges: true}, nil
}

// Look tells what a Put would meet and writes nothing: neither a directory nor a hidden file.
func (d *destination) Look(ctx context.Context) (storage.Look, error) {
	dirName, name, err := d.place.split("look at")
	if err == nil {
		err = stopped(ctx, "look at", d.place)
	}
	if err != nil {
		return storage.Look{}, err
	}
	dir, makes, err := d.nearest(dirName)
	if err != nil {
		return storage.Look{}, d.store.fail("open", d.place, err)
	}
	defer dir.close()
	if err := uninterrupted(func() error { return unix.Faccessat(dir.fd(), ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS) }); err != nil {
		return storage.Look{}, d.store.fail("write", d.place, err)
	}
	look := storage.Look{Checked: true, Makes: makes, Free: dir.free()}
	if makes != "" {
		return look, nil
	}
	if err := d.replaceable(dir, name, false); err != nil {
		return storage.Look{}, err
	}
	var st unix.Stat_t
	err = uninterrupted(func() error { return unix.Fstatat(dir.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	switch {
	case errors.Is(err, unix.ENOENT):
		return look, nil
	case err != nil:
		return storage.Look{}, d.store.fail("open", d.place, err)
	}
	look.Exists, look.Size = true, st.Size
	return look, nil
}

// nearest opens the directory of the destination, or of those above it the lowest that is there; makes says what would come into being.
func (d *destination) nearest(dirName string) (dir directory, makes string, err error) {
	root, err := d.store.openSandbox(d.place)
	if errors.Is(err, fs.ErrNotExist) {
		for _, above := range []string{d.place.org, "."} {
			if dir, err = openDirectory(d.store.root, above); !errors.Is(err, fs.ErrNotExist) {
				break
			}
		}
		return dir, "sandbox", err
	}
	if err != nil {
		return directory{}, "", err
	}
	defer func(root *os.Root) { _ = root.Close() }(root)
	for {
		dir, err = openDirectory(root, dirName)
		if err == nil || !errors.Is(err, fs.ErrNotExist) || dirName == "." {
			return dir, makes, err
		}
		if _, linkErr := root.Lstat(dirName); linkErr == nil {
			return directory{}, "", unix.ENOTDIR // a link that points to nothing is not a missing directory
		}
		dirName, makes = path.Dir(dirName), "directory"
	}
}

// free returns the bytes that are free where the directory is, or UnknownSize.
func (d directory) free() int64 {
	var st unix.Statfs_t
	if err := uninterrupted(func() error { return unix.Fstatfs(d.fd(), &st) }); err != nil || st.Bsize <= 0 {
		return storage.UnknownSize
	}
	block := uint64(st.Bsize)
	if st.Bavail > math.MaxInt64/block {
		return math.MaxInt64
	}
	return int64(st.Bavail * block) //nolint:gosec // just compared
}

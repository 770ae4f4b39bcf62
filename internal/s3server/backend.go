package s3server

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
)

const (
	bucketsDir    = "buckets"
	metadataDir   = "metadata"
	copyThreshold = 5 << 30 // bytes that CopyObject takes, S3's own limit; left out, the library would copy nothing
	etagAttribute = "etag"  // what the library stores last before it publishes an object or a part
)

// store is the library's backend with three differences: a call that changes something returns when the change is on
// disk, and is told of then, and a key that the library would change to another one is refused.
type store struct {
	*posix.Posix
	disk   *disk
	events *teller
	log    *slog.Logger
}

// openBackend opens the backend, which changes the current directory.
func openBackend(cfg Config) (*store, error) {
	buckets := filepath.Join(cfg.Dir, bucketsDir)
	if err := os.MkdirAll(buckets, 0o700); err != nil {
		return nil, err
	}
	d, err := openDisk(buckets, !cfg.NoSync)
	if err != nil {
		return nil, err
	}
	metadata, err := openMetadata(cfg, buckets)
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	if err := sweep(buckets); err != nil {
		return nil, errors.Join(err, d.close())
	}
	events, err := newTeller(cfg.Dir, cfg.Logger)
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	opts := posix.PosixOpts{
		CopyObjectThreshold: copyThreshold,
		ForceNoObjLockFile:  true, // one process owns the directory; the locks inside it suffice
		// Unnamed files are replaced under a longer name, which a name of 255 bytes has no room for, and which
		// would be listed as an object after a crash.
		ForceNoTmpFile: true,
	}
	opts.SetNewDirPerm(0o700)
	opts.SetNewFilePerm(0o600)
	// PosixOpts.SideCarDir stays unset: all that it does is to print itself.
	library, err := posix.New(buckets, publisher{MetadataStorer: metadata, flush: d.flush}, opts)
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return &store{Posix: library, disk: d, events: events, log: cfg.Logger}, nil
}

// openMetadata chooses where metadata are. Once they are files they stay files: objects would lose them otherwise.
func openMetadata(cfg Config, buckets string) (meta.MetadataStorer, error) {
	side := filepath.Join(cfg.Dir, metadataDir)
	_, err := os.Stat(side)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if errors.Is(err, fs.ErrNotExist) {
		reason := hasAttributes(buckets)
		if reason == nil {
			return meta.XattrMeta{}, nil
		}
		cfg.Logger.Info("the embedded S3 keeps metadata in files of their own", "directory", side, "reason", reason)
		if err := os.Mkdir(side, 0o700); err != nil {
			return nil, err
		}
	}
	return meta.NewSideCar(side)
}

// hasAttributes tells why dir cannot have extended attributes; nil if it can. It tries: there are file systems that let
// one read attributes and not write them.
func hasAttributes(dir string) (err error) {
	probe, err := os.CreateTemp(dir, ".attributes-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, probe.Close(), os.Remove(probe.Name())) }()
	return meta.XattrMeta{}.StoreAttribute(probe, "", "", "probe", []byte("1"))
}

// publisher stores metadata, and sees to it that the content is on disk before the file gets its name.
type publisher struct {
	meta.MetadataStorer
	flush func(*os.File) error
}

// StoreAttribute implements meta.MetadataStorer. f is the file without a name, if there is one.
func (p publisher) StoreAttribute(f *os.File, bucket, object, attribute string, value []byte) error {
	if f != nil && attribute == etagAttribute {
		if err := p.flush(f); err != nil {
			return fmt.Errorf("sync the content: %w", err)
		}
	}
	return p.MetadataStorer.StoreAttribute(f, bucket, object, attribute, value)
}

// sweep removes what uploads left behind that a crash cut short. Nothing else runs on the directory.
func sweep(buckets string) error {
	left, err := fs.Glob(os.DirFS(buckets), "*/"+posix.MetaTmpDir+"/*")
	if err != nil {
		return err
	}
	for _, name := range left {
		path := filepath.Join(buckets, filepath.FromSlash(name))
		if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
			continue // the directory of multipart uploads, which survive a crash
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove an upload that was cut short: %w", err)
		}
	}
	return nil
}

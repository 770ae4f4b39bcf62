package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/copyfleet/copyfleet/storage"
)

// Permissions of what the driver creates, before the umask.
const (
	filePerm = 0o644
	dirPerm  = 0o755
)

// Options of a [Store]. The zero value does not sync.
type Options struct {
	// Sync makes Put return only when the file is on disk: it costs a share in a sync of the file and in one of
	// the directory. Without it a power cut can lose or empty files whose Put returned.
	Sync bool
}

// Store is the directory that holds the sandboxes. It is safe for concurrent use and keeps its descriptor, so a root
// that is moved while it is open stays the root.
type Store struct {
	root    *os.Root
	dir     *os.File        // the same directory
	top     syscall.RawConn // and the way to its descriptor
	sync    bool
	dirs    dirSyncer
	parts   dirSyncer   // of files that are written in parts
	files   *fileSyncer // nil unless sync is set
	escapes error       // what os.Root answers to a path that leaves it

	removeWithin time.Duration // removeLimit, except in tests
}

// Open opens the directory root and creates it, and its parents, if it is missing. The caller closes the store.
func Open(root string, opts Options) (*Store, error) {
	if err := createRoot(root, opts.Sync); err != nil {
		return nil, fmt.Errorf("create the directory of the sandboxes: %w", err)
	}
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, fmt.Errorf("open the directory of the sandboxes: %w", err)
	}
	s := &Store{root: r, sync: opts.Sync, removeWithin: removeLimit}
	if s.escapes, err = escapeError(r); err == nil {
		s.dir, err = r.Open(".")
	}
	if err == nil {
		s.top, err = s.dir.SyscallConn()
	}
	if err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("open the directory of the sandboxes: %w", err)
	}
	if s.sync {
		s.files = newFileSyncer(s.dir)
	}
	return s, nil
}

// Close releases the root. Sources and destinations made before answer with code closed afterwards; bodies that
// are open stay readable.
func (s *Store) Close() error { return errors.Join(s.dir.Close(), s.root.Close()) }

// Source returns the file at path in a sandbox. Everything that is wrong with the arguments is told by Open.
func (s *Store) Source(org, sandbox, path string) storage.Source {
	return &source{store: s, place: place{org: org, sandbox: sandbox, path: path}}
}

// Destination returns the place path in a sandbox for one attempt to write it.
//
// temp names the hidden file: letters, digits, '-' and '_', at most 200 bytes, never used before for this path.
// stale are the temps of attempts on the same path that died or lost the item; their hidden files are removed
// before anything is written, which also keeps a slow one from committing. Everything that is wrong with the
// arguments is told by Put.
func (s *Store) Destination(org, sandbox, path, temp string, stale []string) storage.Destination {
	return &destination{store: s, place: place{org: org, sandbox: sandbox, path: path}, temp: temp, stale: stale}
}

// openSandbox opens the directory of a sandbox, which must be a real one. The caller closes it.
func (s *Store) openSandbox(p place) (*os.Root, error) {
	name := p.org + "/" + p.sandbox
	info, err := s.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errSandboxNotDirectory}
	}
	return s.root.OpenRoot(name + "/.") // the dot makes the open fail on anything but a directory, and never wait
}

var errSandboxNotDirectory = errors.New("the sandbox's place is taken by something that is no directory")

// createRoot makes root and what lacks above it, durably if sync is set.
func createRoot(root string, sync bool) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	var parents []string // of directories to be created
	for dir := root; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		parents = append(parents, filepath.Dir(dir))
	}
	if err := os.MkdirAll(root, dirPerm); err != nil || !sync {
		return err
	}
	for _, dir := range parents {
		if err := syncNamed(dir); err != nil {
			return err
		}
	}
	return nil
}

func syncNamed(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only synced, never written
	return fsync(f)
}

// escapeError finds the error that os.Root returns for a path that leaves it. The os package does not export
// it; asking for it once is better than matching on its text.
func escapeError(r *os.Root) (error, error) {
	_, err := r.Lstat("..")
	e, ok := errors.AsType[*fs.PathError](err)
	if !ok {
		return nil, fmt.Errorf("os.Root does not confine: it answered %w to a path outside", err)
	}
	return e.Err, nil
}

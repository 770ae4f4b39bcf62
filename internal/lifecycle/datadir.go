package lifecycle

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// DataDir is a data directory that this process has to itself: two nats-servers on one directory would both start, both
// accept, and lose what the other wrote.
type DataDir struct {
	path string
	lock *os.File
}

// ErrInUse says that another process has the data directory.
var ErrInUse = errors.New("the data directory is in use by another copyfleet process")

const lockName = "lock"

// OpenDataDir creates the directory if it is missing (mode 0700) and takes its lock. The lock goes with the process,
// however it ends.
func OpenDataDir(path string) (*DataDir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open data directory %s: %w", path, err)
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(abs, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder := readHolder(lock)
		_ = lock.Close() // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w%s; stop it, or give this one another --data", abs, ErrInUse, holder)
		}
		return nil, fmt.Errorf("lock data directory %s: %w", abs, err)
	}
	if err := writeHolder(lock); err != nil {
		_ = lock.Close() // the error that counts is the first
		return nil, fmt.Errorf("lock data directory %s: %w", abs, err)
	}
	return &DataDir{path: abs, lock: lock}, nil
}

func readHolder(lock *os.File) string {
	buf := make([]byte, 32)
	n, _ := lock.ReadAt(buf, 0) // only to be helpful
	pid, err := strconv.Atoi(string(bytes.TrimSpace(buf[:n])))
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (process %d)", pid)
}

func writeHolder(lock *os.File) error {
	if err := lock.Truncate(0); err != nil {
		return err //nolint:wrapcheck // wrapped by the caller
	}
	_, err := lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err //nolint:wrapcheck // wrapped by the caller
}

// Path returns a path inside the directory, or the directory itself.
func (d *DataDir) Path(elem ...string) string {
	return filepath.Join(append([]string{d.path}, elem...)...)
}

// Close gives the directory free.
func (d *DataDir) Close() error {
	if err := d.lock.Close(); err != nil {
		return fmt.Errorf("give the data directory free: %w", err)
	}
	return nil
}

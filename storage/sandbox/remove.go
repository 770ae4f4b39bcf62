package sandbox

import (
	"errors"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// removeDepth is how many directories are open at once while a tree is removed. What is deeper is moved up first: os.Root.RemoveAll opens one
// for each level, and a process in a sandbox makes as many levels as it likes.
const removeDepth = 32

// removePasses is how often a directory is read again that got entries meanwhile.
const removePasses = 20

// removeLimit is how long a tree is removed. A process in the sandbox that goes on making files in it would keep the worker for ever.
const removeLimit = 30 * time.Minute

// remover removes a tree. Memory and descriptors do not grow with it. It does not go into what is mounted in it: that is somebody else's.
type remover struct {
	top    directory
	device uint64
	moved  int
	until  time.Time
}

// remove removes what bears a name, with everything below it; that there is nothing is no error. What is there still after the limit stays.
func (d directory) remove(name string, limit time.Duration) error {
	err := d.unlink(name)
	if !isDirectory(err) {
		return err
	}
	until := time.Now().Add(limit)
	for range removePasses {
		if err = d.removeDirectory(name, until); !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
			break
		}
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// isDirectory reports what unlink answers to the name of a directory.
func isDirectory(err error) bool { return errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) }

func (d directory) removeDirectory(name string, until time.Time) error {
	top, err := d.openOwn(name)
	if err != nil {
		return err
	}
	defer top.close()
	device, err := deviceOf(top.file)
	if err != nil {
		return err
	}
	r := &remover{top: top, device: device, until: until}
	if err := r.empty(top, 0); err != nil {
		return err
	}
	return d.rmdir(name)
}

// empty removes what is in a directory. It goes on after an error, and returns the first of a pass that removed nothing.
func (r *remover) empty(d directory, depth int) error {
	for {
		removed, failed := 0, error(nil)
		for {
			if time.Now().After(r.until) {
				return os.ErrDeadlineExceeded
			}
			names, err := d.file.Readdirnames(1024)
			for _, name := range names {
				switch err := r.one(d, name, depth); {
				case err == nil:
					removed++
				case failed == nil:
					failed = err
				}
			}
			if err == io.EOF { // os.File returns io.EOF itself
				break
			}
			if err != nil {
				return err
			}
		}
		if removed == 0 {
			return failed
		}
		// A directory that is changed while it is read may leave out names, and those that were moved up want their turn.
		if _, err := d.file.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
}

// one removes one entry, or moves it up.
func (r *remover) one(d directory, name string, depth int) error {
	err := d.unlink(name)
	if !isDirectory(err) {
		return err
	}
	if depth >= removeDepth {
		r.moved++
		return move(d, name, r.top, hiddenPrefix+"deep."+strconv.Itoa(r.moved))
	}
	sub, err := d.openOwn(name)
	if err != nil {
		return err
	}
	defer sub.close()
	if device, err := deviceOf(sub.file); err != nil || device != r.device {
		return errors.Join(err, unix.EBUSY)
	}
	if err := r.empty(sub, depth+1); err != nil {
		return err
	}
	return d.rmdir(name)
}

// openOwn opens a directory to be emptied, and gives its owner the permissions for that: nobody needs the directory as it was.
func (d directory) openOwn(name string) (directory, error) {
	sub, err := d.within(name)
	if errors.Is(err, unix.EACCES) && uninterrupted(func() error {
		return unix.Fchmodat(d.fd(), name, ownerPerm, unix.AT_SYMLINK_NOFOLLOW)
	}) == nil {
		sub, err = d.within(name)
	}
	if err != nil {
		return directory{}, err
	}
	var st unix.Stat_t
	if err := uninterrupted(func() error { return unix.Fstat(sub.fd(), &st) }); err == nil && st.Mode&ownerPerm != ownerPerm {
		_ = uninterrupted(func() error { return unix.Fchmod(sub.fd(), ownerPerm) }) // what cannot be removed then says so
	}
	return sub, nil
}

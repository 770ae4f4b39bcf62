package sandbox

import (
	"os"
)

// syncPart returns when what was written through file is on disk. Who writes other parts of the same file at the same time shares the
// sync: it is of all that was written to the file, by whomever.
func (s *Store) syncPart(file *os.File) error {
	id, err := identify(file)
	if err != nil {
		return err
	}
	err = s.files.syncOr(file, func() error { return s.parts.share(id, func() error { return fdatasync(file) }) })
	if err != nil {
		return err
	}
	// An error of the disk is told to everybody who had the file open then, but once: who shared a sync asks for himself.
	return unseen(file)
}

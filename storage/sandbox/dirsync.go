package sandbox

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// dirSyncer lets those who changed a directory at the same time share its fsyncs. An fsync covers every change made
// before it starts; so whoever arrives while one runs waits for the next, together with all others that arrive
// until that one starts. The zero value is ready to use.
//
// Directories are told apart by device and inode. Each waiter holds its directory open, so neither can be reused
// while anybody waits, and nothing is remembered after the last one left.
type dirSyncer struct {
	mu   sync.Mutex
	busy map[dirID]*dirQueue
}

type dirID struct{ device, inode uint64 }

// dirQueue exists while an fsync of its directory runs or is about to.
type dirQueue struct {
	next *syncRound // who waits for the running fsync to end; nil if nobody does
}

// syncRound is one fsync and those whom it serves.
type syncRound struct {
	start chan struct{} // closed when the first of them may begin
	done  chan struct{} // closed when err is set
	err   error
}

// sync returns when an fsync of dir that began after the call has ended, with what it said.
func (s *dirSyncer) sync(dir *os.File) error {
	id, err := identify(dir)
	if err != nil {
		return err
	}
	return s.share(id, func() error { return fsync(dir) })
}

// share is sync with the fsync as a parameter.
func (s *dirSyncer) share(id dirID, fsync func() error) error {
	s.mu.Lock()
	queue, busy := s.busy[id]
	if !busy {
		if s.busy == nil {
			s.busy = make(map[dirID]*dirQueue)
		}
		s.busy[id] = &dirQueue{}
		s.mu.Unlock()
		defer s.pass(id)
		return fsync()
	}
	round, first := queue.next, queue.next == nil
	if first {
		round = &syncRound{start: make(chan struct{}), done: make(chan struct{})}
		queue.next = round
	}
	s.mu.Unlock()
	if !first {
		<-round.done
		return round.err
	}
	<-round.start
	defer s.pass(id)
	defer close(round.done)
	round.err = fsync()
	return round.err
}

// pass lets the next round begin, which closes it to newcomers, or forgets the directory.
func (s *dirSyncer) pass(id dirID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	queue := s.busy[id]
	if queue.next == nil {
		delete(s.busy, id)
		return
	}
	close(queue.next.start)
	queue.next = nil
}

func identify(dir *os.File) (dirID, error) {
	var st unix.Stat_t
	if err := uninterrupted(func() error { return unix.Fstat(int(dir.Fd()), &st) }); err != nil {
		return dirID{}, err
	}
	return dirID{device: uint64(st.Dev), inode: st.Ino}, nil //nolint:unconvert // 32 bits on darwin
}

// fsync syncs a directory. Some network and user-space file systems cannot and say so; there a directory is as durable as
// it gets.
func fsync(dir *os.File) error {
	err := dir.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return err
}

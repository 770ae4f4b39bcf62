package sandbox

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// fileSyncer lets files that are complete at the same time share a sync, and the directories that have got a new name. One alone is
// synced by itself. Who arrives meanwhile waits for the next round, which is one sync of the whole file system if that costs less than
// one of each: the journal is then written once for all of them. No sync returns before what was written is on disk.
//
// Sound as to errors: the file system is synced through a handle that is open as long as the store is, so that an error since the round
// before is told in this one (Linux 5.8, syncfs(2)); after an error, and where there is no such sync, every file is synced by itself.
type fileSyncer struct {
	root   *os.File // of the file system; nil: every file is synced by itself
	device uint64

	mu   sync.Mutex
	busy bool
	next *fileRound
	one  time.Duration // what a sync of one file took of late; a moving mean
	all  time.Duration // what one of the file system took
}

// fileRound is those who are served together.
type fileRound struct {
	members int           // guarded by the syncer's mutex until start
	start   chan struct{} // closed when the first of them may begin
	done    chan struct{} // closed when apart is set
	apart   bool          // each is to sync its own file
}

const (
	roundLeast = 3  // members below which a file system is not synced for them
	syncMemory = 8  // a measurement counts one in so many
	forgetting = 32 // the cost of the other way fades by one in so many, so that it is tried again
)

// newFileSyncer prepares syncs of files below a directory, which stays open as long as the syncer is used.
func newFileSyncer(root *os.File) *fileSyncer {
	device, err := deviceOf(root)
	if err != nil || syncfs(root) != nil { // it also begins to watch for errors
		return &fileSyncer{}
	}
	return &fileSyncer{root: root, device: device}
}

// sync returns when everything that was written to the file is on disk.
func (s *fileSyncer) sync(file *os.File) error { return s.syncOr(file, file.Sync) }

// syncOr is sync for a file or a directory, with another way to sync it by itself.
func (s *fileSyncer) syncOr(file *os.File, itself func() error) error {
	if s.root == nil {
		return itself()
	}
	if device, err := deviceOf(file); err != nil || device != s.device { // a file system of its own, mounted in a sandbox
		return itself()
	}
	s.mu.Lock()
	if !s.busy {
		s.busy = true
		s.mu.Unlock()
		defer s.pass()
		return s.alone(itself)
	}
	round, first := s.next, s.next == nil
	if first {
		round = &fileRound{start: make(chan struct{}), done: make(chan struct{})}
		s.next = round
	}
	round.members++
	s.mu.Unlock()
	if first {
		s.lead(round)
	} else {
		<-round.done
	}
	if round.apart {
		return s.alone(itself)
	}
	// An error that the round before was told of, which had it from the whole file system, is not told again to this one.
	return unseen(file)
}

// lead waits for the round's turn and carries it out.
func (s *fileSyncer) lead(round *fileRound) {
	<-round.start
	defer s.pass()
	defer close(round.done)
	if round.apart = !s.together(round.members); round.apart {
		return
	}
	begun := time.Now()
	round.apart = syncfs(s.root) != nil
	s.measure(&s.all, time.Since(begun))
}

// together reports whether one sync of the file system is worth it for so many files.
func (s *fileSyncer) together(members int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if members < roundLeast {
		return false
	}
	worth := s.all <= s.one*time.Duration(members)
	if worth {
		s.one -= s.one / forgetting
	} else {
		s.all -= s.all / forgetting
	}
	return worth
}

func (s *fileSyncer) alone(itself func() error) error {
	begun := time.Now()
	err := itself()
	s.measure(&s.one, time.Since(begun))
	return err
}

func (s *fileSyncer) measure(mean *time.Duration, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if *mean == 0 {
		*mean = took
	}
	*mean += (took - *mean) / syncMemory
}

// pass lets the next round begin, which closes it to newcomers.
func (s *fileSyncer) pass() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil {
		s.busy = false
		return
	}
	close(s.next.start)
	s.next = nil
}

func deviceOf(file *os.File) (uint64, error) {
	var st unix.Stat_t
	if err := uninterrupted(func() error { return unix.Fstat(int(file.Fd()), &st) }); err != nil {
		return 0, err
	}
	return uint64(st.Dev), nil //nolint:unconvert // 32 bits on darwin
}

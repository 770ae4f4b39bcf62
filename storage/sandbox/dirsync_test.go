package sandbox

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var testDir = dirID{device: 1, inode: 2}

// TestDirSyncShares lets many arrive while one fsync runs: exactly one more must serve them all.
func TestDirSyncShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s dirSyncer
		var runs, running atomic.Int64
		slow := func() error {
			runs.Add(1)
			if running.Add(1) > 1 {
				t.Error("two fsyncs of one directory run at the same time")
			}
			defer running.Add(-1)
			time.Sleep(time.Second) // of the bubble's clock: until everybody else waits
			return nil
		}
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if err := s.share(testDir, slow); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := runs.Load(); n != 2 {
			t.Errorf("%d fsyncs served 100 waiters, want 2", n)
		}
		if len(s.busy) != 0 {
			t.Errorf("%d directories are remembered after the last waiter left", len(s.busy))
		}
	})
}

// TestDirSyncCovers checks what counts: between the call and its return an fsync began and ended. It is checked with
// a counter of changes that every fsync reads when it begins.
func TestDirSyncCovers(t *testing.T) {
	var s dirSyncer
	var changes, durable atomic.Int64
	fsync := func() error {
		n := changes.Load()
		for range 20 {
			runtime.Gosched() // others change the directory and arrive after this fsync began
		}
		for {
			old := durable.Load()
			if n <= old || durable.CompareAndSwap(old, n) {
				return nil
			}
		}
	}
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 500 {
				mine := changes.Add(1)
				if err := s.share(testDir, fsync); err != nil {
					t.Error(err)
				}
				if durable.Load() < mine {
					t.Errorf("change %d is not durable although its sync returned", mine)
				}
			}
		})
	}
	all.Wait()
	if len(s.busy) != 0 {
		t.Errorf("%d directories are remembered after the last waiter left", len(s.busy))
	}
}

// TestDirSyncFailure gives a failure to all whom the fsync served, and to nobody else.
func TestDirSyncFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s dirSyncer
		failure := errors.New("the disk is gone")
		answers := []error{nil, failure, nil}
		var runs atomic.Int64
		fsync := func() error {
			time.Sleep(time.Second)
			return answers[runs.Add(1)-1]
		}
		var got [3]error
		var all sync.WaitGroup
		for i := range got {
			all.Go(func() { got[i] = s.share(testDir, fsync) })
			synctest.Wait()
		}
		all.Wait()
		if got[0] != nil || !errors.Is(got[1], failure) || !errors.Is(got[2], failure) {
			t.Errorf("answers are %v, want the failure for the two that shared it", got)
		}
		if err := s.share(testDir, fsync); err != nil {
			t.Errorf("a later sync answers %v", err)
		}
	})
}

// TestDirSyncApart shows that different directories do not wait for each other, and that the same one is known under
// two handles.
func TestDirSyncApart(t *testing.T) {
	var s dirSyncer
	reached := make(chan struct{})
	err := s.share(testDir, func() error {
		return s.share(dirID{device: 1, inode: 3}, func() error { close(reached); return nil })
	})
	<-reached
	if err != nil {
		t.Error(err)
	}
	dir, other := t.TempDir(), t.TempDir()
	if a, b := identifyNamed(t, dir), identifyNamed(t, dir); a != b {
		t.Errorf("one directory has the identities %v and %v", a, b)
	}
	if a, b := identifyNamed(t, dir), identifyNamed(t, other); a == b {
		t.Errorf("two directories have the identity %v", a)
	}
}

func identifyNamed(t *testing.T, name string) dirID {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	id, err := identify(f)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

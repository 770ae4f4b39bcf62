package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func syncerFor(t *testing.T) (*fileSyncer, string) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return newFileSyncer(root), dir
}

func TestManyFilesAreSyncedTogether(t *testing.T) {
	t.Parallel()
	s, dir := syncerFor(t)
	const files = 200
	var all sync.WaitGroup
	for i := range files {
		all.Go(func() {
			f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = f.Close() }()
			if _, err := f.WriteString("x"); err != nil {
				t.Error(err)
			}
			if err := s.sync(f); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if s.busy || s.next != nil {
		t.Error("somebody is still waited for")
	}
}

// TestARoundServesThoseWhoCameBefore holds the first sync up: those who come meanwhile are one round, and nobody leaves before it.
func TestARoundServesThoseWhoCameBefore(t *testing.T) {
	t.Parallel()
	s, dir := syncerFor(t)
	s.one = time.Hour // a sync of the file system is worth it
	s.busy = true     // by one that is held up here
	left := make(chan error)
	const members = 5
	for i := range members {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }() //nolint:gocritic // few
		go func() { left <- s.sync(f) }()
	}
	for {
		s.mu.Lock()
		waiting := s.next != nil && s.next.members == members
		s.mu.Unlock()
		if waiting {
			break
		}
		select {
		case err := <-left:
			t.Fatalf("one left before the round began: %v", err)
		default:
		}
	}
	round := s.next
	s.pass()
	for range members {
		if err := <-left; err != nil {
			t.Error(err)
		}
	}
	if s.root != nil && round.apart {
		t.Error("each was synced by itself")
	}
	if s.busy {
		t.Error("the round does not end")
	}
}

func TestFilesAreSyncedApartWhereThatIsCheaper(t *testing.T) {
	t.Parallel()
	s := &fileSyncer{one: time.Millisecond, all: time.Second}
	if s.together(roundLeast-1) || s.together(100) {
		t.Error("a second is taken for less than a hundred milliseconds")
	}
	for range 1000 { // what it took once is not believed for ever
		s.together(100)
	}
	if !s.together(100) {
		t.Error("the file system is never tried again")
	}
	s.all = 0
	if s.together(roundLeast - 1) {
		t.Error("a file system is synced for two files")
	}
}

package s3server

import (
	"context"
	"fmt"
	"os"
	"sync"
)

// syncer syncs a file system for many callers at once: those who come while a sync runs share the next one, which
// begins after they came and so covers what they wrote.
type syncer struct {
	root  *os.File
	state *syncState
}

type syncState struct {
	mu      sync.Mutex
	running bool
	next    *syncRound // the round that has not begun; nil if nobody waits
}

type syncRound struct {
	done chan struct{}
	err  error
}

func newSyncer(root *os.File) syncer { return syncer{root: root, state: &syncState{}} }

func (s syncer) sync(ctx context.Context) error {
	s.state.mu.Lock()
	round := s.state.next
	if round == nil {
		round = &syncRound{done: make(chan struct{})}
		s.state.next = round
	}
	if !s.state.running {
		s.state.running = true
		go s.run()
	}
	s.state.mu.Unlock()
	select {
	case <-round.done:
		return round.err
	case <-ctx.Done():
		return fmt.Errorf("sync the embedded S3: %w", context.Cause(ctx))
	}
}

// run works rounds off until nobody waits any more.
func (s syncer) run() {
	for {
		s.state.mu.Lock()
		round := s.state.next
		s.state.next = nil
		if round == nil {
			s.state.running = false
			s.state.mu.Unlock()
			return
		}
		s.state.mu.Unlock()
		if err := syncFilesystem(s.root); err != nil {
			round.err = fmt.Errorf("sync the embedded S3: %w", err)
		}
		close(round.done)
	}
}

// close waits for a sync that runs.
func (s syncer) close() error {
	if err := s.sync(context.Background()); err != nil { //nolint:forbidigo // bounded by one sync
		_ = s.root.Close() // the error that counts is the first
		return err
	}
	return s.root.Close() //nolint:wrapcheck // a directory that was read only
}

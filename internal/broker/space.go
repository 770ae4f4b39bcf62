package broker

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

const (
	watchEvery  = time.Second
	reviveEvery = 2 * time.Second // between attempts to start again
)

// Free returns the bytes that the file system of the store has left for us.
func (s *Server) Free() (uint64, error) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(s.cfg.Dir, &stat); err != nil {
		return 0, fmt.Errorf("look at the space of %s: %w", s.cfg.Dir, err)
	}
	return stat.Bavail * uint64(stat.Bsize), nil //nolint:gosec // a block size is positive
}

// Room returns [ErrNoSpace] while less than least bytes are free, and [ErrUnavailable] while JetStream is down: nothing
// should be accepted then.
func (s *Server) Room(least uint64) error {
	if !s.Healthy() {
		return fmt.Errorf("%w: JetStream cannot write, as after a full disk; it starts again when there is space", ErrUnavailable)
	}
	free, err := s.Free()
	if err != nil {
		return err
	}
	if free < least {
		return fmt.Errorf("%w: %d MiB are free in %s, at least %d MiB are kept", ErrNoSpace, free>>20, s.cfg.Dir, least>>20)
	}
	return nil
}

// Watch starts the server again, once there are least bytes of space, whenever JetStream cannot write any more. Clients
// reconnect by themselves. It returns when ctx ends.
func (s *Server) Watch(ctx context.Context, least uint64) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var tried time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s.Healthy() || time.Since(tried) < reviveEvery {
			continue
		}
		tried = time.Now()
		if free, err := s.Free(); err != nil || free < least {
			s.cfg.Logger.Error("the embedded NATS server cannot write; it starts again when there is space",
				"free_bytes", free, "needed_bytes", least, "error", err)
			continue
		}
		s.Close()
		if err := s.start(); err != nil {
			s.cfg.Logger.Error("cannot start the embedded NATS server again", "error", err)
			continue
		}
		s.cfg.Logger.Warn("the embedded NATS server could not write; it was started again")
	}
}

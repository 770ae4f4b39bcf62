package triggers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// The lease says which process makes the copies. It saves work: that none is done twice hangs on the fence of the journals.
const (
	leaseKey   = "lead"
	renewEvery = 2 * time.Second
	goneAfter  = 6 * time.Second // without a renewal, by the clock of who looks

	releaseWithin = 5 * time.Second // at the end of a process, which waits for it
)

// lease is one record that its holder writes again and again. Nobody's clock is compared with another's: who wants it watches its revision.
type lease struct {
	bucket                *broker.Bucket
	identity              string
	renewEvery, goneAfter time.Duration

	revision uint64    // of the record when it was looked at
	since    time.Time // that it has that revision
}

// take tries to get the lease: if there is none, or its holder has not renewed it for long enough.
func (l *lease) take(ctx context.Context) (bool, error) {
	e, err := l.bucket.Get(ctx, leaseKey)
	free := errors.Is(err, broker.ErrNotFound) // e has the revision of the marker, if one stands there
	if err != nil && !free {
		return false, err
	}
	if e.Revision != l.revision || l.since.IsZero() {
		l.revision, l.since = e.Revision, time.Now()
	}
	if !free && time.Since(l.since) < l.goneAfter {
		return false, nil
	}
	return l.write(ctx, e.Revision)
}

// renew writes the lease again, and reports whether it is still ours.
func (l *lease) renew(ctx context.Context) (bool, error) { return l.write(ctx, l.revision) }

func (l *lease) write(ctx context.Context, revision uint64) (bool, error) {
	next, err := l.bucket.Update(ctx, broker.Change{Key: leaseKey, Value: []byte(l.identity), Revision: revision})
	if err == nil {
		l.revision, l.since = next, time.Now()
		return true, nil
	}
	if !errors.Is(err, broker.ErrConflict) {
		return false, err
	}
	// The answer to our own last write may have been lost.
	e, err := l.bucket.Get(ctx, leaseKey)
	if err != nil || string(e.Value) != l.identity {
		return false, nil //nolint:nilerr // somebody else was quicker, or nobody has it: the next attempt tells
	}
	l.revision, l.since = e.Revision, time.Now()
	return true, nil
}

// release gives the lease up, so that another process need not wait for its end.
func (l *lease) release(ctx context.Context) error {
	_, err := l.bucket.DeleteAt(ctx, leaseKey, l.revision)
	if !errors.Is(err, broker.ErrConflict) {
		return err
	}
	// A renewal that the end of this process cut short may have been done.
	e, err := l.bucket.Get(ctx, leaseKey)
	if err != nil || string(e.Value) != l.identity {
		return nil //nolint:nilerr // it is another's, or nobody's
	}
	_, err = l.bucket.DeleteAt(ctx, leaseKey, e.Revision)
	return err
}

// compete leads whenever nobody else does, until ctx ends.
func (s *Service) compete(ctx context.Context) {
	tick := time.NewTicker(s.lease.renewEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		ours, err := s.lease.take(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "cannot read who makes the copies of events", slog.Any("error", err))
		}
		if ours {
			s.lead(ctx)
			continue
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-s.freed:
		}
	}
}

// lead makes the copies until ctx ends or the lease is lost.
func (s *Service) lead(ctx context.Context) {
	s.log.LogAttrs(ctx, slog.LevelInfo, "makes the copies of events from now on")
	s.leads.Store(true)
	leading, stop := context.WithCancelCause(ctx)
	var work sync.WaitGroup
	work.Go(func() { s.runOrgs(leading) })
	work.Go(func() { s.dropStrays(leading) })
	work.Go(func() { s.sweepPeriodically(leading) })
	why := s.renewLease(ctx)
	stop(why)
	s.leads.Store(false)
	work.Wait()
	if ctx.Err() == nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "leaves the copies of events to another process", slog.Any("error", why))
		return
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseWithin)
	defer cancel()
	if err := s.lease.release(last); err != nil {
		s.log.LogAttrs(last, slog.LevelWarn, "another process will make the copies of events only after a while", slog.Any("error", err))
	}
}

// errLeaseLost ends the work of a process that does not lead any more.
var errLeaseLost = errors.New("another process makes the copies of events")

// renewLease keeps the lease, and returns why it does so no longer.
func (s *Service) renewLease(ctx context.Context) error {
	tick := time.NewTicker(s.lease.renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		within, cancel := context.WithDeadline(ctx, s.lease.since.Add(s.lease.goneAfter))
		ours, err := s.lease.renew(within)
		cancel()
		switch {
		case ours:
		case err == nil:
			return errLeaseLost
		case time.Since(s.lease.since) >= s.lease.goneAfter:
			return fmt.Errorf("%w, or may: %w", errLeaseLost, err)
		}
	}
}

const (
	againAfter = time.Second     // an org's loop that failed is begun anew
	strayEvery = 5 * time.Second // between two looks for events of orgs without rules
)

// running is the loop of an org.
type running struct {
	stop  context.CancelFunc
	ended chan struct{}
}

func (r *running) end() {
	r.stop()
	<-r.ended
}

// runOrgs has a loop run for each org that has rules.
func (s *Service) runOrgs(ctx context.Context) {
	loops := map[protocol.OrgID]*running{}
	for ctx.Err() == nil {
		wanted := s.runnable()
		for id, r := range loops {
			if !wanted[id] {
				r.end()
				delete(loops, id)
			}
		}
		for id, may := range wanted {
			if may && loops[id] == nil {
				loops[id] = s.startOrg(ctx, id)
			}
		}
		select {
		case <-ctx.Done():
		case <-s.changed:
		}
	}
	for _, r := range loops {
		r.end()
	}
}

// startOrg runs the loop of an org, again and again if it fails.
func (s *Service) startOrg(ctx context.Context, id protocol.OrgID) *running {
	ctx, stop := context.WithCancel(ctx)
	r := &running{stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		defer stop()
		for ctx.Err() == nil {
			err := s.runLoop(ctx, id)
			if ctx.Err() != nil {
				return
			}
			s.log.LogAttrs(ctx, slog.LevelWarn, "the events of an org are begun anew", slog.String("org", string(id)), slog.Any("error", err))
			if !pause(ctx, againAfter) {
				return
			}
		}
	}()
	return r
}

// runLoop runs the loop of an org once. A panic, as over an event that nobody thought of, is that org's alone.
func (s *Service) runLoop(ctx context.Context, id protocol.OrgID) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("panic: %v\n%s", reason, debug.Stack())
		}
	}()
	return s.loop(id)(ctx)
}

// dropStrays removes, now and then, the events of orgs that have no rules.
func (s *Service) dropStrays(ctx context.Context) {
	for pause(ctx, s.strayEvery) {
		if err := s.dropStray(ctx); err != nil && ctx.Err() == nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "cannot drop the events of orgs without rules", slog.Any("error", err))
		}
	}
}

// dropStray removes what was stored before it was seen that an org had no rules: an event behind the making of a rule is not among that.
func (s *Service) dropStray(ctx context.Context) error {
	tokens, last, err := s.conn.EventOrgs(ctx)
	if err != nil {
		return err
	}
	for _, token := range tokens {
		keys, err := s.bucket.Keys(ctx, token+".rule.*")
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			continue
		}
		if err := s.conn.DropStray(ctx, token, last); err != nil {
			return err
		}
	}
	return nil
}

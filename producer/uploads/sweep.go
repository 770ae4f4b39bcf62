package uploads

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sourcegraph/conc/pool"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	sweepEvery  = 10 * time.Second // at least
	sweepShare  = 20               // a pass is followed by a rest of so many times its length, unless it left something
	sweepMost   = 10_000           // sessions that a pass brings on; their names are in memory
	sweepAtOnce = 8
	sweepLimit  = time.Minute // for one of them
)

// Run sweeps until the context ends: sessions that expire, that have ended and left something, or that nobody brings to their end.
func (s *Service) Run(ctx context.Context) {
	rest := sweepEvery
	for {
		timer := time.NewTimer(rest/2 + rand.N(rest)) //nolint:gosec // jitter needs no secrecy
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		begun := time.Now()
		more, err := s.sweep(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Warn("cannot sweep upload sessions", "error", err)
		}
		// What a pass costs grows with the sessions that are kept. One that left something is followed by another soon: else it would
		// fall behind the more, the more is to be done.
		if rest = sweepEvery; !more || err != nil {
			rest = max(sweepEvery, sweepShare*time.Since(begun))
		}
	}
}

// sweep makes one pass, and reports whether more was due than it took on.
func (s *Service) sweep(ctx context.Context) (more bool, err error) {
	var due []Name // of all that are due any is as likely as another, so that those that stay due hold up nobody for good
	seen := 0
	wrongClock, err := s.clockIsWrong(ctx)
	if err != nil {
		return false, err
	}
	err = s.bucket.Scan(ctx, protocol.UploadSessionFilter("", ""), func(e broker.Scanned) bool {
		rec, err := decode(e.Entry)
		if err != nil {
			s.log.Error("a session cannot be read", "key", e.Key, "error", err)
			return true
		}
		if !s.due(&rec.Upload) || wrongClock && s.dueByTime(&rec.Upload) {
			return true
		}
		seen++
		if len(due) < s.most {
			due = append(due, rec.name())
		} else if at := rand.N(seen); at < s.most { //nolint:gosec // a sample needs no secrecy
			due[at] = rec.name()
		}
		return true
	})
	if err != nil {
		return false, fmt.Errorf("look for upload sessions: %w", err)
	}
	rand.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] }) //nolint:gosec // no more does an order
	bringing := pool.New().WithContext(ctx).WithMaxGoroutines(sweepAtOnce).WithCancelOnError().WithFirstError()
	for _, name := range due {
		bringing.Go(func(ctx context.Context) error {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // another one says why
			}
			return s.tryToBringOn(ctx, name)
		})
	}
	return seen > len(due), bringing.Wait() //nolint:wrapcheck // wrapped where it was
}

// tryToBringOn returns only what would befall other sessions, too.
func (s *Service) tryToBringOn(ctx context.Context, name Name) error {
	err := s.bringOn(ctx, name)
	if err == nil || refused(err, RefusedNotFound) { // another sweep was faster
		return nil
	}
	s.log.Warn("cannot bring on an upload session yet", "upload", name.ID, "error", err)
	if ctx.Err() != nil || errors.Is(err, ErrStagingAway) || errors.Is(err, broker.ErrUnavailable) {
		return err
	}
	return nil
}

// due reports whether a sweep has something to do for a session.
func (s *Service) due(u *protocol.Upload) bool {
	switch {
	case u.State == protocol.UploadCompleting:
		return true
	case !u.State.Final():
		return s.over(u)
	case !u.Cleaned && s.elsewhere(u) == nil:
		return true
	default: // a process that uses another bucket leaves the cleaning to those who can, while there may be some
		return s.now().Sub(u.Ended) > KeptFor
	}
}

// dueByTime reports whether a session is due because of the time alone, if it is due.
func (s *Service) dueByTime(u *protocol.Upload) bool {
	return s.over(u) || u.State.Final() && (u.Cleaned || s.elsewhere(u) != nil)
}

// bringOn makes the next step of a session.
func (s *Service) bringOn(ctx context.Context, name Name) error {
	ctx, cancel := context.WithTimeoutCause(ctx, sweepLimit, fmt.Errorf("%w: not done within %s", broker.ErrUnavailable, sweepLimit))
	defer cancel()
	rec, err := s.read(ctx, name)
	if err != nil || !s.due(&rec.Upload) {
		return err
	}
	switch {
	case rec.State == protocol.UploadCompleting:
		_, err = s.settle(ctx, rec)
	case !rec.State.Final():
		_, err = s.expire(ctx, name)
	case !rec.Cleaned:
		err = s.clean(ctx, rec)
	default:
		err = s.remove(ctx, rec)
	}
	return err
}

// clean removes all that an ended session has left but its record. It may be done again at any step.
func (s *Service) clean(ctx context.Context, rec *record) error {
	if err := s.unstage(ctx, rec); err != nil {
		return err
	}
	failpoint.Hit(failpoint.SessionUnstaged)
	if err := s.forgetParts(ctx, rec); err != nil {
		return err
	}
	_, err := s.change(ctx, rec.name(), func(u *protocol.Upload) (bool, error) {
		if u.Cleaned || u.Key != rec.Key {
			return false, nil
		}
		u.Cleaned = true
		return true, nil
	})
	return err
}

// unstage removes what is staged of an ended session.
func (s *Service) unstage(ctx context.Context, rec *record) error {
	if err := s.elsewhere(&rec.Upload); err != nil {
		s.log.Warn("what an upload session has staged stays in its bucket", "error", err)
		return nil
	}
	for _, key := range stagedKeys(&rec.Upload) {
		if err := s.staging.Clean(ctx, key, rec.Multipart, true); err != nil {
			return fmt.Errorf("remove what is staged of %s: %w", rec.ID, err)
		}
	}
	return nil
}

// forgetParts removes the progress first: the aggregator commits pages under its revision, and can store none from then on.
func (s *Service) forgetParts(ctx context.Context, rec *record) error {
	if rec.PartCount == 0 {
		return nil
	}
	if err := s.bucket.Drop(ctx, protocol.UploadProgressKey(rec.Org, rec.Sandbox, rec.ID)); err != nil {
		return fmt.Errorf("forget the parts of %s: %w", rec.ID, err)
	}
	if err := s.bucket.DropAll(ctx, protocol.UploadPageFilter(rec.Org, rec.Sandbox, rec.ID)); err != nil {
		return fmt.Errorf("forget the parts of %s: %w", rec.ID, err)
	}
	return nil
}

// remove forgets a session that could be read for long enough. What a front staged, or an aggregator folded, after all was cleaned, because
// it had hung, goes with it.
func (s *Service) remove(ctx context.Context, rec *record) error {
	if err := errors.Join(s.unstage(ctx, rec), s.forgetParts(ctx, rec)); err != nil {
		return err
	}
	quota, revision, err := s.readQuota(ctx, rec.Org, rec.Sandbox)
	if err != nil {
		return err
	}
	session := broker.Entry{Key: protocol.UploadSessionKey(rec.Org, rec.Sandbox, rec.ID), Revision: rec.revision}
	if revision == 0 || len(quota.Reserved) > 0 {
		err = s.bucket.DropAt(ctx, session.Key, session.Revision)
	} else { // a sandbox that has no sessions any more needs no record
		err = s.bucket.DropTogether(ctx, session, broker.Entry{Key: protocol.UploadQuotaKey(rec.Org, rec.Sandbox), Revision: revision})
	}
	if err != nil && !errors.Is(err, broker.ErrConflict) { // of a conflict the next pass sees what came of it
		return fmt.Errorf("forget the session %s: %w", rec.ID, err)
	}
	return nil
}

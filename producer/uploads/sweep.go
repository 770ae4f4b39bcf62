package uploads

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	sweepEvery = 10 * time.Second // at least
	sweepShare = 20               // a pass is followed by a rest of so many times its length
	sweepMost  = 256              // sessions that a pass brings on
	sweepLimit = time.Minute      // for one of them
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
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("cannot sweep upload sessions", "error", err)
		}
		rest = max(sweepEvery, sweepShare*time.Since(begun))
	}
}

// sweep makes one pass. What it does not come to, a later one does.
func (s *Service) sweep(ctx context.Context) error {
	var due []*record // of all that are due any is as likely as another, so that those that stay due hold up nobody for good
	seen := 0
	err := s.bucket.Scan(ctx, protocol.UploadSessionFilter("", ""), func(e broker.Scanned) bool {
		rec, err := decode(e.Entry)
		if err != nil {
			s.log.Error("a session cannot be read", "key", e.Key, "error", err)
			return true
		}
		if !s.due(&rec.Upload) {
			return true
		}
		seen++
		if len(due) < sweepMost {
			due = append(due, rec)
		} else if at := rand.N(seen); at < sweepMost { //nolint:gosec // a sample needs no secrecy
			due[at] = rec
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("look for upload sessions: %w", err)
	}
	rand.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] }) //nolint:gosec // no more does an order
	for _, rec := range due {
		if err := s.bringOn(ctx, rec); err != nil {
			s.log.Warn("cannot bring on an upload session yet", "upload", rec.ID, "state", rec.State, "error", err)
			if ctx.Err() != nil || errors.Is(err, ErrStagingAway) || errors.Is(err, broker.ErrUnavailable) {
				return err // the others would fare alike
			}
		}
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
	case !u.Cleaned:
		return true
	default:
		return s.now().Sub(u.Ended) > KeptFor
	}
}

// bringOn makes the next step of a session.
func (s *Service) bringOn(ctx context.Context, rec *record) error {
	ctx, cancel := context.WithTimeoutCause(ctx, sweepLimit, fmt.Errorf("%w: not done within %s", broker.ErrUnavailable, sweepLimit))
	defer cancel()
	var err error
	switch {
	case rec.State == protocol.UploadCompleting:
		_, err = s.settle(ctx, rec)
	case !rec.State.Final():
		_, err = s.expire(ctx, rec.name())
	case !rec.Cleaned:
		err = s.clean(ctx, rec)
	default:
		err = s.remove(ctx, rec)
	}
	if refused(err, RefusedNotFound) {
		return nil // another sweep was faster
	}
	return err
}

// clean removes all that an ended session has left but its record. It may be done again at any step.
func (s *Service) clean(ctx context.Context, rec *record) error {
	for _, key := range stagedKeys(&rec.Upload) {
		if err := s.staging.Clean(ctx, key, rec.Multipart, rec.Created); err != nil {
			return fmt.Errorf("remove what is staged of %s: %w", rec.ID, err)
		}
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

// forgetParts removes the progress first: the aggregator commits pages under its revision, and can store none from then on.
func (s *Service) forgetParts(ctx context.Context, rec *record) error {
	if err := s.bucket.Drop(ctx, protocol.UploadProgressKey(rec.Org, rec.Sandbox, rec.ID)); err != nil {
		return fmt.Errorf("forget the parts of %s: %w", rec.ID, err)
	}
	if err := s.bucket.DropAll(ctx, protocol.UploadPageFilter(rec.Org, rec.Sandbox, rec.ID)); err != nil {
		return fmt.Errorf("forget the parts of %s: %w", rec.ID, err)
	}
	return nil
}

// remove forgets a session that could be read for long enough.
func (s *Service) remove(ctx context.Context, rec *record) error {
	if err := s.forgetParts(ctx, rec); err != nil { // news of parts may have been folded while they were forgotten
		return err
	}
	if err := s.bucket.DropAt(ctx, protocol.UploadSessionKey(rec.Org, rec.Sandbox, rec.ID), rec.revision); err != nil {
		return fmt.Errorf("forget the session %s: %w", rec.ID, err)
	}
	return nil
}

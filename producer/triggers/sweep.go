package triggers

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/producer/events"
	"github.com/copyfleet/copyfleet/protocol"
)

// The states of a sweep.
const (
	sweepRunning = "running"
	sweepDone    = "done"
	sweepFailed  = "failed"
)

// Times of sweeps.
const (
	// sweepSlack is by how much the clocks of a store and of those who list may differ: S3 answers nobody whose clock differs by more than 15 minutes.
	sweepSlack = 16 * time.Minute
	sweepBeat  = 2 * time.Second // between two signs of life of who lists
	sweepStale = 5 * sweepBeat   // without one: the process that listed is dead
	sweepPoll  = 200 * time.Millisecond
	sweepKeep  = 10 * time.Second // for the last write about a sweep, whoever asked for it is gone
)

// sweepRecord is what stands at [protocol.SweepKey]: the newest sweep of a rule, and how far the complete ones reach. Who lists changes it every
// [sweepBeat]; one that is listed and does not change belongs to a process that died.
type sweepRecord struct {
	Swept

	Listing bool      `json:"listing"` // false while running: all is published, and waits to be decided on
	Beat    int       `json:"beat"`
	All     bool      `json:"all"`     // it lists whatever the age
	Since   time.Time `json:"since"`   // what it lists was modified then or later
	Version int       `json:"version"` // of the rule
	Created time.Time `json:"created"` // of the rule: one that was deleted and made anew has swept nothing

	Through time.Time `json:"through"` // start of the last complete sweep; zero: there was none
	Whole   int       `json:"whole"`   // version of the rule that a complete sweep listed everything for; 0: there was none
}

// running reports whether a sweep has not ended, as far as it is known.
func (r *sweepRecord) running() bool { return r.State == sweepRunning }

// next is a sweep that begins now.
func (r *sweepRecord) next(rule activeRule, all, byHand bool) sweepRecord {
	n := sweepRecord{
		Swept:   Swept{ID: newSweepID(), Rule: rule.rule.Name, State: sweepRunning, Started: time.Now().UTC()},
		Listing: true, All: all, Version: rule.version, Created: rule.created,
	}
	if r.Created.Equal(rule.created) {
		n.Through, n.Whole = r.Through, r.Whole
	}
	switch {
	case all || byHand && n.Whole != rule.version:
		n.All = true
	case n.Through.IsZero():
		n.Since = rule.created.Add(-sweepSlack)
	default:
		n.Since = n.Through.Add(-sweepSlack)
	}
	return n
}

// notGranted is the message of a sweep that was not made for want of a grant.
const notGranted = "The org has no grant for the bucket and prefix of the rule."

func newSweepID() string { return "swp_" + strings.ToLower(rand.Text()) }

// Sweep looks for objects of which no event came, and has them copied. It returns when all that was listed is decided on. all lists what earlier
// sweeps have dealt with, too. Of two at once of one rule one is made, and both return it unless it fails. A sweep that fails is no error: its
// state says so, and what it had found by then is copied. [ErrNoGrant]: the org may not use all that would be listed.
func (s *Service) Sweep(ctx context.Context, org protocol.OrgID, name string, all bool) (Swept, error) {
	return s.sweep(ctx, org, name, all, true)
}

func (s *Service) sweep(ctx context.Context, org protocol.OrgID, name string, all, byHand bool) (Swept, error) {
	for {
		rule, err := s.sweepable(org, name)
		if err != nil {
			return Swept{}, err
		}
		granted := s.queue.Granted(org, rule.rule.Match.Bucket, rule.rule.Match.Prefix)
		if !granted && byHand {
			return Swept{}, ErrNoGrant
		}
		record, revision, err := s.readSweep(ctx, org, name)
		if err != nil {
			return Swept{}, err
		}
		if record.running() && record.Created.Equal(rule.created) {
			ended, err := s.awaitSweep(ctx, org, &record, revision)
			if errors.Is(err, errSweepDead) || err == nil && (all && !record.All || ended.State == sweepFailed) {
				continue // it was somebody's who died, or about less
			}
			return ended, err
		}
		next := record.next(rule, all, byHand)
		if !granted { // that is noted, so that views tell it, and so that the sweep is due again only after a while
			next.fail(notGranted)
		}
		swept, err := s.beginSweep(ctx, org, rule, &next, revision)
		if !errors.Is(err, broker.ErrConflict) { // else somebody else began one
			return swept, err
		}
	}
}

// beginSweep makes a sweep, unless it failed already. The error is [broker.ErrConflict] if what stands of the sweeps of the rule was changed meanwhile.
func (s *Service) beginSweep(ctx context.Context, org protocol.OrgID, rule activeRule, next *sweepRecord, revision uint64) (Swept, error) {
	revision, err := s.bucket.Update(ctx, broker.Change{Key: protocol.SweepKey(org, next.Rule), Value: next.encoded(), Revision: revision})
	if err != nil {
		return Swept{}, fmt.Errorf("begin a sweep of %s: %w", next.Rule, err)
	}
	if !next.running() {
		return next.Swept, nil
	}
	return s.runSweep(ctx, org, rule, next, revision)
}

// sweepable is a rule on a bucket.
func (s *Service) sweepable(org protocol.OrgID, name string) (activeRule, error) {
	rule, err := s.lookup(org, name)
	if err == nil && rule.rule.Match.Source != events.S3 {
		err = ErrNoSweep
	}
	return rule, err
}

// runSweep makes a sweep that was begun, and waits until what it found is decided on.
func (s *Service) runSweep(ctx context.Context, org protocol.OrgID, rule activeRule, record *sweepRecord, revision uint64) (Swept, error) {
	l := &listing{s: s, org: org, rule: rule, begun: *record, record: record, revision: revision}
	if err := l.run(ctx); err != nil {
		return s.failSweep(ctx, org, rule.rule.Name, record.ID, sweepMessageOf(err))
	}
	ended, err := s.awaitSweep(ctx, org, record, l.revision)
	if errors.Is(err, errSweepDead) {
		err = nil // what was published is decided on in time, but this one was replaced
	}
	return ended, err
}

// errSweepDead says that nobody lists for a sweep any more.
var errSweepDead = errors.New("the process that made the sweep ended")

// awaitSweep returns when a sweep has ended, as it ended, or with [errSweepDead]. revision is the one that its record had.
func (s *Service) awaitSweep(ctx context.Context, org protocol.OrgID, of *sweepRecord, revision uint64) (Swept, error) {
	last, seen := *of, time.Now()
	for {
		if !pause(ctx, sweepPoll) {
			return last.Swept, context.Cause(ctx)
		}
		if rule, err := s.sweepable(org, of.Rule); err != nil || !rule.created.Equal(of.Created) {
			return last.Swept, ErrNoRule // nobody decides on what was found
		}
		now, at, err := s.readSweep(ctx, org, of.Rule)
		switch {
		case err != nil: // the broker is away, and comes back
			seen = time.Now()
		case now.ID != of.ID:
			last.State, last.Message = sweepFailed, "Another sweep took its place."
			return last.Swept, nil
		case !now.running():
			return now.Swept, nil
		case at != revision:
			last, revision, seen = now, at, time.Now()
		case now.Listing && time.Since(seen) > sweepStale:
			return s.buried(ctx, org, &now, at)
		}
	}
}

// buried notes that the process that listed is dead, unless it was not.
func (s *Service) buried(ctx context.Context, org protocol.OrgID, record *sweepRecord, revision uint64) (Swept, error) {
	record.fail("The process that made the sweep ended.")
	_, err := s.bucket.Update(ctx, broker.Change{Key: protocol.SweepKey(org, record.Rule), Value: record.encoded(), Revision: revision})
	if err != nil && !errors.Is(err, broker.ErrConflict) {
		return record.Swept, err
	}
	return record.Swept, errSweepDead
}

func (r *sweepRecord) fail(message string) {
	r.State, r.Listing, r.Ended, r.Message = sweepFailed, false, time.Now().UTC(), message
}

func (r *sweepRecord) encoded() []byte {
	raw, _ := json.Marshal(r) //nolint:errchkjson // its times are those of clocks and stores, and have four digits of a year
	return raw
}

// readSweep returns what stands of the newest sweep of a rule, the zero value if there was none, and the revision to change it at.
func (s *Service) readSweep(ctx context.Context, org protocol.OrgID, rule string) (sweepRecord, uint64, error) {
	var record sweepRecord
	entry, err := s.bucket.Get(ctx, protocol.SweepKey(org, rule))
	switch {
	case errors.Is(err, broker.ErrNotFound):
		return record, entry.Revision, nil
	case err != nil:
		return record, 0, err
	}
	if err := json.Unmarshal(entry.Value, &record); err != nil {
		s.log.LogAttrs(ctx, slog.LevelError, "what is stored of a sweep cannot be read", slog.String("rule", rule), slog.Any("error", err))
	}
	return record, entry.Revision, nil
}

// changeSweep changes what stands of a sweep that runs; nothing if it does not any more.
func (s *Service) changeSweep(ctx context.Context, org protocol.OrgID, rule, id string, change func(*sweepRecord)) (sweepRecord, error) {
	for {
		record, revision, err := s.readSweep(ctx, org, rule)
		if err != nil || record.ID != id || !record.running() {
			return record, err
		}
		change(&record)
		_, err = s.bucket.Update(ctx, broker.Change{Key: protocol.SweepKey(org, rule), Value: record.encoded(), Revision: revision})
		if !errors.Is(err, broker.ErrConflict) {
			return record, err
		}
	}
}

// failSweep notes why a sweep failed. What earlier ones have swept stays so.
func (s *Service) failSweep(ctx context.Context, org protocol.OrgID, rule, id, message string) (Swept, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sweepKeep)
	defer cancel()
	record, err := s.changeSweep(ctx, org, rule, id, func(r *sweepRecord) { r.fail(message) })
	if record.ID != id {
		record.Swept = Swept{ID: id, Rule: rule, State: sweepFailed, Message: message}
	}
	return record.Swept, err
}

// sweptDecided notes that all that a sweep listed is decided on, and the copies are asked for. It may be called again.
func (s *Service) sweptDecided(ctx context.Context, org protocol.OrgID, rule, id string, t sweepTally) error {
	_, err := s.changeSweep(ctx, org, rule, id, func(r *sweepRecord) {
		r.State, r.Listing, r.Ended = sweepDone, false, time.Now().UTC()
		r.Listed, r.Known, r.Recovered, r.Refused = t.Listed, t.Known, t.Recovered, t.Refused
		r.Through = r.Started
		if r.All {
			r.Whole = r.Version
		}
	})
	return err
}

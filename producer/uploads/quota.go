package uploads

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

// share is what a session takes of the quota; -1: nothing, not even a place among the sessions.
func share(u *protocol.Upload) int64 {
	if u.State.Final() {
		return -1
	}
	return u.Length
}

// withShare returns the quota with the share that a session has now.
func withShare(q protocol.UploadQuota, u *protocol.Upload) protocol.UploadQuota {
	kept := make([]protocol.ReservedUpload, 0, len(q.Reserved)+1)
	for _, r := range q.Reserved {
		if r.ID != u.ID {
			kept = append(kept, r)
		}
	}
	if bytes := share(u); bytes >= 0 {
		kept = append(kept, protocol.ReservedUpload{ID: u.ID, Bytes: bytes, Expires: u.Expires})
	}
	return protocol.UploadQuota{Version: protocol.UploadVersion, Reserved: kept}
}

// readQuota returns what of a sandbox's quota is taken, and the revision to write it anew.
func (s *Service) readQuota(ctx context.Context, org protocol.OrgID, sandbox protocol.SandboxID) (protocol.UploadQuota, uint64, error) {
	var q protocol.UploadQuota
	entry, err := s.bucket.Get(ctx, protocol.UploadQuotaKey(org, sandbox))
	if errors.Is(err, broker.ErrNotFound) {
		return q, entry.Revision, nil
	}
	if err != nil {
		return q, 0, fmt.Errorf("read the staging quota of %s: %w", sandbox, err)
	}
	if err := json.Unmarshal(entry.Value, &q); err != nil {
		return q, 0, fmt.Errorf("read the staging quota of %s: %w", sandbox, err)
	}
	return q, entry.Revision, nil
}

// admit says why a new session does not fit; nil: it does.
func (s *Service) admit(q *protocol.UploadQuota, length int64) error {
	if len(q.Reserved) >= s.cfg.Sessions {
		return &Refusal{Code: RefusedSessions, Message: fmt.Sprintf("The sandbox has %d uploads that have not ended; at most %d are allowed.",
			len(q.Reserved), s.cfg.Sessions)}
	}
	if sum := q.Sum(); length > s.cfg.Quota-sum {
		return &Refusal{Code: RefusedQuota, Message: fmt.Sprintf(
			"The upload needs %d bytes of the sandbox's staging quota of %d bytes, of which other uploads have reserved %d.", length, s.cfg.Quota, sum)}
	}
	return nil
}

// storeShare writes a session and the quota in one commit. One that has no share yet is admitted first.
func (s *Service) storeShare(ctx context.Context, was *record, next *protocol.Upload) (*record, error) {
	// Calls of this process do not race each other: of n that write the same quota at once all but one would have to read it again.
	release, err := s.turns.take(ctx, protocol.UploadQuotaKey(next.Org, next.Sandbox))
	if err != nil {
		return nil, err
	}
	defer release()
	quota, quotaRevision, err := s.readQuota(ctx, next.Org, next.Sandbox)
	if err != nil {
		return nil, err
	}
	var revision uint64
	if was != nil {
		revision = was.revision
	}
	if was == nil || share(&was.Upload) < 0 {
		if err := s.admit(&quota, next.Length); err != nil {
			return nil, err
		}
	}
	session, err := changeOf(protocol.UploadSessionKey(next.Org, next.Sandbox, next.ID), next, revision)
	if err != nil {
		return nil, err
	}
	shares, err := changeOf(protocol.UploadQuotaKey(next.Org, next.Sandbox), withShare(quota, next), quotaRevision)
	if err != nil {
		return nil, err
	}
	revisions, err := s.bucket.Commit(ctx, []broker.Change{session, shares})
	if err != nil {
		return nil, fmt.Errorf("store the session %s: %w", next.ID, err)
	}
	if next.State.Final() {
		failpoint.Hit(failpoint.SessionEnded)
	}
	return &record{Upload: *next, revision: revisions[0]}, nil
}

// endExpired ends the sessions of a sandbox whose time is over, so that what they have reserved is free, and tells whether there were any. Only
// those that the quota says to be over are looked at.
func (s *Service) endExpired(ctx context.Context, org protocol.OrgID, sandbox protocol.SandboxID) (bool, error) {
	quota, _, err := s.readQuota(ctx, org, sandbox)
	if err != nil {
		return false, err
	}
	now, some := s.now(), false
	if wrong, err := s.clockIsWrong(ctx); err != nil || wrong {
		return false, err
	}
	for _, r := range slices.Clone(quota.Reserved) {
		if !now.After(r.Expires) {
			continue
		}
		rec, err := s.expire(ctx, Name{Org: org, Sandbox: sandbox, ID: r.ID})
		if err != nil {
			return some, err
		}
		some = some || rec.State.Final()
	}
	return some, nil
}

// expire ends a session whose time is over. One that is being published is left alone until its batch has ended.
func (s *Service) expire(ctx context.Context, name Name) (*record, error) {
	return s.change(ctx, name, func(u *protocol.Upload) (bool, error) {
		if !s.over(u) {
			return false, nil
		}
		return true, s.end(ctx, u, protocol.UploadExpired)
	})
}

// clockSlack is by how much clocks may differ.
const clockSlack = time.Minute

// clockIsWrong reports whether the clock of this machine is so far ahead that what seems to be over may not be: nothing is to be ended by it.
func (s *Service) clockIsWrong(ctx context.Context) (bool, error) {
	theirs, err := s.theirs(ctx)
	if err != nil {
		return false, fmt.Errorf("compare the clock with the broker's: %w", err)
	}
	ahead := s.now().Sub(theirs)
	if ahead <= clockSlack {
		return false, nil
	}
	s.log.Error("no upload session is ended: the clock of this machine is ahead of the broker's", "seconds", int64(ahead.Seconds()))
	return true, nil
}

// over reports whether a session takes no parts any more because of the time alone.
func (s *Service) over(u *protocol.Upload) bool {
	return (u.State == protocol.UploadCreating || u.State == protocol.UploadOpen) && s.now().After(u.Expires)
}

// end makes a session's end part of a decision. What is known of its parts is kept in it, unless it was published: then all were there.
func (s *Service) end(ctx context.Context, u *protocol.Upload, state protocol.UploadState) error {
	u.State, u.Ended = state, s.now()
	if state == protocol.UploadCompleted {
		return nil
	}
	progress, err := s.progress(ctx, u)
	if err != nil {
		return err
	}
	u.Have = progress.Have
	return nil
}

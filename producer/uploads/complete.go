package uploads

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

// Complete begins to publish a session whose parts are all there, or finds that it was begun; whole is the SHA-256 of all, in lowercase hex, or "". The
// session is completing, with the batch that publishes it, or completed. One that failed, or was ended otherwise, is refused.
func (s *Service) Complete(ctx context.Context, name Name, whole, trace string) (*Session, error) {
	rec, err := s.read(ctx, name)
	if err != nil {
		return nil, err
	}
	if rec, err = s.begin(ctx, rec); err != nil {
		return nil, err
	}
	if _, err := s.settle(ctx, rec); err != nil {
		return nil, err
	}
	rec, err = s.change(ctx, name, func(u *protocol.Upload) (bool, error) { return s.startCompleting(ctx, u, whole) })
	if err != nil {
		return nil, err
	}
	if rec.State == protocol.UploadCompleting {
		failpoint.Hit(failpoint.SessionCompleting)
		if err := s.submitUnlessThere(ctx, rec, trace); err != nil {
			return nil, err
		}
	}
	return s.view(ctx, rec)
}

// startCompleting decides whether a session is to be published. One that is being published, or was, stays as it is.
func (s *Service) startCompleting(ctx context.Context, u *protocol.Upload, whole string) (bool, error) {
	rec := &record{Upload: *u}
	if u.State != protocol.UploadCompleting && u.State != protocol.UploadCompleted {
		if err := s.refuseUnlessOpen(ctx, rec); err != nil {
			return false, err
		}
	}
	if whole != "" && u.Whole != "" && whole != u.Whole {
		return false, s.refusal(ctx, rec, RefusedWhole, "Another whole_checksum_sha256 was given for this upload before.")
	}
	if u.State != protocol.UploadOpen {
		if u.State == protocol.UploadCreating { // of a direct upload: its content is on its way
			return false, s.refusal(ctx, rec, RefusedMissing, "The content of the upload is not there yet.")
		}
		return false, nil
	}
	progress, err := s.progress(ctx, u)
	if err != nil {
		return false, err
	}
	if _, missing, _ := parts(u, &progress); len(missing) > 0 {
		refusal := s.refusal(ctx, rec, RefusedMissing, fmt.Sprintf("%d of the %d parts are missing.", u.PartCount-count(u, &progress), u.PartCount))
		refusal.Missing = missing
		return false, refusal
	}
	if whole != "" {
		u.Whole = whole
	}
	publish(u)
	return true, nil
}

// publish makes it part of a decision that a session is published from now on.
func publish(u *protocol.Upload) {
	u.State, u.Failure = protocol.UploadCompleting, nil
	u.Generation++
	u.Batch = batchOf(u)
}

// batchOf is the one batch of a session's generation. A later session of the same id has others: its key is another.
func batchOf(u *protocol.Upload) protocol.BatchID {
	return protocol.KeyedBatchID(u.Org, "\x00upload\x00"+u.Key+"\x00"+strconv.Itoa(u.Generation))
}

// submitUnlessThere has the batch of a completing session accepted. It is asked for first, so that a repeated call costs the queue nothing.
func (s *Service) submitUnlessThere(ctx context.Context, rec *record, trace string) error {
	if rec.Withdrawn {
		return nil
	}
	_, _, err := s.queue.Outcome(ctx, rec.Org, rec.Batch)
	if err == nil {
		return nil
	}
	if !errors.Is(err, ErrNoBatch) {
		return fmt.Errorf("look for the batch of %s: %w", rec.ID, err)
	}
	return s.submit(ctx, rec, trace)
}

func (s *Service) submit(ctx context.Context, rec *record, trace string) error {
	err := s.queue.Submit(ctx, Publication{Org: rec.Org, Batch: rec.Batch, Pool: rec.Pool, Item: itemOf(&rec.Upload), Trace: trace})
	if err != nil {
		return fmt.Errorf("queue the publication of %s: %w", rec.ID, err)
	}
	failpoint.Hit(failpoint.SessionSubmitted)
	return nil
}

// itemOf is the copy that publishes a session.
func itemOf(u *protocol.Upload) protocol.Item {
	size := u.Length
	item := protocol.Item{
		ID:     string(u.ID),
		Src:    protocol.Location{Type: protocol.StagedUpload, Sandbox: u.Sandbox, Upload: u.ID},
		Dest:   protocol.Location{Type: protocol.SandboxFile, Sandbox: u.Sandbox, Path: u.TargetPath},
		Expect: protocol.Expect{Size: &size, SHA256: u.Whole},
	}
	if u.Kind == protocol.UploadTree {
		item.Dest.Type = protocol.SandboxTree
	}
	switch {
	case u.Conflict == protocol.UploadError:
		item.Conflict = protocol.FailIfThere
	case u.Conflict == protocol.UploadMerge && u.Kind == protocol.UploadTree:
		item.Conflict = protocol.MergeTree
	default:
		item.Conflict = protocol.Overwrite
	}
	return item
}

package uploads

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

// Codes of failures that say something about the session, not about what is published.
const (
	codePartLost      = "upload_part_lost"      // the store does not have a part as it was told
	codeNotCompleting = "upload_not_completing" // the worker found the session in another state
)

// submitAfter is how old a publication is whose batch is not there when somebody other than its caller submits it.
const submitAfter = time.Minute

// settle brings a session whose batch has ended to what follows from it.
func (s *Service) settle(ctx context.Context, rec *record) (*record, error) {
	if rec.State != protocol.UploadCompleting {
		return rec, nil
	}
	receipt, ended, err := s.queue.Outcome(ctx, rec.Org, rec.Batch)
	if errors.Is(err, ErrNoBatch) && rec.Withdrawn {
		receipt, ended, err = protocol.Receipt{State: protocol.ItemCanceled}, true, nil // whenever it comes, nobody publishes it
	}
	if errors.Is(err, ErrNoBatch) { // the front that was to submit it is at it, or has died
		if s.now().Sub(rec.Updated) < submitAfter {
			return rec, nil
		}
		return rec, s.submit(ctx, rec, "")
	}
	if err != nil {
		return nil, fmt.Errorf("look how the publication of %s goes: %w", rec.ID, err)
	}
	if !ended {
		return rec, nil
	}
	after, err := s.change(ctx, rec.name(), func(u *protocol.Upload) (bool, error) {
		if u.State != protocol.UploadCompleting || u.Batch != rec.Batch {
			return false, nil
		}
		return true, s.settled(ctx, u, &receipt)
	})
	if err != nil {
		return nil, err
	}
	failpoint.Hit(failpoint.SessionSettled)
	return after, nil
}

// settled is what becomes of a session by the receipt of its publication.
func (s *Service) settled(ctx context.Context, u *protocol.Upload, receipt *protocol.Receipt) error {
	switch {
	case receipt.State == protocol.ItemSucceeded:
		u.PublishedBytes, u.PublishedFiles = receipt.Bytes, 1
		if receipt.Unpacked != nil {
			u.PublishedBytes, u.PublishedFiles = receipt.Unpacked.Bytes, receipt.Unpacked.Files
		}
		return s.end(ctx, u, protocol.UploadCompleted)
	case receipt.State == protocol.ItemFailed && hopeless(receipt.Failure):
		u.Failure = failed(receipt.Failure)
		return s.end(ctx, u, protocol.UploadFailed)
	}
	if u.Withdrawn {
		return s.end(ctx, u, protocol.UploadAborted)
	}
	// What was staged is there still, but for lost parts: it can be completed again.
	u.State, u.Failure = protocol.UploadOpen, failed(receipt.Failure)
	if u.Failure == nil {
		u.Failure = &protocol.Failure{Class: protocol.Canceled, Code: "canceled", Message: "The publication was canceled."}
	}
	return nil
}

// failed is a failure as the session tells it. Receipts begin with the side of the copy that failed, for which they have the words of the copy
// call; to who uploads, the staged bytes are no download.
func failed(f *protocol.Failure) *protocol.Failure {
	if f == nil {
		return nil
	}
	told := *f
	told.Message = strings.TrimPrefix(told.Message, "Failed to download file: ")
	return &told
}

// hopeless reports whether publishing the same parts again would fail in the same way.
func hopeless(f *protocol.Failure) bool {
	if f == nil || f.Code == codePartLost || f.Code == codeNotCompleting {
		return false
	}
	switch f.Class {
	case protocol.NotFound, protocol.Denied, protocol.Invalid, protocol.Conflict, protocol.TooLarge, protocol.ForbiddenAddress, protocol.Corrupt:
		return true
	default:
		return false
	}
}

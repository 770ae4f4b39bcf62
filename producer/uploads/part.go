package uploads

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/internal/observe"
	"github.com/copyfleet/copyfleet/protocol"
)

// PutPart stores a part, and returns once its state is in KV.
func (s *Service) PutPart(ctx context.Context, name Name, part Part) (*Session, error) {
	begun := time.Now()
	session, err := s.putPart(ctx, name, &part)
	s.cfg.Metrics.UploadPart(ctx, partOutcome(err), part.Length, time.Since(begun))
	return session, err
}

// partOutcome is the word for a metric: one of four.
func partOutcome(err error) observe.UploadOutcome {
	_, isRefusal := errors.AsType[*Refusal](err)
	switch {
	case err == nil:
		return observe.UploadAccepted
	case isRefusal:
		return observe.UploadRefused
	case errors.Is(err, ErrBody):
		return observe.UploadBroken
	default:
		return observe.UploadFailed
	}
}

func (s *Service) putPart(ctx context.Context, name Name, part *Part) (*Session, error) {
	rec, err := s.taking(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := fits(&rec.Upload, part); err != nil {
		return nil, err
	}
	leave, ok := s.parts.take(rec.Key, MostConcurrent)
	if !ok {
		return nil, &Refusal{
			Code: RefusedBusy, Retry: time.Second,
			Message: fmt.Sprintf("%d parts of this upload are being sent already; at most so many are taken at once.", MostConcurrent),
		}
	}
	defer leave()
	release, err := s.turns.take(ctx, rec.Key+" "+strconv.Itoa(part.Number))
	if err != nil {
		return nil, err
	}
	defer release()
	if rec, err = s.taking(ctx, name); err != nil { // another writer of the part may have taken long
		return nil, err
	}
	body := newHeld(part.Body, part.Length, part.SHA256)
	defer body.close()
	stored, err := s.staging.PutPart(ctx, rec.Key, rec.Multipart, part.Number, part.Length, body)
	if refusal := body.verdict(); refusal != nil {
		return nil, refusal
	}
	if errors.Is(err, ErrStagedGone) {
		return s.repeated(ctx, rec, part, body)
	}
	if err != nil {
		return nil, fmt.Errorf("stage part %d of %s: %w", part.Number, rec.ID, err)
	}
	digest := body.digest()
	if digest == "" {
		return nil, fmt.Errorf("stage part %d of %s: the staging storage did not read it to its end", part.Number, rec.ID)
	}
	failpoint.Hit(failpoint.SessionPartStored)
	if _, err := s.taking(ctx, name); err != nil { // it ended, or is being published: what was stored does not count
		return nil, err
	}
	word := protocol.UploadPart{Number: part.Number, Size: part.Length, SHA256: digest, ETag: stored.ETag, Checksum: stored.Checksum}
	if err := s.tell(ctx, rec, word); err != nil {
		return nil, err
	}
	return s.Show(ctx, name)
}

// taking returns a session that takes parts now, or says why it does not.
func (s *Service) taking(ctx context.Context, name Name) (*record, error) {
	rec, err := s.read(ctx, name)
	if err != nil {
		return nil, err
	}
	if rec, err = s.begin(ctx, rec); err != nil {
		return nil, err
	}
	if rec, err = s.settle(ctx, rec); err != nil {
		return nil, err
	}
	if err := s.refuseUnlessOpen(ctx, rec); err != nil {
		return nil, err
	}
	return rec, s.elsewhere(&rec.Upload)
}

// refuseUnlessOpen says why a session takes nothing more; nil: it does.
func (s *Service) refuseUnlessOpen(ctx context.Context, rec *record) error {
	if s.over(&rec.Upload) {
		return s.refusal(ctx, rec, RefusedExpired, "The upload expired at "+rec.Expires.Format(time.RFC3339)+".")
	}
	switch rec.State {
	case protocol.UploadCompleting:
		return s.refusal(ctx, rec, RefusedCompleting, "The upload is being published.")
	case protocol.UploadCompleted:
		return s.refusal(ctx, rec, RefusedCompleted, "The upload is completed.")
	case protocol.UploadAborted:
		return s.refusal(ctx, rec, RefusedAborted, "The upload was aborted.")
	case protocol.UploadExpired:
		return s.refusal(ctx, rec, RefusedExpired, "The upload expired at "+rec.Expires.Format(time.RFC3339)+".")
	case protocol.UploadFailed:
		message := "The upload failed."
		if rec.Failure != nil {
			message = rec.Failure.Message
		}
		return s.refusal(ctx, rec, RefusedFailed, message)
	case protocol.UploadCreating, protocol.UploadOpen:
	}
	return nil
}

// refusal refuses with the session as it is, if that can be had.
func (s *Service) refusal(ctx context.Context, rec *record, code, message string) *Refusal {
	session, err := s.view(ctx, rec)
	if err != nil {
		session = nil
	}
	return &Refusal{Code: code, Message: message, Session: session}
}

// fits compares a part with what the session has room for.
func fits(u *protocol.Upload, part *Part) error {
	if part.Number < 0 || part.Number >= u.PartCount {
		message := fmt.Sprintf("There is no part %d: the upload has %d parts, numbered from 0.", part.Number, u.PartCount)
		if u.Direct || u.PartCount == 0 {
			message = fmt.Sprintf("There is no part %d: the upload has none.", part.Number)
		}
		return &Refusal{Code: RefusedPart, Message: message}
	}
	if _, size := u.Span(part.Number); part.Length != size {
		return &Refusal{Code: RefusedLength, Message: fmt.Sprintf("Part %d must have %d bytes, not %d.", part.Number, size, part.Length)}
	}
	return nil
}

// repeated answers for a part whose multipart upload is not there. A session that was put together already has its publication to be asked for
// again: the part cannot be replaced; the same bytes are there, and change nothing. Of any other somebody has removed what was staged.
func (s *Service) repeated(ctx context.Context, rec *record, part *Part, body *held) (*Session, error) {
	if _, err := io.Copy(io.Discard, body); err != nil {
		return nil, err //nolint:wrapcheck // it is a verdict on the body
	}
	known, err := s.known(ctx, rec, part.Number)
	if err != nil {
		return nil, err
	}
	if rec, err = s.taking(ctx, rec.name()); err != nil {
		return nil, err
	}
	if rec, err = s.endIfGone(ctx, rec); err != nil {
		return nil, err
	}
	if known != nil && !known.Lost && known.SHA256 == body.digest() {
		return s.view(ctx, rec)
	}
	return nil, s.refusal(ctx, rec, RefusedCompleting,
		"The parts of the upload were put together already, and cannot be replaced. It can be completed, or aborted.")
}

// codeStagingGone is of a session whose parts the store does not have any more. A worker that finds it says the same.
const codeStagingGone = "upload_staging_gone"

// endIfGone ends a session whose multipart upload is gone, if nobody can have made an object of it: it was never to be published, or parts of it
// were missing all the time. Where it may have been put together, the worker that publishes it finds out.
func (s *Service) endIfGone(ctx context.Context, rec *record) (*record, error) {
	after, err := s.change(ctx, rec.name(), func(u *protocol.Upload) (bool, error) {
		if u.State != protocol.UploadOpen || u.Multipart != rec.Multipart {
			return false, nil
		}
		progress, err := s.progress(ctx, u)
		if err != nil || u.Generation > 0 && count(u, &progress) == u.PartCount {
			return false, err
		}
		u.Failure = &protocol.Failure{
			Class: protocol.Corrupt, Code: codeStagingGone, Message: "What was staged of the upload is not there any more.",
			Hint: "Something removes multipart uploads from the staging bucket; upload it again.",
		}
		return true, s.end(ctx, u, protocol.UploadFailed)
	})
	if err != nil {
		return nil, err
	}
	return after, s.refuseUnlessOpen(ctx, after)
}

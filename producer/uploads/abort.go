package uploads

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// Abort ends a session that is not published. One that has ended without being published stays as it is. One that is being published is
// canceled first; if that is not over when the context ends, the call is refused as completing, and may be repeated.
func (s *Service) Abort(ctx context.Context, name Name) (*Session, error) {
	for try := range mostRaces {
		rec, err := s.change(ctx, name, func(u *protocol.Upload) (bool, error) {
			if s.over(u) && try == 0 { // what was canceled for this call is aborted, whatever the time is now
				return true, s.end(ctx, u, protocol.UploadExpired)
			}
			if u.State != protocol.UploadCreating && u.State != protocol.UploadOpen {
				return false, nil
			}
			return true, s.end(ctx, u, protocol.UploadAborted)
		})
		if err != nil {
			return nil, err
		}
		switch {
		case rec.State == protocol.UploadCompleted:
			return nil, s.refusal(ctx, rec, RefusedCompleted, "The upload is completed.")
		case rec.State.Final():
			return s.view(ctx, rec)
		}
		if err := s.stopPublishing(ctx, rec); err != nil {
			return nil, err
		}
		if err := pause(ctx, try); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("abort the session %s: %w", name.ID, errRaces)
}

// stopPublishing cancels the batch of a session and waits until the session is settled.
func (s *Service) stopPublishing(ctx context.Context, rec *record) error {
	err := s.queue.Cancel(ctx, rec.Org, rec.Batch)
	if errors.Is(err, ErrNoBatch) {
		// Another front may be submitting it at this moment. A worker that gets it from here on publishes nothing; one that got it before is heard.
		if rec, err = s.withdraw(ctx, rec); err != nil {
			return err
		}
		if err = s.queue.Cancel(ctx, rec.Org, rec.Batch); errors.Is(err, ErrNoBatch) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("cancel the publication of %s: %w", rec.ID, err)
	}
	look := time.NewTicker(foldLook)
	defer look.Stop()
	for {
		after, err := s.settle(ctx, rec)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil && (after.State != protocol.UploadCompleting || after.Batch != rec.Batch) {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return s.refusal(context.WithoutCancel(ctx), rec, RefusedCompleting, "The upload is being published, and is asked to stop.")
		}
	}
}

// withdraw takes a session from its batch.
func (s *Service) withdraw(ctx context.Context, rec *record) (*record, error) {
	return s.change(ctx, rec.name(), func(u *protocol.Upload) (bool, error) {
		if u.State != protocol.UploadCompleting || u.Batch != rec.Batch || u.Withdrawn {
			return false, nil
		}
		u.Withdrawn = true
		return true, nil
	})
}

package main

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"
)

// publish has the whole published and waits for the end of that. again tells that parts have to be sent once more.
func (r *uploadRun) publish(ctx context.Context, p *patience) (again bool, err error) {
	r.shown.phase("publishing", r.session.Length, r.session.Length)
	for n := 1; ; n++ {
		s, err := r.complete(ctx)
		if err == nil {
			r.session = s
			switch {
			case s.Status == statusCompleted:
				return false, nil
			case s.ended() != nil:
				return false, s.ended()
			}
			err = s.stillOpen()
		}
		refusal := refused(err)
		switch {
		case err == nil, refusal != nil && refusal.Code == "still_running": // it goes on
			p.moved()
			if err := rest(ctx, firstPause); err != nil {
				return false, err
			}
			n = 0
			continue
		case refusal != nil && refusal.Code == "upload_parts_missing":
			return true, r.refresh(ctx, p)
		case refusal != nil && slices.Contains(endings, refusal.Code):
			if ended := r.refresh(ctx, p); ended != nil {
				err = ended // it says more
			}
			return false, err
		}
		if err := p.pause(ctx, n, err); err != nil {
			return false, err
		}
	}
}

// complete asks for the session to be published, and waits for a while.
func (r *uploadRun) complete(ctx context.Context) (*uploadSession, error) {
	var answer struct {
		Session *uploadSession `json:"session"`
	}
	header := http.Header{"Prefer": {"wait=60"}}
	_, err := r.api.call(ctx, http.MethodPost, r.uploads(r.session.ID, "complete"), header, struct{}{}, &answer)
	if err == nil && answer.Session == nil {
		err = notPromised(errors.New("there is no session in it"))
	}
	return answer.Session, err
}

// stillOpen is why a session that should be published takes parts still: what failed may work at the next try. One that is being published is no error.
func (s *uploadSession) stillOpen() error {
	switch {
	case s.Status == statusCompleting:
		return nil
	case s.Failure != nil:
		return exitWith(exitTemporary, "upload %s could not be published: %s (%s)", s.ID, s.Failure.Message, s.Failure.Code)
	}
	return exitWith(exitTemporary, "upload %s is not published yet", s.ID)
}

// rest waits.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return interrupted(ctx)
	case <-time.After(d):
		return nil
	}
}

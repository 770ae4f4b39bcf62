package producer

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/copyfleet/copyfleet/producer/uploads"
)

// settleAgain is how often a session is read whose batch has ended and which another process is bringing to its end.
const settleAgain = 250 * time.Millisecond

// notPublishedRetry is the Retry-After, in seconds, of a session that can be completed again.
const notPublishedRetry = 5

// completeUpload answers POST /v1/sandboxes/{id}/uploads/{upload_id}/complete. It waits for the end as a copy call does, and can be repeated
// at any time: it then waits for the same end, or tells it again.
func (s *Server) completeUpload(w http.ResponseWriter, r *http.Request) {
	name, ok := s.sessionName(w, r)
	if !ok {
		return
	}
	_, problem := idempotencyKey(r.Header) // the session itself is what is not begun twice; a key that is given must be one
	whole := ""
	if problem == nil {
		whole, problem = s.wholeChecksum(w, r)
	}
	if problem != nil {
		writeProblem(w, r, *problem)
		return
	}
	// From here on it does not matter whether the caller still listens.
	beginning, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), acceptTimeout)
	session, err := s.uploads.Complete(beginning, name, whole, traceOf(r))
	cancel()
	if err != nil {
		s.refuseUpload(w, r, err)
		return
	}
	prefer := parsePrefer(r.Header)
	patience := s.cfg.MaxWait
	switch {
	case prefer.wait != nil:
		patience = min(*prefer.wait, patience)
	case prefer.async:
		patience = 0
	}
	waiting, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	defer s.waits.join(cancel)()
	if session, err = s.untilPublished(waiting, name, session); err != nil {
		s.refuseUpload(w, r, err)
		return
	}
	if session.Status != uploads.StatusCompleting {
		s.writePublished(w, r, session)
		return
	}
	s.stillPublishing(w, r, session, prefer)
}

// wholeChecksum reads the body of a completion, which may be left out.
func (s *Server) wholeChecksum(w http.ResponseWriter, r *http.Request) (string, *Problem) {
	if r.Body == http.NoBody || r.ContentLength == 0 {
		return "", nil
	}
	v, p := s.readObject(w, r, "whole_checksum_sha256")
	if p != nil {
		return "", p
	}
	var list problems
	whole := optionalChecksum(v, "whole_checksum_sha256", &list)
	if list.total > 0 {
		return "", list.problem(CodeInvalidRequest)
	}
	return whole, nil
}

// untilPublished waits until a session is not being published any more, or the context ends; then it is as it was read last.
func (s *Server) untilPublished(ctx context.Context, name uploads.Name, session *uploads.Session) (*uploads.Session, error) {
	for session.Status == uploads.StatusCompleting && ctx.Err() == nil {
		waiter, err := s.pipeline.wait(name.Org, session.Batch)
		if err != nil {
			return nil, err
		}
		_, ended := waiter.end(ctx)
		waiter.stop()
		if !ended {
			return session, nil
		}
		// The end was reached: it is told even if the time is just over.
		now, err := s.uploads.Show(context.WithoutCancel(ctx), name)
		if err != nil {
			return nil, err
		}
		if now.Status == uploads.StatusCompleting && now.Batch == session.Batch {
			pause := time.NewTimer(settleAgain)
			select {
			case <-ctx.Done():
			case <-pause.C:
			}
			pause.Stop()
		}
		session = now
	}
	return session, nil
}

// writePublished tells what publishing a session came to.
func (s *Server) writePublished(w http.ResponseWriter, r *http.Request, session *uploads.Session) {
	if p := notPublished(session); p != nil {
		writeProblem(w, r, *p)
		return
	}
	writeSessions(w, http.StatusOK, completedAnswer{sessionAnswer{viewOfSession(session)}, session.PublishedBytes, session.PublishedFiles}, session)
}

// notPublished says why a session that is not being published any more is not there; nil: it is.
func notPublished(session *uploads.Session) *Problem {
	why := "The upload failed."
	if session.Failure != nil {
		why = session.Failure.Message
	}
	var p Problem
	switch session.Status {
	case uploads.StatusCompleted:
		return nil
	case uploads.StatusFailed:
		p = newProblem(CodeUploadFailed, why)
	case uploads.StatusAborted:
		p = newProblem(CodeUploadAborted, "The session was aborted.")
	case uploads.StatusExpired:
		p = newProblem(CodeUploadExpired, "The session expired.")
	case uploads.StatusCreated, uploads.StatusUploading:
		p = newProblem(CodePartsMissing, "Parts were found to be missing; send them, and complete the session again: "+why)
		p.Missing, p.MissingCut = shownRanges(session.Missing)
	default:
		p = newProblem(CodeUploadNotPublished, "The upload was not published yet; what was sent is kept. Complete the session again: "+why)
		p.retryAfter = notPublishedRetry
	}
	return &p
}

// stillPublishing answers a call that does not wait any longer.
func (s *Server) stillPublishing(w http.ResponseWriter, r *http.Request, session *uploads.Session, prefer preferences) {
	switch {
	case r.Context().Err() != nil:
		// The caller is gone; the session goes on without it.
	case !s.waits.over() && (prefer.async || prefer.wait != nil):
		w.Header().Set("Location", sessionPath(session.Sandbox, session.ID))
		if prefer.async {
			w.Header().Add("Preference-Applied", "respond-async")
		}
		if prefer.wait != nil {
			w.Header().Add("Preference-Applied", "wait="+strconv.Itoa(int(min(*prefer.wait, s.cfg.MaxWait).Seconds())))
		}
		writeSessions(w, http.StatusAccepted, sessionAnswer{viewOfSession(session)}, session)
	default:
		s.uploadGoesOn(w, r, session, "The upload is still being published. Ask for it at its Location, or complete it again.")
	}
}

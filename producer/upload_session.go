package producer

import (
	"context"
	"net/http"
	"strconv"

	"github.com/copyfleet/copyfleet/producer/uploads"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	defaultSessions = 50
	maxSessions     = 200
)

// takesUploads answers for a server without upload sessions.
func (s *Server) takesUploads(w http.ResponseWriter, r *http.Request) bool {
	if s.uploads == nil {
		writeProblem(w, r, newProblem(CodeNotFound, "This server takes no uploads."))
	}
	return s.uploads != nil
}

// sessionName names the session of a request, or answers that there is none. What cannot exist is not there. Whether the sandbox is
// registered does not matter: a session that was begun can be brought to its end.
func (s *Server) sessionName(w http.ResponseWriter, r *http.Request) (uploads.Name, bool) {
	name := uploads.Name{
		Org: principalOf(r).Org, Sandbox: protocol.SandboxID(r.PathValue("id")), ID: protocol.UploadID(r.PathValue("upload_id")),
	}
	if !protocol.ValidID(string(name.Sandbox)) {
		writeProblem(w, r, newProblem(CodeSandboxNotFound, noSuchSandbox))
		return name, false
	}
	if !name.ID.Valid() {
		writeProblem(w, r, newProblem(CodeUploadNotFound, "There is no such upload session."))
		return name, false
	}
	return name, s.takesUploads(w, r)
}

func sessionPath(sandbox protocol.SandboxID, id protocol.UploadID) string {
	return "/v1/sandboxes/" + string(sandbox) + "/uploads/" + string(id)
}

// showUpload answers GET /v1/sandboxes/{id}/uploads/{upload_id}.
func (s *Server) showUpload(w http.ResponseWriter, r *http.Request) {
	name, ok := s.sessionName(w, r)
	if !ok {
		return
	}
	session, err := s.uploads.Show(r.Context(), name)
	if err != nil {
		s.refuseUpload(w, r, err)
		return
	}
	writeSessions(w, http.StatusOK, viewOfSession(session), session)
}

// listUploads answers GET /v1/sandboxes/{id}/uploads: the newest first.
func (s *Server) listUploads(w http.ResponseWriter, r *http.Request) {
	name := uploads.Name{Org: principalOf(r).Org, Sandbox: protocol.SandboxID(r.PathValue("id"))}
	if p := s.sandboxMayBe(name.Org, name.Sandbox); p != nil {
		writeProblem(w, r, *p)
		return
	}
	limit := defaultSessions
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxSessions {
			writeProblem(w, r, newProblem(CodeInvalidRequest, "limit must be a number from 1 to "+itoa(maxSessions)+"."))
			return
		}
		limit = n
	}
	if !s.takesUploads(w, r) {
		return
	}
	sessions, err := s.uploads.List(r.Context(), name, limit)
	if err != nil {
		s.refuseUpload(w, r, err)
		return
	}
	answer := sessionList{Sessions: make([]sessionView, len(sessions))}
	for i, session := range sessions {
		answer.Sessions[i] = viewOfSession(session)
	}
	writeSessions(w, http.StatusOK, answer, sessions...)
}

// abortUpload answers DELETE /v1/sandboxes/{id}/uploads/{upload_id}. One that is being published is canceled first, and is aborted unless it
// came to its end before. It goes on if the caller hangs up.
func (s *Server) abortUpload(w http.ResponseWriter, r *http.Request) {
	name, ok := s.sessionName(w, r)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), s.cfg.MaxWait)
	defer cancel()
	defer s.waits.join(cancel)()
	session, err := s.uploads.Abort(ctx, name)
	if err != nil {
		s.refuseUpload(w, r, err)
		return
	}
	writeSessions(w, http.StatusOK, viewOfSession(session), session)
}

// uploadGoesOn says where to ask for a session that is still being published.
func (s *Server) uploadGoesOn(w http.ResponseWriter, r *http.Request, session *uploads.Session, message string) {
	w.Header().Set("Location", sessionPath(session.Sandbox, session.ID))
	code := CodeStillRunning
	if s.waits.over() {
		code = CodeShuttingDown
	}
	writeProblem(w, r, newProblem(code, message))
}

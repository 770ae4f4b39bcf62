package producer

import (
	"errors"
	"net/http"

	"github.com/copyfleet/copyfleet/protocol"
)

// putSandbox answers PUT /v1/sandboxes/{id}: 201 if the sandbox is new, 200 if it was known. The body may be left
// out; so may the pool, which then stays as it is.
func (s *Server) putSandbox(w http.ResponseWriter, r *http.Request) {
	org, id := principalOf(r).Org, protocol.SandboxID(r.PathValue("id"))
	pool, p := s.poolOf(w, r)
	if p == nil && !protocol.ValidID(string(id)) {
		invalid := newProblem(CodeInvalidRequest,
			"A sandbox id has 1 to 128 letters, digits, '.', '_' and '-', and begins with a letter or digit.")
		p = &invalid
	}
	if p != nil {
		writeProblem(w, r, *p)
		return
	}
	old, known := s.registry.Sandbox(org, id)
	if known && pool == "" {
		pool = old.Pool
	}
	// Items for a pool without workers wait for ever, and each pool costs consumers: that is for the operator to decide.
	if pool != "" && pool != protocol.DefaultPool && pool != old.Pool && !principalOf(r).Role.Includes(RoleAdmin) {
		writeProblem(w, r, newProblem(CodeForbidden, "Only the role admin may name a pool other than "+protocol.DefaultPool+"."))
		return
	}
	sandbox, created, err := s.registry.PutSandbox(r.Context(), org, id, pool)
	if err != nil {
		writeProblem(w, r, *s.recordsFailed(r, err))
		return
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	writeJSON(w, status, sandbox)
}

// poolOf reads the optional body of putSandbox.
func (s *Server) poolOf(w http.ResponseWriter, r *http.Request) (string, *Problem) {
	if r.Body == http.NoBody || r.ContentLength == 0 {
		return "", nil
	}
	v, p := s.readObject(w, r, "pool")
	if p != nil {
		return "", p
	}
	var list problems
	pool, ok := optionalString(v, "", "pool", &list)
	if ok && !v.get("pool").absent() && !protocol.ValidID(pool) {
		list.add("/pool", faultChoice, "A pool has 1 to 128 letters, digits, '.', '_' and '-', and begins with a letter or digit.")
	}
	if list.total > 0 {
		return "", list.problem(CodeInvalidRequest)
	}
	return pool, nil
}

// showSandbox answers GET /v1/sandboxes/{id}.
func (s *Server) showSandbox(w http.ResponseWriter, r *http.Request) {
	sandbox, known := s.registry.Sandbox(principalOf(r).Org, protocol.SandboxID(r.PathValue("id")))
	if !known {
		writeProblem(w, r, newProblem(CodeSandboxNotFound, "There is no such sandbox."))
		return
	}
	writeJSON(w, http.StatusOK, sandbox)
}

// forgetSandbox answers DELETE /v1/sandboxes/{id}. The files stay where they are, and copies under way go on.
func (s *Server) forgetSandbox(w http.ResponseWriter, r *http.Request) {
	err := s.registry.ForgetSandbox(r.Context(), principalOf(r).Org, protocol.SandboxID(r.PathValue("id")))
	s.removed(w, r, err, newProblem(CodeSandboxNotFound, "There is no such sandbox."))
}

// removed answers a DELETE: 204, the given problem if there was nothing, 503 if it could not be stored.
func (s *Server) removed(w http.ResponseWriter, r *http.Request, err error, missing Problem) {
	switch {
	case errors.Is(err, ErrUnknown):
		writeProblem(w, r, missing)
	case err != nil:
		writeProblem(w, r, *s.recordsFailed(r, err))
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

package producer

import "net/http"

// runCopy runs a validated copy call.
func (s *Server) runCopy(w http.ResponseWriter, r *http.Request, _ CopyCall) {
	writeProblem(w, r, newProblem(CodeUnavailable, "Copies cannot be accepted by this server."))
}

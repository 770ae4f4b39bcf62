package producer

import "net/http"

// showBatch answers with the state of a batch.
func (s *Server) showBatch(w http.ResponseWriter, r *http.Request) {
	writeProblem(w, r, newProblem(CodeUnavailable, "Batches cannot be shown by this server."))
}

// listItems answers with the receipts of a batch.
func (s *Server) listItems(w http.ResponseWriter, r *http.Request) {
	writeProblem(w, r, newProblem(CodeUnavailable, "Batches cannot be shown by this server."))
}

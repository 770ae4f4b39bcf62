package producer

import (
	"net/http"

	"github.com/copyfleet/copyfleet/internal/observe"
	"github.com/copyfleet/copyfleet/protocol"
)

// accepted measures an acceptance.
func (s *Server) accepted(r *http.Request, record *protocol.Acceptance) {
	s.metrics.Accepted(r.Context(), string(record.Lane), record.Total)
	observe.SpanOf(r.Context()).Accepted(string(record.Org), string(record.Batch), record.Total)
}

// showMetrics answers GET /metrics in the text form of Prometheus.
func (s *Server) showMetrics(w http.ResponseWriter, r *http.Request) {
	if s.metrics == nil {
		writeProblem(w, r, newProblem(CodeNotFound, "This process measures nothing."))
		return
	}
	s.metrics.Handler().ServeHTTP(w, r)
}

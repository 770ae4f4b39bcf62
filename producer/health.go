package producer

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// readyWithin bounds the checks of one /readyz.
const readyWithin = 5 * time.Second

type liveness struct {
	Status  string `json:"status"`
	Version string `json:"version"`
}

type readiness struct {
	Status string  `json:"status"`
	Checks []Check `json:"checks"`
}

// healthz answers that the process serves, and nothing more.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, liveness{"ok", s.cfg.Version})
}

// readyz answers whether calls can be accepted: 200 with every check, or 503 with those that failed.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyWithin)
	defer cancel()
	checks := append([]Check{s.registryCheck()}, s.health.Ready(ctx)...)
	var failed []Check
	var names []string
	for _, c := range checks {
		if !c.OK {
			failed = append(failed, c)
			names = append(names, c.Name)
		}
	}
	if len(failed) == 0 {
		writeJSON(w, http.StatusOK, readiness{"ready", checks})
		return
	}
	p := newProblem(CodeNotReady, "These checks failed: "+strings.Join(names, ", ")+".")
	p.Checks = failed
	writeProblem(w, r, p)
}

func (s *Server) registryCheck() Check {
	if s.registry.Current() {
		return Check{Name: "registry", OK: true}
	}
	return Check{Name: "registry", Message: "the watch on keys, sandboxes and grants is broken"}
}

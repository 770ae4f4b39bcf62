package producer

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/copyfleet/copyfleet/producer/rules"
	"github.com/copyfleet/copyfleet/producer/triggers"
	"github.com/copyfleet/copyfleet/protocol"
)

// secretList is the answer of GET /v1/secrets.
type secretList struct {
	Secrets []triggers.SecretView `json:"secrets"`
}

// listSecrets answers GET /v1/secrets.
func (s *Server) listSecrets(w http.ResponseWriter, r *http.Request, org protocol.OrgID) {
	list, err := s.triggers.Secrets(r.Context(), org)
	if err != nil {
		s.refuseRule(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, secretList{list})
}

// putSecret answers PUT /v1/secrets/{name}. The value is never shown again.
func (s *Server) putSecret(w http.ResponseWriter, r *http.Request, org protocol.OrgID) {
	name := r.PathValue("name")
	v, p := s.readObject(w, r, "value")
	if p != nil {
		writeProblem(w, r, *p)
		return
	}
	var list problems
	if !rules.ValidSecret(name) {
		list.add("/name", faultChoice, "The name of a secret has 1 to 63 letters, digits, '.', '_' and '-', and begins with a letter or digit.")
	}
	value := checked(v, "", "value", asFault(faultChoice, secretFault), &list)
	if list.total > 0 {
		writeProblem(w, r, *list.problem(CodeInvalidRequest))
		return
	}
	view, err := s.triggers.SetSecret(r.Context(), org, name, value)
	if err != nil {
		s.refuseRule(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, view)
}

// secretFault refuses what no header could carry. The message does not show the value.
func secretFault(value string) string {
	switch {
	case value == "" || len(value) > triggers.MaxSecret:
		return "A secret has 1 to " + strconv.Itoa(triggers.MaxSecret) + " bytes."
	case strings.ContainsRune(value, 0):
		return "A secret must not hold NUL."
	}
	return ""
}

// deleteSecret answers DELETE /v1/secrets/{name}.
func (s *Server) deleteSecret(w http.ResponseWriter, r *http.Request, org protocol.OrgID) {
	if err := s.triggers.DeleteSecret(r.Context(), org, r.PathValue("name")); err != nil {
		s.refuseRule(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

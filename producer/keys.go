package producer

import (
	"net/http"

	"github.com/copyfleet/copyfleet/protocol"
)

// maxKeyName bounds the name that an admin gives a key, in bytes.
const maxKeyName = 128

type keyList struct {
	Keys []Key `json:"keys"`
}

// newKey is the answer to making a key, the only one that ever shows it.
type newKey struct {
	Key
	Secret string `json:"key"`
}

// listKeys answers GET /v1/keys, all or those of ?org=.
func (s *Server) listKeys(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, keyList{s.registry.Keys(protocol.OrgID(r.URL.Query().Get("org")))})
}

// makeKey answers POST /v1/keys.
func (s *Server) makeKey(w http.ResponseWriter, r *http.Request) {
	v, p := s.readObject(w, r, "org", "role", "name")
	if p != nil {
		writeProblem(w, r, *p)
		return
	}
	var list problems
	org := checked(v, "", "org", asFault(faultChoice, orgFault), &list)
	role := checked(v, "", "role", asFault(faultChoice, roleFault), &list)
	name, _ := optionalString(v, "", "name", &list)
	switch {
	case len(name) > maxKeyName:
		list.add("/name", faultTooLong, "A name may have 128 bytes at most.")
	case hasControl(name):
		list.add("/name", faultControl, "A name must not hold control characters.")
	}
	if list.total > 0 {
		writeProblem(w, r, *list.problem(CodeInvalidRequest))
		return
	}
	secret := NewAPIKey()
	key, err := s.registry.AddKey(r.Context(), secret, protocol.OrgID(org), Role(role), name)
	if err != nil {
		writeProblem(w, r, *s.recordsFailed(r, err))
		return
	}
	writeJSON(w, http.StatusCreated, newKey{key, secret})
}

func orgFault(org string) string {
	if !protocol.ValidID(org) {
		return "An org id has 1 to 128 letters, digits, '.', '_' and '-', and begins with a letter or digit."
	}
	return ""
}

func roleFault(role string) string {
	if !Role(role).Valid() {
		return "This must be read, copy or admin."
	}
	return ""
}

// revokeKey answers DELETE /v1/keys/{id}. A key cannot revoke itself, so that the last admin cannot lock everyone out.
func (s *Server) revokeKey(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if id == principalOf(r).KeyID {
		writeProblem(w, r, newProblem(CodeOwnKey, "Revoke this key with another admin key."))
		return
	}
	s.removed(w, r, s.registry.RevokeKey(r.Context(), id), newProblem(CodeKeyNotFound, "There is no such key."))
}

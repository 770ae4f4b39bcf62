package producer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/copyfleet/copyfleet/protocol"
)

// Role is what a key may do. Admin may do all that copy may, copy all that read may.
type Role string

// The roles. An admin is the operator of the installation: it manages keys and grants of every org. It still sees
// the batches and sandboxes of its own org only.
const (
	RoleRead  Role = "read"
	RoleCopy  Role = "copy"
	RoleAdmin Role = "admin"
)

func (r Role) rank() int {
	switch r {
	case RoleRead:
		return 1
	case RoleCopy:
		return 2
	case RoleAdmin:
		return 3
	default:
		return 0
	}
}

// Valid reports whether r is one of the three roles.
func (r Role) Valid() bool { return r.rank() > 0 }

// Includes reports whether a key of role r may do what takes the role need. An unknown role includes nothing and
// is included in nothing.
func (r Role) Includes(need Role) bool { return need.Valid() && r.rank() >= need.rank() }

// Principal is who makes a call.
type Principal struct {
	KeyID string // names the key without telling it
	Org   protocol.OrgID
	Role  Role
}

// maxAPIKey bounds an API key, in bytes.
const maxAPIKey = 512

// NewAPIKey returns a fresh key: "cfk_" and 256 random bits in base64url (RFC 4648).
func NewAPIKey() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand aborts the process instead
	return "cfk_" + base64.RawURLEncoding.EncodeToString(b[:])
}

// ValidAPIKey reports whether key can be sent in a header and taken back out of it: 1 to 512 visible ASCII
// characters. How hard it is to guess is up to whoever made it.
func ValidAPIKey(key string) bool {
	return key != "" && len(key) <= maxAPIKey && visibleASCII(key)
}

func visibleASCII(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func newKeyID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, as above
	return "key_" + hex.EncodeToString(b[:])
}

func hashAPIKey(key string) [sha256.Size]byte { return sha256.Sum256([]byte(key)) }

type principalKey struct{}

// principalOf returns who makes the call. Routes that need a role have one; the others get the zero value.
func principalOf(r *http.Request) Principal {
	p, _ := r.Context().Value(principalKey{}).(Principal)
	return p
}

// authenticated lets a call through that has a key of the role. With need "" everyone passes, unasked.
func (s *Server) authenticated(need Role, serve http.HandlerFunc) http.HandlerFunc {
	if need == "" {
		return serve
	}
	return func(w http.ResponseWriter, r *http.Request) {
		key, ok := presentedKey(r.Header)
		if !ok {
			writeProblem(w, r, newProblem(CodeUnauthorized,
				"Send an API key as Authorization: Bearer KEY or as x-api-key: KEY; if both, the same."))
			return
		}
		who, ok := s.registry.Authenticate(key)
		if !ok {
			writeProblem(w, r, newProblem(CodeUnauthorized, "The API key is unknown or was revoked."))
			return
		}
		if !who.Role.Includes(need) {
			writeProblem(w, r, newProblem(CodeForbidden,
				"This takes a key of the role "+string(need)+"; yours has the role "+string(who.Role)+"."))
			return
		}
		serve(w, r.WithContext(context.WithValue(r.Context(), principalKey{}, who)))
	}
}

// presentedKey finds the key of a call. All that are given must be the same one: a proxy and a client that
// disagree about who calls must not get a choice.
func presentedKey(h http.Header) (string, bool) {
	given := append([]string(nil), h.Values("X-Api-Key")...)
	for _, value := range h.Values("Authorization") {
		// RFC 9110, 11.1: the scheme is case-insensitive. Another scheme is not for us.
		scheme, key, _ := strings.Cut(strings.TrimSpace(value), " ")
		if strings.EqualFold(scheme, "Bearer") {
			given = append(given, strings.TrimLeft(key, " "))
		}
	}
	if len(given) == 0 || !ValidAPIKey(given[0]) {
		return "", false
	}
	for _, other := range given[1:] {
		if other != given[0] {
			return "", false
		}
	}
	return given[0], true
}

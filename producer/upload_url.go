package producer

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

const (
	directPath    = "/v1/direct-uploads/"
	directPurpose = "direct upload"

	defaultURLExpires = 900   // seconds
	maxURLExpires     = 86400 // seconds
	maxToken          = 16 << 10
)

// directToken is what an upload URL allows: the bytes of one file, to one place, once. It travels sealed, and is the credential.
type directToken struct {
	ID       string                  `json:"i"` // random; the idempotency key of the upload
	Key      string                  `json:"k"` // the API key that it was made with; when that is revoked, the URL is worthless
	Org      protocol.OrgID          `json:"o"`
	Sandbox  protocol.SandboxID      `json:"s"`
	Path     string                  `json:"p"`
	Conflict protocol.UploadConflict `json:"c"`
	Length   *int64                  `json:"l,omitempty"` // that the content must have; nil: any
	Expires  int64                   `json:"e"`           // Unix time
}

// uploadURLAnswer is the answer of POST /v1/sandboxes/{id}/upload-url. It is a secret.
type uploadURLAnswer struct {
	URL       string            `json:"url"`
	Method    string            `json:"method"`
	Headers   map[string]string `json:"headers"` // to be sent as they are
	Token     string            `json:"token"`   // the last segment of the URL
	ExpiresAt time.Time         `json:"expires_at"`
}

// makeUploadURL answers POST /v1/sandboxes/{id}/upload-url.
func (s *Server) makeUploadURL(w http.ResponseWriter, r *http.Request) {
	who, id := principalOf(r), protocol.SandboxID(r.PathValue("id"))
	p := s.sandboxMayBe(who.Org, id)
	if p != nil {
		writeProblem(w, r, *p)
		return
	}
	if !s.takesUploads(w, r) {
		return
	}
	v, p := s.readObject(w, r, "path", "expires_seconds", "conflict", "content_length")
	if p != nil {
		writeProblem(w, r, *p)
		return
	}
	var list problems
	path := checked(v, "", "path", func(raw string) (string, string, string) { return uploadPath(raw, false) }, &list)
	seconds := optionalInt(v, "", "expires_seconds", defaultURLExpires, 1, maxURLExpires, &list)
	conflict := conflictOf(v, protocol.UploadFile, &list)
	length := optionalInt(v, "", "content_length", 0, 0, maxInt64, &list)
	if list.total > 0 {
		writeProblem(w, r, *list.problem(CodeInvalidRequest))
		return
	}
	expires := time.Now().Add(time.Duration(seconds) * time.Second).UTC().Truncate(time.Second)
	token := directToken{ID: newTokenID(), Key: who.KeyID, Org: who.Org, Sandbox: id, Path: path, Conflict: conflict, Expires: expires.Unix()}
	if !v.get("content_length").absent() {
		token.Length = &length
	}
	sealed := s.sealToken(&token)
	writeJSON(w, http.StatusOK, uploadURLAnswer{
		URL: baseURL(r) + directPath + sealed, Method: http.MethodPut, Headers: map[string]string{"Content-Type": "application/octet-stream"},
		Token: sealed, ExpiresAt: expires,
	})
}

func newTokenID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand aborts the process instead
	return "url_" + hex.EncodeToString(b[:])
}

func (s *Server) sealToken(token *directToken) string {
	plain, err := protocol.Encode(token) // as short as can be: the longest path of all must fit
	if err != nil {
		panic(err) //nolint:forbidigo // a plain struct always encodes; the recovery answers
	}
	return base64.RawURLEncoding.EncodeToString(s.pipeline.sealer.SealToken(directPurpose, plain))
}

// openToken returns what a token allows, or why it allows nothing.
func (s *Server) openToken(text string) (*directToken, *Problem) {
	unknown := newProblem(CodeNotFound, "There is no such upload URL, or the API key that it was made with was revoked.")
	if len(text) > maxToken {
		return nil, &unknown
	}
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, &unknown
	}
	plain, err := s.pipeline.sealer.OpenToken(directPurpose, sealed)
	if err != nil {
		return nil, &unknown
	}
	var token directToken
	if json.Unmarshal(plain, &token) != nil || !s.registry.mayStill(token.Key, token.Org) {
		return nil, &unknown
	}
	if time.Now().Unix() >= token.Expires {
		expired := newProblem(CodeUploadURLExpired, "The upload URL expired; ask for another one.")
		return nil, &expired
	}
	return &token, nil
}

// mayStill reports whether a key is there still, with a role that may copy for the org.
func (r *Registry) mayStill(id string, org protocol.OrgID) bool {
	for _, k := range r.Keys(org) {
		if k.ID == id {
			return k.Role.Includes(RoleCopy)
		}
	}
	return false
}

// baseURL is where the caller reached this server.
func baseURL(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") { // only its own answer hangs on what a caller says
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

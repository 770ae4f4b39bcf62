package producer

import (
	"errors"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

const (
	defaultExpires = 3600   // seconds
	maxExpires     = 604800 // seconds: 7 days, the limit of AWS Signature Version 4
	maxObjectSize  = 5 << 40
	maxContentType = 255 // bytes
)

// presignAnswer is the answer of POST /v1/presign.
type presignAnswer struct {
	Method    string            `json:"method"`
	URL       string            `json:"url"`
	Headers   map[string]string `json:"headers,omitempty"`
	Form      map[string]string `json:"form,omitempty"`
	ExpiresAt time.Time         `json:"expires_at"`
}

// presign answers POST /v1/presign.
func (s *Server) presign(w http.ResponseWriter, r *http.Request) {
	who := principalOf(r)
	req, p := s.presignRequest(w, r, who.Org)
	if p == nil && !s.grantsOf(who.Org).cover(req.Bucket, req.Key) {
		var list problems
		list.add("/bucket", faultNotGranted, "The org has no grant for this bucket and key.")
		p = list.problem(CodeBucketNotGranted)
	}
	if p != nil {
		writeProblem(w, r, *p)
		return
	}
	signed, err := s.presigner.Presign(r.Context(), req)
	switch {
	case errors.Is(err, ErrNoBucket):
		writeProblem(w, r, newProblem(CodeBucketNotFound, "There is no such bucket."))
	case errors.Is(err, ErrReserved):
		var list problems
		list.add("/key", faultNotGranted, "Files of sandboxes are kept there; they are reached as such only.")
		writeProblem(w, r, *list.problem(CodeBucketNotGranted))
	case err != nil:
		s.fault(r, "presign", err)
		writeProblem(w, r, newProblem(CodeStorageUnavailable, "The storage could not make the URL; try again."))
	default:
		writeJSON(w, http.StatusOK, presignAnswer{
			Method: signed.Method, URL: signed.URL, Headers: signed.Headers, Form: signed.Form,
			ExpiresAt: signed.ExpiresAt.UTC().Truncate(time.Second),
		})
	}
}

func (s *Server) presignRequest(w http.ResponseWriter, r *http.Request, org protocol.OrgID) (PresignRequest, *Problem) {
	v, p := s.readObject(w, r, "method", "bucket", "key", "expires_seconds", "content_type", "min_size", "max_size")
	if p != nil {
		return PresignRequest{}, p
	}
	var list problems
	req := PresignRequest{Org: org}
	req.Method = checked(v, "", "method", presignMethod, &list)
	req.Bucket = checked(v, "", "bucket", asFault(faultBucket, bucketFault), &list)
	req.Key = checked(v, "", "key", asFault(faultKey, keyFault), &list)
	req.Expires = time.Duration(optionalInt(v, "", "expires_seconds", defaultExpires, 1, maxExpires, &list)) * time.Second
	req.ContentType = presignType(v, &list)
	req.MinSize = optionalInt(v, "", "min_size", 0, 0, maxObjectSize, &list)
	req.MaxSize = optionalInt(v, "", "max_size", 0, 1, maxObjectSize, &list)
	onlyFor(v, req.Method, &list)
	if req.MaxSize > 0 && req.MinSize > req.MaxSize {
		list.add("/min_size", faultOutOfRange, "This must not be more than max_size.")
	}
	req.MakeBucket = s.cfg.AutoBuckets && req.Method != http.MethodGet
	if list.total > 0 {
		return PresignRequest{}, list.problem(CodeInvalidRequest)
	}
	return req, nil
}

func presignMethod(method string) (clean, code, message string) {
	switch method {
	case http.MethodGet, http.MethodPut, http.MethodPost:
		return method, "", ""
	}
	return "", faultChoice, "This must be GET, PUT or POST."
}

func presignType(v value, p *problems) string {
	given, ok := optionalString(v, "", "content_type", p)
	if !ok || v.get("content_type").absent() {
		return ""
	}
	// ParseMediaType takes the type alone as well, and spaces that would change the signature.
	media, _, err := mime.ParseMediaType(given)
	if err != nil || !strings.Contains(media, "/") || len(given) > maxContentType || !validFieldValue(given) || strings.TrimSpace(given) != given {
		p.add("/content_type", faultChoice, "This must be a media type such as image/png (RFC 9110, 8.3.1), 255 bytes at most.")
		return ""
	}
	return given
}

// onlyFor refuses members that the method cannot enforce: a limit that limits nothing would be a lie.
func onlyFor(v value, method string, p *problems) {
	if method == "" {
		return // told already
	}
	for _, name := range []string{"min_size", "max_size"} {
		if method != http.MethodPost && !v.get(name).absent() {
			p.add("/"+name, faultUnexpected, "Only a POST form can hold its sender to a size.")
		}
	}
	if method == http.MethodGet && !v.get("content_type").absent() {
		p.add("/content_type", faultUnexpected, "This is for PUT and POST only.")
	}
}

// readObject reads a small body that is one object with these members.
func (s *Server) readObject(w http.ResponseWriter, r *http.Request, known ...string) (value, *Problem) {
	b, p := s.readBody(w, r, smallBody)
	if p != nil {
		return value{}, p
	}
	defer b.Release()
	v, p := decodeObject(b.bytes, 1)
	if p != nil {
		return v, p
	}
	var list problems
	if unknownMembers(v, "", &list, known...); list.total > 0 {
		return v, list.problem(CodeInvalidRequest)
	}
	return v, nil
}

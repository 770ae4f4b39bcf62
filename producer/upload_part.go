package producer

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/copyfleet/copyfleet/producer/uploads"
)

// headerChecksum has the digest of a body, in lowercase hex.
const headerChecksum = "X-Checksum-Sha256"

// putPart answers PUT /v1/sandboxes/{id}/uploads/{upload_id}/parts/{n}. All that can be told without the body is told before it is read: who asks
// with Expect: 100-continue sends nothing in vain.
func (s *Server) putPart(w http.ResponseWriter, r *http.Request) {
	name, ok := s.sessionName(w, r)
	if !ok {
		return
	}
	number, problem := partNumber(r.PathValue("n"))
	part := uploads.Part{Number: number, Length: r.ContentLength}
	if problem == nil {
		part.SHA256, problem = checkRawBody(r)
	}
	if problem == nil && !s.partsAtOnce.take(name.Org, 1) {
		busy := newProblem(CodeBusy, "Too many parts are being received; try again soon.")
		problem = &busy
	}
	body := newSlowBody(w, r, s.uploadPatience)
	if problem != nil {
		body.drain()
		writeProblem(w, r, *problem)
		return
	}
	part.Body = body
	session, err := func() (*uploads.Session, error) {
		defer s.partsAtOnce.give(name.Org, 1)
		return s.uploads.PutPart(r.Context(), name, part)
	}()
	if err != nil {
		s.refuseBody(w, r, body, err)
		return
	}
	writeSessions(w, http.StatusOK, viewOfSession(session), session)
}

// refuseBody answers for an error of a call that had a body to read.
func (s *Server) refuseBody(w http.ResponseWriter, r *http.Request, body *slowBody, err error) {
	if body.failed != nil || errors.Is(err, uploads.ErrBody) {
		writeProblem(w, r, newProblem(CodeBodyIncomplete, "The body ended before its announced length, or came too slowly; nothing of it is kept."))
		return
	}
	body.drain()
	s.refuseUpload(w, r, err)
}

// partNumber reads a part number in its one form.
func partNumber(text string) (int, *Problem) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || strconv.Itoa(n) != text {
		p := newProblem(CodePartOutOfRange, "A part number is a whole number from 0 to part_count - 1.")
		return 0, &p
	}
	return n, nil
}

// checkRawBody refuses a body of bytes whose length is not announced or that does not come as it is to be kept, and returns the digest that it is
// announced to have; "": none was given.
func checkRawBody(r *http.Request) (digest string, p *Problem) {
	refuse := func(code Code, message string) (string, *Problem) {
		p := newProblem(code, message)
		return "", &p
	}
	// A request of HTTP/1 that says nothing of its length has the length 0: nobody is to publish nothing by mistake.
	if r.ContentLength < 0 || len(r.TransferEncoding) > 0 || r.ContentLength == 0 && r.Header.Get("Content-Length") == "" {
		return refuse(CodeLengthRequired, "The body must have a Content-Length, and no Transfer-Encoding.")
	}
	if enc := strings.TrimSpace(r.Header.Get("Content-Encoding")); enc != "" && !strings.EqualFold(enc, "identity") {
		return refuse(CodeUnsupportedMedia, "The body must not be compressed (Content-Encoding): its bytes are kept as they come.")
	}
	values := r.Header.Values(headerChecksum)
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 || !hexSHA256(values[0]) {
		return refuse(CodeInvalidHeader, headerChecksum+" must be given once and have 64 lowercase hexadecimal digits.")
	}
	return values[0], nil
}

// hexSHA256 reports whether s is a digest in lowercase hex.
func hexSHA256(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

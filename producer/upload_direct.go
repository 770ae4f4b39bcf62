package producer

import (
	"context"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"strconv"

	"github.com/copyfleet/copyfleet/producer/uploads"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	// maxOtherFields and maxOtherField bound what a form may have beside its file, which is not looked at.
	maxOtherFields = 64
	maxOtherField  = 64 << 10
	// maxFormHead bounds what comes before the content of a field: its headers, and what stands before the first one. Readers of forms keep headers
	// in memory, up to ten times as much.
	maxFormHead = 64 << 10
)

// directAnswer says what was published.
type directAnswer struct {
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// putDirect answers PUT /v1/direct-uploads/{token}: the body is the content.
func (s *Server) putDirect(w http.ResponseWriter, r *http.Request) {
	token, body, p := s.beginDirect(w, r)
	if p != nil {
		writeProblem(w, r, *p)
		return
	}
	digest, p := checkRawBody(r)
	if p == nil && token.Length != nil && r.ContentLength != *token.Length {
		wrong := otherLength(*token.Length)
		p = &wrong
	}
	if p != nil {
		body.drain()
		writeProblem(w, r, *p)
		return
	}
	content := &directContent{body: body}
	s.direct(w, r, token, content, uploads.Direct{Request: uploads.Request{Length: r.ContentLength, Whole: digest}, Exact: true})
}

func otherLength(want int64) Problem {
	return newProblem(CodePartLength, "The upload URL was made for a content of "+strconv.FormatInt(want, 10)+" bytes.")
}

// postDirect answers POST /v1/direct-uploads/{token}: a multipart form with one file, in the field file.
func (s *Server) postDirect(w http.ResponseWriter, r *http.Request) {
	token, body, p := s.beginDirect(w, r)
	if p != nil {
		writeProblem(w, r, *p)
		return
	}
	watched := r.WithContext(r.Context()) // a copy: what watches the progress of the body reads that of the request itself
	shape := &bounded{body: body}
	watched.Body = io.NopCloser(shape)
	form, err := watched.MultipartReader()
	if err != nil || r.ContentLength < 0 {
		no := newProblem(CodeUnsupportedMedia, "The body must be multipart/form-data, with one file in the field "+
			protocol.DefaultFileField+"; or PUT the bytes.")
		if err == nil {
			no = newProblem(CodeLengthRequired, "The body must have a Content-Length, and no Transfer-Encoding.")
		}
		body.drain()
		writeProblem(w, r, no)
		return
	}
	// A form tells how long it is, and its file is a little shorter. How long that must be is seen at its end.
	content := &directContent{body: body, form: form, shape: shape, length: token.Length}
	s.direct(w, r, token, content, uploads.Direct{Request: uploads.Request{Length: r.ContentLength}})
}

// beginDirect opens the token of a request.
func (s *Server) beginDirect(w http.ResponseWriter, r *http.Request) (*directToken, *slowBody, *Problem) {
	body := newSlowBody(w, r, s.uploadPatience)
	token, p := s.openToken(r.PathValue("token"))
	if p == nil && s.uploads == nil {
		none := newProblem(CodeNotFound, "This server takes no uploads.")
		p = &none
	}
	if p != nil {
		body.drain()
	}
	return token, body, p
}

// direct stages and publishes the content of a request, and waits for the end.
func (s *Server) direct(w http.ResponseWriter, r *http.Request, token *directToken, content *directContent, d uploads.Direct) {
	session, err := s.stageDirect(r, token, content, d)
	if err != nil {
		s.refuseDirect(w, r, content, err)
		return
	}
	if !content.body.ended {
		content.body.drain() // it was published before, and nobody asked for the bytes again
	}
	waiting, cancel := context.WithTimeout(r.Context(), s.cfg.MaxWait)
	defer cancel()
	defer s.waits.join(cancel)()
	name := uploads.Name{Org: session.Org, Sandbox: session.Sandbox, ID: session.ID}
	if session, err = s.untilPublished(waiting, name, session); err != nil {
		s.refuseUpload(w, r, err)
		return
	}
	switch p := notPublished(session); {
	case session.Status == uploads.StatusCompleting:
		s.uploadGoesOn(w, r, session, "The upload is still being published. Send the same request again to hear how it ends.")
	case p != nil:
		writeProblem(w, r, *p)
	default:
		writeJSON(w, http.StatusCreated, directAnswer{session.TargetPath, session.PublishedBytes, session.Whole})
	}
}

// stageDirect hands the content over, within the number of bodies that are received at once.
func (s *Server) stageDirect(r *http.Request, token *directToken, content *directContent, d uploads.Direct) (*uploads.Session, error) {
	if !s.partsAtOnce.take(token.Org, 1) {
		p := newProblem(CodeBusy, "Too many uploads are being received; try again soon.")
		return nil, &refusal{&p}
	}
	defer s.partsAtOnce.give(token.Org, 1)
	if content.form != nil {
		if err := content.find(); err != nil {
			return nil, err
		}
	}
	sandbox, p := s.sandboxForUse(r, token.Org, token.Sandbox)
	if p != nil {
		return nil, &refusal{p}
	}
	d.Org, d.Sandbox, d.Pool, d.Key = token.Org, token.Sandbox, poolName(sandbox.Pool), token.ID
	d.Kind, d.Source, d.TargetPath, d.Conflict = protocol.UploadFile, protocol.UploadSpooled, token.Path, token.Conflict
	d.Body, d.Trace = content, traceOf(r)
	return s.uploads.Direct(r.Context(), d)
}

// refuseDirect answers for content that was not taken.
func (s *Server) refuseDirect(w http.ResponseWriter, r *http.Request, content *directContent, err error) {
	if content.wrong != nil {
		content.body.drain()
		writeProblem(w, r, *content.wrong)
		return
	}
	s.refuseBody(w, r, content.body, err)
}

// directContent is the content of a direct upload while it is read. Of a form it is the one file, and it ends only when the whole form was read
// and has no other: what is half sent, or ambiguous, is not published.
type directContent struct {
	body *slowBody

	form   *multipart.Reader // nil: the body is the content
	shape  *bounded          // what form reads
	file   *multipart.Part
	fields int    // others that were passed
	length *int64 // that the file of a form must have; nil: any
	read   int64  // of the file
	wrong  *Problem
}

var errContent = errors.New("the content is not as it must be")

// find goes to the file of a form.
func (c *directContent) find() error {
	for {
		part, err := c.next()
		if err != nil {
			return c.broken("The form has no file in the field "+protocol.DefaultFileField+".", err)
		}
		if part.FormName() == protocol.DefaultFileField {
			c.shape.free()
			c.file = part
			return nil
		}
		if err := c.pass(part); err != nil {
			return err
		}
	}
}

// next goes to the next field, unless too much is before it.
func (c *directContent) next() (*multipart.Part, error) {
	c.shape.allow(maxFormHead)
	return c.form.NextRawPart() //nolint:wrapcheck // the caller says what it means
}

// pass reads over a field that means nothing here.
func (c *directContent) pass(field *multipart.Part) error {
	c.shape.allow(maxFormHead + maxOtherField)
	n, err := io.CopyN(io.Discard, field, maxOtherField+1)
	if c.fields++; c.fields > maxOtherFields || n > maxOtherField {
		return c.broken("Beside the file a form may have 64 fields of 64 KiB at most.", errContent)
	}
	if err != nil && !errIsEOF(err) {
		return c.broken("The form is malformed.", err)
	}
	return nil
}

// rest reads what comes after the file.
func (c *directContent) rest() error {
	for {
		part, err := c.next()
		switch {
		case errIsEOF(err):
			return io.EOF
		case err != nil:
			return c.broken("The form is malformed.", err)
		case part.FormName() == protocol.DefaultFileField:
			return c.broken("The form has more than one file in the field "+protocol.DefaultFileField+".", errContent)
		}
		if err := c.pass(part); err != nil {
			return err
		}
	}
}

// broken notes what is wrong with a form, unless it is the connection.
func (c *directContent) broken(message string, err error) error {
	if c.body.failed == nil {
		p := newProblem(CodeInvalidRequest, message)
		c.wrong = &p
	}
	if errIsEOF(err) {
		err = io.ErrUnexpectedEOF
	}
	return errors.Join(errContent, err)
}

// bounded reads a form, of which only the file may be of any length.
type bounded struct {
	body io.Reader
	left int64 // that may be read; -1: any
}

// allow says how much may be read from here on.
func (b *bounded) allow(n int64) { b.left = n }

func (b *bounded) free() { b.left = -1 }

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errContent
	}
	if b.left > 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.body.Read(p)
	if b.left > 0 {
		b.left -= int64(n)
	}
	return n, err //nolint:wrapcheck // io.Reader passes on what it got
}

// Read implements io.Reader.
func (c *directContent) Read(p []byte) (int, error) {
	if c.form != nil {
		return c.readFile(p)
	}
	return c.body.Read(p)
}

func (c *directContent) readFile(p []byte) (int, error) {
	n, err := c.file.Read(p)
	c.read += int64(n)
	switch {
	case c.length != nil && (c.read > *c.length || errIsEOF(err) && c.read < *c.length):
		wrong := otherLength(*c.length)
		c.wrong = &wrong
		return 0, errContent
	case err == nil:
	case errIsEOF(err):
		err = c.rest()
	default:
		err = c.broken("The form is malformed.", err)
	}
	return n, err
}

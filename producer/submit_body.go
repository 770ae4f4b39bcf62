package producer

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"net/http"
	"strconv"
	"time"
)

const (
	// smallUpload and largeUpload are what an upload takes of [Config.MaxBuffered], in bytes, up to a page of items and beyond: its
	// buffers, and pages on their way. The ids of items come on top.
	smallUpload = 256 << 10
	largeUpload = 8 << 20
	// An upload must bring progressBytes in every progressWindow.
	progressBytes  = 1 << 10
	progressWindow = 30 * time.Second
	drainTimeout   = 10 * time.Second
)

// share is what one request holds of a budget.
type share struct {
	budget *budget
	held   int64
}

func (s *share) take(n int64) bool {
	if !s.budget.take(n) {
		return false
	}
	s.held += n
	return true
}

func (s *share) release() {
	s.budget.give(s.held)
	s.held = 0
}

// upload is a request body that is read as it comes in, however long it takes, as long as it makes progress: the time limit of the
// server is for requests that are small.
type upload struct {
	request  *http.Request
	control  *http.ResponseController
	patience time.Duration // see progressWindow
	hash     hash.Hash
	read     int64
	window   int64 // read when the deadline was set last
	failed   error // of the connection

	object bool // the items come from an object that the body named
	body   io.Closer
}

func newUpload(w http.ResponseWriter, r *http.Request, patience time.Duration) *upload {
	u := &upload{request: r, patience: patience, control: http.NewResponseController(w), hash: sha256.New()}
	u.renew()
	return u
}

// renew gives the client another while.
func (u *upload) renew() {
	u.window = u.read
	_ = u.control.SetReadDeadline(time.Now().Add(u.patience)) // not supported, as in tests: nothing to be renewed
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	n, err := u.request.Body.Read(p)
	u.read += int64(n)
	u.hash.Write(p[:n])
	switch {
	case err != nil && !errIsEOF(err):
		u.failed = err
	case err != nil:
		_ = u.control.SetReadDeadline(time.Time{}) // else the deadline would end the call while it is being accepted
	case u.read-u.window >= progressBytes:
		u.renew()
	}
	return n, err //nolint:wrapcheck // io.Reader passes on what it got
}

// takeObject says that the items come from an object.
func (u *upload) takeObject(body io.Closer) { u.object, u.body = true, body }

func (u *upload) close() {
	if u.body != nil {
		_ = u.body.Close() // it was read, or is not wanted any more
	}
}

// sum is the digest of what was read of the body.
func (u *upload) sum() []byte { return u.hash.Sum(nil) }

// errIsEOF reports the end of a body that is whole.
func errIsEOF(err error) bool { return errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) }

func itoa(n int) string { return strconv.Itoa(n) }

package producer

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

const (
	// smallUpload and largeUpload are what an upload takes of [Config.MaxBuffered], in bytes, up to a page of items and beyond: its
	// buffers, and pages on their way. The ids of items come on top.
	smallUpload = 256 << 10
	largeUpload = 8 << 20
	// pageCopies is how many pages of items an upload has in memory at worst: those on their way, and in the forms in which they are stored.
	pageCopies = 8
	// maxPageText bounds the text of a page of items, in bytes. Most items have a few hundred; those with large forms have 100 KiB.
	maxPageText = 16 << 20
	// An upload must bring progressBytes in every progressWindow.
	progressBytes  = 1 << 10
	progressWindow = 30 * time.Second
	drainTimeout   = 10 * time.Second
)

// share is what one request of an org holds of a budget.
type share struct {
	budget *budget
	org    protocol.OrgID
	held   int64
}

func (s *share) take(n int64) bool {
	if !s.budget.take(s.org, n) {
		return false
	}
	s.held += n
	return true
}

func (s *share) release() {
	if s.held == 0 { // also where nothing was ever taken, by anybody
		return
	}
	s.budget.give(s.org, s.held)
	s.held = 0
}

// slowBody is a request body that is read as it comes in, however long it takes, as long as it makes progress: the time limit of the
// server is for requests that are small.
type slowBody struct {
	request  *http.Request
	control  *http.ResponseController
	patience time.Duration // see progressWindow
	read     int64
	window   int64 // read when the deadline was set last
	deadline time.Time
	rested   time.Time // when the last read ended, or the deadline was set
	ended    bool      // all of it was read
	failed   error     // of the connection
}

func newSlowBody(w http.ResponseWriter, r *http.Request, patience time.Duration) *slowBody {
	b := &slowBody{request: r, patience: patience, control: http.NewResponseController(w)}
	b.renew()
	return b
}

// renew gives the client another while.
func (b *slowBody) renew() {
	b.window, b.rested = b.read, time.Now()
	b.deadline = b.rested.Add(b.patience)
	_ = b.control.SetReadDeadline(b.deadline) // not supported, as in tests: nothing to be renewed
}

// goOn does not count against the client what went by while nothing was read: the body waited for its turn, or for the storage.
func (b *slowBody) goOn() {
	if idle := time.Since(b.rested); idle > b.patience/64 { // less is not worth the call
		b.deadline = b.deadline.Add(idle)
		_ = b.control.SetReadDeadline(b.deadline)
	}
}

// Read implements io.Reader.
func (b *slowBody) Read(p []byte) (int, error) {
	b.goOn()
	n, err := b.request.Body.Read(p)
	b.read += int64(n)
	b.rested = time.Now()
	switch {
	case err != nil && !errIsEOF(err):
		b.failed = err
	case err != nil || b.read == b.request.ContentLength:
		b.ended = true
		_ = b.control.SetReadDeadline(time.Time{}) // else the deadline would end the call while it is being carried out
	case b.read-b.window >= progressBytes:
		b.renew()
	}
	return n, err //nolint:wrapcheck // io.Reader passes on what it got
}

// drain reads on for a while after a refusal, so that the client sees the answer.
func (b *slowBody) drain() {
	if b.ended {
		return
	}
	_ = b.control.SetReadDeadline(time.Now().Add(drainTimeout)) // without it the server's own timeout holds
	drain(b.request)
}

// upload is the body of a batch.
type upload struct {
	*slowBody

	hash   hash.Hash
	object bool // the items come from an object that the body named
	body   io.Closer
}

func newUpload(w http.ResponseWriter, r *http.Request, patience time.Duration) *upload {
	return &upload{slowBody: newSlowBody(w, r, patience), hash: sha256.New()}
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	n, err := u.slowBody.Read(p)
	u.hash.Write(p[:n])
	return n, err
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

// large takes what an upload of more than a page needs.
func (in *intake) large() bool {
	in.room += largeUpload
	return in.budget.take(largeUpload)
}

// hold makes sure that there is memory for another item: those of a page have what was taken for the upload, and more if they are large.
func (in *intake) hold(item *protocol.ManifestItem) *Problem {
	in.page += textOf(item)
	if in.page > maxPageText {
		p := newProblem(CodeBodyTooLarge, itoa(protocol.PageSize)+" items in a row may have "+itoa(maxPageText)+" bytes together at most.")
		return &p
	}
	if more := pageCopies*in.page - in.room; more > 0 {
		more = (more/smallUpload + 1) * smallUpload
		if !in.budget.take(more) {
			return busy()
		}
		in.room += more
	}
	if in.check.count%protocol.PageSize == 0 {
		in.page = 0
	}
	return nil
}

// textOf is about how many bytes an item takes in memory.
func textOf(item *protocol.ManifestItem) int64 {
	const each = 16 // of a string or an entry beside its bytes
	n := len(item.ID)
	for _, loc := range [2]*protocol.Location{&item.Src, &item.Dest} {
		n += len(loc.Sandbox) + len(loc.Path) + len(loc.URL) + len(loc.Bucket) + len(loc.Key) + len(loc.FileField)
		for _, fields := range [2]map[string]string{loc.Headers, loc.Form} {
			for name, value := range fields {
				n += len(name) + len(value) + each
			}
		}
	}
	return int64(n)
}

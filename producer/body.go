package producer

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/copyfleet/copyfleet/protocol"
)

// smallBody bounds the body of every call but the copy call, in bytes.
const smallBody = 64 << 10

// budget bounds the bytes of request bodies in memory, over all calls. One org cannot take all of it: uploads may be slow, and would keep
// the others out for as long as they like.
type budget struct {
	limit  int64
	others int64 // that an org leaves to others

	mu    sync.Mutex
	used  int64
	byOrg map[protocol.OrgID]int64
}

// newBudget returns the budget of a front. A quarter is for other orgs, but the largest body fits in what one may take.
func newBudget(limit, largest int64) *budget {
	return &budget{limit: limit, others: min(limit/4, limit-largest)}
}

// take reserves n bytes for an org and reports whether there was room.
func (b *budget) take(org protocol.OrgID, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > b.limit || b.byOrg[org]+n > b.limit-b.others {
		return false
	}
	if b.byOrg == nil {
		b.byOrg = map[protocol.OrgID]int64{}
	}
	b.used += n
	b.byOrg[org] += n
	return true
}

func (b *budget) give(org protocol.OrgID, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.byOrg[org] -= n; b.byOrg[org] == 0 {
		delete(b.byOrg, org)
	}
}

// body is a request body in memory. Release it when it has been decoded.
type body struct {
	bytes []byte
	share
}

// Release gives the memory back to the budget. It may be called twice.
func (b *body) Release() {
	b.release()
	b.bytes = nil
}

// readBody reads a JSON body of at most limit bytes.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, limit int64) (*body, *Problem) {
	if p := checkMediaType(r.Header); p != nil {
		return nil, p
	}
	return s.readBytes(w, r, limit)
}

// readBytes reads a body of at most limit bytes, whatever it is. The memory is reserved as the bytes come, not as the
// caller announces them, so that an idle connection reserves nothing.
func (s *Server) readBytes(w http.ResponseWriter, r *http.Request, limit int64) (*body, *Problem) {
	if r.ContentLength > limit {
		drain(r)
		return nil, tooLarge(limit)
	}
	b := &body{share: share{budget: s.budget, org: principalOf(r).Org}}
	var buf bytes.Buffer
	src := http.MaxBytesReader(w, r.Body, limit)
	for {
		const step = 32 << 10
		if grown := int64(buf.Len() + step); grown > b.held && b.held < limit {
			// Doubling, as the buffer itself does.
			if more := min(max(grown, 2*b.held), limit) - b.held; !b.take(more) {
				b.Release()
				return nil, busy()
			}
		}
		_, err := io.CopyN(&buf, src, step)
		if errors.Is(err, io.EOF) {
			b.bytes = buf.Bytes()
			return b, nil
		}
		if err != nil {
			b.Release()
			drain(r)
			return nil, readProblem(err, limit)
		}
	}
}

// maxDrain is how much of a body that is refused is still read, in bytes.
const maxDrain = 64 << 20

// drain reads on for a while: many clients see the answer only once they have sent their body, and a broken connection
// otherwise. Who asks before sending (RFC 9110, 10.1.1) is answered at once: to read would tell it to go on.
func drain(r *http.Request) {
	if asks := strings.EqualFold(r.Header.Get("Expect"), "100-continue"); !asks && r.ContentLength <= 2*maxDrain {
		_, _ = io.CopyN(io.Discard, r.Body, 2*maxDrain) // whatever it comes to, the answer is the same
	}
}

func readProblem(err error, limit int64) *Problem {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(limit)
	}
	p := newProblem(CodeBodyIncomplete, "The body ended before its announced length, or came too slowly.")
	return &p
}

func tooLarge(limit int64) *Problem {
	p := newProblem(CodeBodyTooLarge, "The body may have "+strconv.FormatInt(limit, 10)+" bytes at most.")
	return &p
}

// checkMediaType accepts JSON, and no word about it. RFC 8259 knows no charset but UTF-8.
func checkMediaType(h http.Header) *Problem {
	if p := checkEncoding(h); p != nil {
		return p
	}
	given := h.Get("Content-Type")
	if given == "" {
		return nil
	}
	media, params, err := mime.ParseMediaType(given)
	json := media == "application/json" || strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json")
	if charset, ok := params["charset"]; err != nil || !json || ok && !strings.EqualFold(charset, "utf-8") {
		p := newProblem(CodeUnsupportedMedia, "The body must be application/json in UTF-8.")
		return &p
	}
	return nil
}

// checkEncoding accepts bodies as they are only.
func checkEncoding(h http.Header) *Problem {
	if enc := strings.TrimSpace(h.Get("Content-Encoding")); enc != "" && !strings.EqualFold(enc, "identity") {
		p := newProblem(CodeUnsupportedMedia, "The body must not be compressed (Content-Encoding).")
		return &p
	}
	return nil
}

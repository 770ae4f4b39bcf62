package producer

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
)

// smallBody bounds the body of every call but the copy call, in bytes.
const smallBody = 64 << 10

// budget bounds the bytes of request bodies in memory, over all calls.
type budget struct {
	limit int64
	used  atomic.Int64
}

// take reserves n bytes and reports whether there was room.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// body is a request body in memory. Release it when it has been decoded.
type body struct {
	bytes    []byte
	reserved int64
	budget   *budget
}

// Release gives the memory back to the budget. It may be called twice.
func (b *body) Release() {
	if b.budget != nil {
		b.budget.give(b.reserved)
	}
	b.bytes, b.budget = nil, nil
}

// readBody reads a JSON body of at most limit bytes. The memory is reserved as the bytes come, not as the
// caller announces them, so that an idle connection reserves nothing.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, limit int64) (*body, *Problem) {
	if p := checkMediaType(r.Header); p != nil {
		return nil, p
	}
	if r.ContentLength > limit {
		drain(r)
		return nil, tooLarge(limit)
	}
	b := &body{budget: s.budget}
	var buf bytes.Buffer
	src := http.MaxBytesReader(w, r.Body, limit)
	for {
		const step = 32 << 10
		if grown := int64(buf.Len() + step); grown > b.reserved && b.reserved < limit {
			// Doubling, as the buffer itself does.
			more := min(max(grown, 2*b.reserved), limit) - b.reserved
			if !s.budget.take(more) {
				b.Release()
				p := newProblem(CodeBusy, "Too many large requests are being read; try again soon.")
				return nil, &p
			}
			b.reserved += more
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
	if enc := strings.TrimSpace(h.Get("Content-Encoding")); enc != "" && !strings.EqualFold(enc, "identity") {
		p := newProblem(CodeUnsupportedMedia, "The body must not be compressed (Content-Encoding).")
		return &p
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

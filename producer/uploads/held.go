package uploads

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
)

// holdBack is how many bytes at the end of a body are kept until the whole is known to be what was announced. It bounds what a body takes of
// memory.
const holdBack = 32 << 10

var holdBuffers = sync.Pool{New: func() any { return new([holdBack]byte) }}

// held reads a body of a known length and computes its digest on the way. Its end is given away only when length and digest are as announced:
// a store that is promised so many bytes keeps nothing of a body that is something else.
//
// A store may still read when its call has returned, so that reads are guarded.
type held struct {
	length int64
	want   string // lowercase hex SHA-256; "": not given

	mu     sync.Mutex
	body   io.Reader
	sum    hash.Hash
	read   int64
	last   []byte // the end, not given away yet
	buffer *[holdBack]byte
	whole  bool
	err    error // why there is no more
}

func newHeld(body io.Reader, length int64, want string) *held {
	return &held{length: length, want: want, body: body, sum: sha256.New()}
}

// Read implements io.Reader.
func (h *held) Read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(p) == 0 || h.err != nil {
		return 0, h.err
	}
	if before := h.length - h.read - holdBack; before > 0 {
		return h.forward(p[:min(int64(len(p)), before)])
	}
	if !h.whole {
		if err := h.finish(); err != nil {
			h.err = err
			return 0, err
		}
	}
	if len(h.last) == 0 {
		h.err = io.EOF
		return 0, io.EOF
	}
	n := copy(p, h.last)
	h.last = h.last[n:]
	return n, nil
}

// forward reads what is before the end.
func (h *held) forward(p []byte) (int, error) {
	n, err := h.body.Read(p)
	h.read += int64(n)
	_, _ = h.sum.Write(p[:n]) // a hash never fails
	if err != nil {
		h.err = h.broken(err)
	}
	return n, h.err
}

// finish reads the end, looks for more, and compares.
func (h *held) finish() error {
	h.buffer = holdBuffers.Get().(*[holdBack]byte) //nolint:forcetypeassert // nothing else is put there
	last := h.buffer[:h.length-h.read]
	for rest := last; len(rest) > 0; {
		n, err := h.body.Read(rest)
		h.read += int64(n)
		_, _ = h.sum.Write(rest[:n])
		if rest = rest[n:]; err != nil && len(rest) > 0 { // not io.ReadFull: it would tell a short body and a broken one alike
			return h.broken(err)
		}
	}
	var more [1]byte
	switch n, err := io.ReadFull(h.body, more[:]); {
	case n > 0:
		return &Refusal{Code: RefusedLength, Message: fmt.Sprintf("The body has more than the %d bytes that were announced.", h.length)}
	case !errors.Is(err, io.EOF):
		return h.broken(err)
	}
	if got := hex.EncodeToString(h.sum.Sum(nil)); h.want != "" && got != h.want {
		return &Refusal{Code: RefusedChecksum, Message: fmt.Sprintf("The body has the SHA-256 %s, but %s was announced.", got, h.want)}
	}
	h.last, h.whole = last, true
	return nil
}

// broken tells a body that ended early from one that broke off.
func (h *held) broken(err error) error {
	if errors.Is(err, io.EOF) {
		return &Refusal{Code: RefusedLength, Message: fmt.Sprintf("The body ended after %d of the %d bytes that were announced.", h.read, h.length)}
	}
	return fmt.Errorf("%w after %d of %d bytes: %w", ErrBody, h.read, h.length, err)
}

// verdict says what was wrong with the body; nil: nothing, as far as it was read.
func (h *held) verdict() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if errors.Is(h.err, io.EOF) || errors.Is(h.err, errHeldClosed) {
		return nil
	}
	return h.err
}

// digest is the SHA-256 of the whole body, in lowercase hex; "" if it was not read as a whole, or is not what was announced.
func (h *held) digest() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.whole {
		return ""
	}
	return hex.EncodeToString(h.sum.Sum(nil))
}

var errHeldClosed = errors.New("the part was given up")

// close ends what a store may still read. A read that hangs in the body keeps its memory to itself.
func (h *held) close() {
	if !h.mu.TryLock() {
		return
	}
	defer h.mu.Unlock()
	if h.err == nil {
		h.err = errHeldClosed
	}
	if h.buffer != nil {
		holdBuffers.Put(h.buffer)
		h.buffer, h.last = nil, nil
	}
}

// limited reads a body that has at most so many bytes.
type limited struct {
	mu     sync.Mutex
	body   io.Reader
	sum    hash.Hash
	left   int64
	length int64
	err    error
}

func newLimited(body io.Reader, length int64) *limited {
	return &limited{body: body, sum: sha256.New(), left: length, length: length}
}

// Read implements io.Reader.
func (l *limited) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(p) == 0 || l.err != nil {
		return 0, l.err
	}
	n, err := l.body.Read(p)
	_, _ = l.sum.Write(p[:n]) // a hash never fails
	if l.left -= int64(n); l.left < 0 {
		l.err = &Refusal{Code: RefusedLength, Message: fmt.Sprintf("The body has more than the %d bytes that were announced.", l.length)}
		return 0, l.err
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %w", ErrBody, err)
	}
	l.err = err
	return n, err
}

func (l *limited) verdict() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.err, io.EOF) {
		return nil
	}
	return l.err
}

// digest is the SHA-256 of the body, in lowercase hex; "" if it was not read to its end.
func (l *limited) digest() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !errors.Is(l.err, io.EOF) {
		return ""
	}
	return hex.EncodeToString(l.sum.Sum(nil))
}

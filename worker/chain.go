package worker

import (
	"crypto/md5" //nolint:gosec // compared with what a caller says, never trusted for more
	"encoding"
	"hash"
	"io"
	"sync"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage/digest"
)

// chain digests the bytes of an item in order, over several parts, attempts and workers: its state after each part is kept with the
// part, and whoever continues goes on from there.
type chain struct {
	sha *digest.SHA256 // nil: nobody wants it
	md5 hash.Hash      // nil: nobody gave one to compare with
	at  int64          // bytes that were digested
}

// shaState is how long the state of a SHA-256 is; it stands before that of an MD5.
const shaState = 108

func newChain(t *transfer) *chain {
	c := &chain{}
	if t.digest != protocol.DigestNone || t.expect.SHA256 != "" {
		c.sha = digest.NewSHA256()
	}
	if t.expect.MD5 != "" {
		c.md5 = md5.New() //nolint:gosec // as above
	}
	return c
}

// idle reports whether there is nothing to digest.
func (c *chain) idle() bool { return c.sha == nil && c.md5 == nil }

// Write implements io.Writer. It never fails.
func (c *chain) Write(p []byte) (int, error) {
	if c.sha != nil {
		_, _ = c.sha.Write(p)
	}
	if c.md5 != nil {
		_, _ = c.md5.Write(p)
	}
	c.at += int64(len(p))
	return len(p), nil
}

// copyBuffers are of the size that costs least: with a piece of 32 KiB for each read, reading takes as long as digesting.
var copyBuffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// copy digests all that a reader gives.
func (c *chain) copy(from io.Reader) (int64, error) {
	buffer, _ := copyBuffers.Get().(*[256 << 10]byte)
	defer copyBuffers.Put(buffer)
	n, err := io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{from}, buffer[:])
	return n, err //nolint:wrapcheck // io.EOF is none here, and the rest says whose it is
}

// state is what has been digested so far, to be continued; nil if there is nothing to digest.
func (c *chain) state() []byte {
	var state []byte
	if c.sha != nil {
		some, err := c.sha.State()
		if err != nil {
			return nil
		}
		state = some
	}
	if form, ok := c.md5.(encoding.BinaryMarshaler); ok {
		some, err := form.MarshalBinary()
		if err != nil {
			return nil
		}
		state = append(state, some...)
	}
	return state
}

// resume goes on from a state at an offset, and reports whether it is one that it can go on from. If not, the chain is at its beginning.
func (c *chain) resume(state []byte, at int64) bool {
	if at > 0 && c.load(state) { // the state of who wanted other digests is longer or shorter
		c.at = at
		return true
	}
	c.reset()
	return false
}

func (c *chain) load(state []byte) bool {
	if c.sha != nil {
		if len(state) < shaState {
			return false
		}
		sha, err := digest.ResumeSHA256(state[:shaState])
		if err != nil {
			return false
		}
		c.sha, state = sha, state[shaState:]
	}
	if form, ok := c.md5.(encoding.BinaryUnmarshaler); ok {
		return form.UnmarshalBinary(state) == nil
	}
	return true
}

func (c *chain) reset() {
	c.at = 0
	if c.sha != nil {
		c.sha.Reset()
	}
	if c.md5 != nil {
		c.md5.Reset()
	}
}

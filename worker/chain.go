package worker

import (
	"crypto/md5" //nolint:gosec // compared with what a caller says, never trusted for more
	"crypto/sha256"
	"encoding"
	"hash"

	"github.com/copyfleet/copyfleet/protocol"
)

// chain digests the bytes of an item in order, over several parts, attempts and workers: its state after each part is kept with the
// part, and whoever continues goes on from there.
type chain struct {
	sha hash.Hash // nil: nobody wants it
	md5 hash.Hash // nil: nobody gave one to compare with
	at  int64     // bytes that were digested
}

// How long the states are that encoding.BinaryMarshaler gives: that of the SHA-256 stands first.
const (
	shaState = 108
	md5State = 92
)

func newChain(t *transfer) *chain {
	c := &chain{}
	if t.digest != protocol.DigestNone || t.expect.SHA256 != "" {
		c.sha = sha256.New()
	}
	if t.expect.MD5 != "" {
		c.md5 = md5.New() //nolint:gosec // as above
	}
	return c
}

// idle reports whether there is nothing to digest.
func (c *chain) idle() bool { return c.sha == nil && c.md5 == nil }

// Write implements io.Writer.
func (c *chain) Write(p []byte) (int, error) {
	for _, h := range []hash.Hash{c.sha, c.md5} {
		if h != nil {
			_, _ = h.Write(p) // a hash never fails
		}
	}
	c.at += int64(len(p))
	return len(p), nil
}

// state is what has been digested so far, to be continued; nil if there is nothing to digest.
func (c *chain) state() []byte {
	var state []byte
	for _, h := range []hash.Hash{c.sha, c.md5} {
		if h == nil {
			continue
		}
		form, ok := h.(encoding.BinaryMarshaler)
		if !ok {
			return nil
		}
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
	ok := c.load(c.sha, &state, shaState) && c.load(c.md5, &state, md5State) // those of another wish are longer or shorter
	if ok && at > 0 {
		c.at = at
		return true
	}
	c.reset()
	return false
}

func (c *chain) load(h hash.Hash, state *[]byte, size int) bool {
	if h == nil {
		return true
	}
	form, ok := h.(encoding.BinaryUnmarshaler)
	if !ok || len(*state) < size {
		return false
	}
	some := (*state)[:size]
	*state = (*state)[size:]
	return form.UnmarshalBinary(some) == nil
}

func (c *chain) reset() {
	c.at = 0
	for _, h := range []hash.Hash{c.sha, c.md5} {
		if h != nil {
			h.Reset()
		}
	}
}

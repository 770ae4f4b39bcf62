package workload

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
)

const (
	blockBytes = 1 << 20
	rowBytes   = 4 << 10
	keyBytes   = 8
)

// Payload makes the content of objects. It does not compress, no two objects are alike anywhere, and it costs next to nothing to make: a block of random
// bytes from the seed, in which each object begins elsewhere, and which is combined with another key for each object and each time that it is gone through.
type Payload struct {
	seed  uint64
	block []byte // twice, so that a piece of one block's length can begin anywhere
}

// NewPayload makes the content of a seed for a generator, of which no two make the same. It takes 2 MiB.
func NewPayload(seed uint64, generator int) *Payload {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	binary.LittleEndian.PutUint64(key[8:], uint64(generator)) //nolint:gosec // counts from 0
	block := make([]byte, 2*blockBytes)
	_, _ = rand.NewChaCha8(key).Read(block[:blockBytes]) // never fails
	copy(block[blockBytes:], block)
	return &Payload{seed: seed, block: block}
}

// Content reads an object. It can be used again for another one by [Content.Reset].
type Content struct {
	payload *Payload
	object  Object
	start   int // of the object in the block
	at      int64
	lap     int64 // whose key is in row; -1: none
	row     [rowBytes + keyBytes]byte
}

// Content returns the content of an object.
func (p *Payload) Content(object Object) *Content {
	c := &Content{payload: p}
	c.Reset(object)
	return c
}

// Part returns a piece of an object's content.
func (p *Payload) Part(object Object, at, length int64) io.Reader {
	c := p.Content(object)
	c.at = at
	return io.LimitReader(c, length)
}

// Reset makes it the content of another object, from its beginning.
func (c *Content) Reset(object Object) {
	c.object, c.at, c.lap = object, 0, -1
	c.start = int(c.number(-1) % blockBytes)
}

// number is a number of the object's own for a lap.
func (c *Content) number(lap int64) uint64 {
	n := c.payload.seed ^ c.object.Number<<20 ^ uint64(c.object.Version)
	n = (n ^ uint64(lap)*0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9 //nolint:gosec // any bits will do
	n = (n ^ n>>29) * 0x94d049bb133111eb
	return n ^ n>>32
}

// Size is the size of the object in bytes.
func (c *Content) Size() int64 { return c.object.Size }

// Read implements io.Reader.
func (c *Content) Read(p []byte) (int, error) {
	if c.at >= c.object.Size {
		return 0, io.EOF
	}
	done := 0
	for done < len(p) && c.at < c.object.Size {
		done += c.fill(p[done:])
	}
	return done, nil
}

// fill makes some of the bytes that come next, up to the end of a row.
func (c *Content) fill(p []byte) int {
	lap, in := c.at/blockBytes, int(c.at%blockBytes)
	if lap != c.lap {
		binary.LittleEndian.PutUint64(c.row[:], c.number(lap))
		for have := keyBytes; have < len(c.row); have *= 2 {
			copy(c.row[have:], c.row[:have])
		}
		c.lap = lap
	}
	n := int(min(int64(len(p)), int64(rowBytes), int64(blockBytes-in), c.object.Size-c.at))
	from := c.start + in
	subtle.XORBytes(p[:n], c.payload.block[from:from+n], c.row[in%keyBytes:])
	c.at += int64(n)
	return n
}

// WriteTo implements io.WriterTo.
func (c *Content) WriteTo(w io.Writer) (int64, error) {
	var buf [64 << 10]byte
	return io.CopyBuffer(w, onlyReader{c}, buf[:])
}

type onlyReader struct{ io.Reader }

// Seek implements io.Seeker.
func (c *Content) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += c.at
	case io.SeekEnd:
		offset += c.object.Size
	}
	if offset < 0 {
		return c.at, fmt.Errorf("seek to %d, before the beginning", offset)
	}
	c.at = offset
	return offset, nil
}

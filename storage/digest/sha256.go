// Package digest computes the SHA-256 of a stream beside the stream: while one core receives the next bytes and writes them, another
// digests the last ones.
//
// The bytes are copied for that, at a tenth of what digesting them costs, so it is done for large streams only, and
// for no more of them at once than half the processors: where all cores are busy, another goroutine is no other core. Everything else is
// digested where it is written. Memory is bounded: [Behind] bytes a stream that is digested beside.
//
// No goroutine lives longer than there is something to digest: it ends by itself, whether or not anybody asks for the sum.
package digest

import (
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"hash"
	"runtime"
	"sync"
	"sync/atomic"
)

const (
	bufferSize = 256 << 10
	depth      = 4 // buffers that are full or being digested

	// Behind is how far the digest may be behind the stream, in bytes.
	Behind = (depth + 1) * bufferSize
	// Least is how long a stream is before it is digested beside, in bytes.
	Least = 1 << 20
)

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// beside counts the streams that are digested beside at this moment, in the whole process.
var beside atomic.Int64

// takePlace reports whether another stream may be.
func takePlace() bool {
	if beside.Add(1) <= int64(runtime.GOMAXPROCS(0)/2) {
		return true
	}
	beside.Add(-1)
	return false
}

func places() bool { return beside.Load() < int64(runtime.GOMAXPROCS(0)/2) }

// SHA256 is a [hash.Hash]. It is written, and asked, by one goroutine at a time.
type SHA256 struct {
	written int64
	fill    *[bufferSize]byte // what is not handed over yet; nil: nothing
	filled  int

	mu      sync.Mutex
	moved   sync.Cond // the queue became shorter, or the goroutine ended
	running bool      // a goroutine digests; hash is its own until it ended
	queue   []*[bufferSize]byte
	hash    hash.Hash
}

var _ hash.Hash = (*SHA256)(nil)

// NewSHA256 begins a stream.
func NewSHA256() *SHA256 {
	s := &SHA256{hash: sha256.New()}
	s.moved.L = &s.mu
	return s
}

// ResumeSHA256 goes on behind what was written when State was asked for.
func ResumeSHA256(state []byte) (*SHA256, error) {
	s := NewSHA256()
	if err := s.UnmarshalBinary(state); err != nil {
		return nil, fmt.Errorf("resume a SHA-256: %w", err)
	}
	return s, nil
}

// Write never fails, and does not keep p.
func (s *SHA256) Write(p []byte) (int, error) {
	n := len(p)
	s.written += int64(n)
	if s.written <= Least { // nothing was handed over yet
		return s.hash.Write(p)
	}
	for len(p) > 0 {
		if s.fill == nil {
			if !s.busy() && (!places() || len(p) > depth*bufferSize) {
				_, _ = s.hash.Write(p)
				return n, nil
			}
			s.fill, _ = buffers.Get().(*[bufferSize]byte)
			s.filled = 0
		}
		m := copy(s.fill[s.filled:], p)
		s.filled += m
		p = p[m:]
		if s.filled == bufferSize {
			s.handOver()
		}
	}
	return n, nil
}

func (s *SHA256) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

// handOver gives the full buffer to the goroutine, which it starts if none is there. If there is no place for one, it digests
// the buffer itself.
func (s *SHA256) handOver() {
	full := s.fill
	s.fill = nil
	s.mu.Lock()
	for s.running && len(s.queue) == depth {
		s.moved.Wait()
	}
	if s.running || takePlace() {
		s.queue = append(s.queue, full)
		if !s.running {
			s.running = true
			go s.run()
		}
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	_, _ = s.hash.Write(full[:])
	buffers.Put(full)
}

// run digests what is in the queue, and ends.
func (s *SHA256) run() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > 0 {
		full := s.queue[0]
		s.mu.Unlock()
		_, _ = s.hash.Write(full[:])
		buffers.Put(full)
		s.mu.Lock()
		s.queue = append(s.queue[:0], s.queue[1:]...)
		s.moved.Signal()
	}
	s.running = false
	beside.Add(-1)
	s.moved.Signal()
}

// settle waits until everything that was written is digested.
func (s *SHA256) settle() {
	s.mu.Lock()
	for s.running {
		s.moved.Wait()
	}
	s.mu.Unlock()
	if s.fill != nil {
		_, _ = s.hash.Write(s.fill[:s.filled])
		buffers.Put(s.fill)
		s.fill = nil
	}
}

// Sum appends the digest of what was written so far.
func (s *SHA256) Sum(b []byte) []byte {
	s.settle()
	return s.hash.Sum(b)
}

// State is what [ResumeSHA256] needs to go on: some hundred bytes. It is not secret, and not authenticated either.
func (s *SHA256) State() ([]byte, error) {
	s.settle()
	m, ok := s.hash.(encoding.BinaryMarshaler)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return m.MarshalBinary()
}

// MarshalBinary is State.
func (s *SHA256) MarshalBinary() ([]byte, error) { return s.State() }

// UnmarshalBinary goes on behind what was written when State was asked for, in place of what was written before. After an error nothing
// was written.
func (s *SHA256) UnmarshalBinary(state []byte) error {
	s.Reset()
	u, ok := s.hash.(encoding.BinaryUnmarshaler)
	if !ok {
		return errors.ErrUnsupported
	}
	if err := u.UnmarshalBinary(state); err != nil {
		s.hash.Reset()
		return err
	}
	return nil
}

// Reset begins anew.
func (s *SHA256) Reset() {
	s.settle()
	s.written = 0
	s.hash.Reset()
}

// Size is 32.
func (s *SHA256) Size() int { return sha256.Size }

// BlockSize is that of SHA-256.
func (s *SHA256) BlockSize() int { return sha256.BlockSize }

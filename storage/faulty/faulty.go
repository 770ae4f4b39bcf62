// Package faulty makes sources and destinations fail, for tests of those who use them. Faults are data; which uses they hit depends on the
// seed and the order of the uses only.
package faulty

import (
	"context"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/decorate"
)

// Fault is what goes wrong with a method.
type Fault struct {
	Op  decorate.Op // which
	Err error       // what it returns, or its body does; nil: only Wait goes wrong
	// Body lets not the method fail but the body, that of a source or what a destination is given, once After bytes of it were read.
	Body  bool
	After int64
	// Late lets the method do its work and lose the answer.
	Late bool
	// Wait is how long it takes before that.
	Wait time.Duration

	Skip   int     // uses that go well first
	Times  int     // uses that are hit; 0: all
	Chance float64 // that a use is hit, from 0 to 1; 0: each is
}

// Hit is a use that a fault hit.
type Hit struct {
	Use   int // of all methods, from 1
	Fault int // index
}

// Set is faults that sources and destinations share. It is safe for concurrent use.
type Set struct {
	faults []Fault

	mu     sync.Mutex
	random *rand.Rand
	uses   int
	seen   []int // uses that each fault could have hit
	hits   []Hit
	count  []int // of hits of each fault
}

// New returns a set of faults.
func New(seed uint64, faults ...Fault) *Set {
	return &Set{
		faults: faults, random: rand.New(rand.NewPCG(seed, seed)), //nolint:gosec // a test is to be repeated
		seen: make([]int, len(faults)), count: make([]int, len(faults)),
	}
}

// Source lets a source fail.
func (s *Set) Source(inner storage.Source) storage.Source { return decorate.Source(inner, s.hooks()) }

// Destination lets a destination fail.
func (s *Set) Destination(inner storage.Destination) storage.Destination {
	return decorate.Destination(inner, s.hooks())
}

// Hits returns what was hit so far.
func (s *Set) Hits() []Hit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.hits)
}

func (s *Set) hooks() decorate.Hooks {
	return decorate.Hooks{
		Call: func(ctx context.Context, op decorate.Op, call func() error) error {
			fault, hit := s.next(op, false)
			if !hit {
				return call()
			}
			if err := wait(ctx, op, fault.Wait); err != nil {
				return err
			}
			if fault.Late || fault.Err == nil {
				if err := call(); err != nil || fault.Err == nil {
					return err
				}
			}
			return fault.Err
		},
		Body: func(ctx context.Context, op decorate.Op, inner io.Reader) io.Reader {
			if fault, hit := s.next(op, true); hit {
				return &body{ctx: ctx, op: op, inner: inner, fault: fault}
			}
			return inner
		},
	}
}

// next counts a use and returns the first fault that hits it.
func (s *Set) next(op decorate.Op, body bool) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !body {
		s.uses++
	}
	for i, f := range s.faults {
		if f.Op != op || f.Body != body {
			continue
		}
		s.seen[i]++
		if s.seen[i] <= f.Skip || f.Times > 0 && s.count[i] >= f.Times || f.Chance > 0 && s.random.Float64() >= f.Chance {
			continue
		}
		s.count[i]++
		s.hits = append(s.hits, Hit{Use: s.uses, Fault: i})
		return f, true
	}
	return Fault{}, false
}

// body fails after some bytes.
type body struct {
	ctx   context.Context
	op    decorate.Op
	inner io.Reader
	fault Fault
	read  int64
}

func (b *body) Read(p []byte) (int, error) {
	left := b.fault.After - b.read
	if left > 0 || len(p) == 0 {
		n, err := b.inner.Read(p[:min(int64(len(p)), max(left, 0))])
		b.read += int64(n)
		return n, err
	}
	if err := wait(b.ctx, b.op, b.fault.Wait); err != nil {
		return 0, err
	}
	if b.fault.Err == nil {
		return b.inner.Read(p)
	}
	return 0, b.fault.Err
}

// wait waits as long as the context lets it.
func wait(ctx context.Context, op decorate.Op, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return &storage.Error{
			Class: storage.Interrupted, Code: "interrupted", Op: string(op), Subject: "faulty",
			Message: "it was stopped before its end", Err: context.Cause(ctx),
		}
	}
}

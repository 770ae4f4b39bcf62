package workload

import (
	"math/rand/v2"
	"sync"
)

// Population are the objects that a load reads, writes again and deletes. It has room for a fixed number, so that it does not grow with the operations. An
// object that is being written or deleted is not given to anybody else; one that is being read is neither written nor deleted. Many goroutines may use it.
type Population struct {
	mu    sync.Mutex
	there []*slot // objects that can be read
	free  []*slot // without an object
	next  uint64  // number of the next new object
}

// slot is the place of one object. While the object is written or deleted, it is in neither list.
type slot struct {
	object  Object
	at      int // among those that are there
	readers int
}

// NewPopulation returns an empty population with room for a number of objects, at least for 1.
func NewPopulation(room int) *Population {
	p := &Population{free: make([]*slot, max(room, 1))}
	for i := range p.free {
		p.free[i] = &slot{}
	}
	return p
}

// Len is how many objects there are that can be read.
func (p *Population) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.there)
}

// write returns an object to write: a new one while there is room, else one that is there, again. Without a slot it is one too many that is not read later:
// all others are being read.
func (p *Population) write(r *rand.Rand, size int64) (Object, *slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := len(p.free) - 1; last >= 0 {
		s := p.free[last]
		p.free = p.free[:last]
		return p.fresh(size), s
	}
	if s := p.takeIdle(r); s != nil {
		return Object{Number: s.object.Number, Version: s.object.Version + 1, Size: size}, s
	}
	return p.fresh(size), nil
}

// read returns an object to read; without a slot there is none.
func (p *Population) read(r *rand.Rand) (Object, *slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.there) == 0 {
		return Object{}, nil
	}
	s := p.there[r.IntN(len(p.there))]
	s.readers++
	return s.object, s
}

// readAt returns the object of a slot to read; without a slot it is not there.
func (p *Population) readAt(s *slot) (Object, *slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s == nil || s.at >= len(p.there) || p.there[s.at] != s {
		return Object{}, nil
	}
	s.readers++
	return s.object, s
}

// remove returns an object to delete; without a slot there is none that nobody reads.
func (p *Population) remove(r *rand.Rand) (Object, *slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.takeIdle(r)
	if s == nil {
		return Object{}, nil
	}
	return s.object, s
}

// end takes an operation back. What was not written or deleted for certain is not used again.
func (p *Population) end(op *Op, ok bool) {
	if op.slot == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	writes := op.Kind == Put || op.Kind == Multipart
	switch {
	case writes && ok:
		op.slot.object, op.slot.at = op.Object, len(p.there)
		p.there = append(p.there, op.slot)
	case writes || op.Kind == Delete:
		p.free = append(p.free, op.slot)
	default:
		op.slot.readers--
	}
}

func (p *Population) fresh(size int64) Object {
	p.next++
	return Object{Number: p.next - 1, Size: size}
}

// takeIdle takes an object that nobody reads, if a few tries find one.
func (p *Population) takeIdle(r *rand.Rand) *slot {
	const tries = 8
	for range min(tries, len(p.there)) {
		s := p.there[r.IntN(len(p.there))]
		if s.readers > 0 {
			continue
		}
		last := p.there[len(p.there)-1]
		p.there[s.at], last.at = last, s.at
		p.there = p.there[:len(p.there)-1]
		return s
	}
	return nil
}

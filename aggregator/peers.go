package aggregator

import (
	"hash/fnv"
	"time"
)

// peers are the other aggregators that were heard of lately. They share the batches that nobody feeds: the one whose name and
// the batch's make the highest digest begins. Who is wrong about that does no harm, but may do work in vain.
type peers struct {
	self string
	last map[string]time.Time // by token: when it was heard
}

const (
	// hello is how long a feeder that starts waits for the others to make themselves known.
	hello = 200 * time.Millisecond
	// silence is how long a feeder may be unheard, and a record unchanged, before others feed its batches.
	silence = 3 * time.Second
)

// heard notes a sign of life, and reports whether it was the first.
func (p *peers) heard(id string, ends bool) bool {
	if id == p.self {
		return false
	}
	if ends {
		delete(p.last, id)
		return false
	}
	if p.last == nil {
		p.last = map[string]time.Time{}
	}
	_, known := p.last[id]
	p.last[id] = time.Now()
	return !known
}

func (p *peers) alive(id string) bool {
	at, known := p.last[id]
	return id == p.self || known && time.Since(at) < silence
}

// first reports whether this feeder is the one of those alive that is to feed a batch.
func (p *peers) first(batch string) bool {
	mine := rank(p.self, batch)
	for id := range p.last {
		if p.alive(id) && rank(id, batch) > mine {
			return false
		}
	}
	return true
}

func rank(id, batch string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(batch))
	// The last bytes hardly reach the upper bits of this hash: mix them (the finalizer of splitmix64).
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

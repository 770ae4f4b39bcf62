package producer

import "hash/maphash"

// idSet knows which ids a batch has had, in 8 bytes and a half-filled table: 16 MiB for a million. It keeps a 64-bit hash of each under
// a seed of its own, so that nobody can make two of them meet, and by chance a batch of a million distinct ids is refused once in
// 37 million times, and not when it is sent again.
type idSet struct {
	seed   maphash.Seed
	table  []uint64 // open addressing; 0 is free
	used   int
	budget *share
}

const firstIDs = 512

func newIDSet(budget *share) *idSet { return &idSet{seed: maphash.MakeSeed(), budget: budget} }

// add notes an id. It reports whether it was known before, and whether there was room for it.
func (s *idSet) add(id string) (known, room bool) {
	if 2*s.used >= len(s.table) && !s.grow() {
		return false, false
	}
	known = !s.put(max(maphash.String(s.seed, id), 1))
	return known, true
}

func (s *idSet) put(hash uint64) bool {
	mask := uint64(len(s.table) - 1) //nolint:gosec // a table is never empty here
	for at := hash & mask; ; at = (at + 1) & mask {
		switch s.table[at] {
		case hash:
			return false
		case 0:
			s.table[at] = hash
			s.used++
			return true
		}
	}
}

// grow doubles the table. The old one is garbage from then on, but counts until the end.
func (s *idSet) grow() bool {
	old := s.table
	size := max(2*len(old), firstIDs)
	if !s.budget.take(int64(8 * size)) {
		return false
	}
	s.table, s.used = make([]uint64, size), 0
	for _, hash := range old {
		if hash != 0 {
			s.put(hash)
		}
	}
	return true
}

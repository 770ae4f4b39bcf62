//go:build !linux

package sandbox

// openBeneath is for systems that have openat2(2).
func (s *Store) openBeneath(place, string) (directory, bool) { return directory{}, false }

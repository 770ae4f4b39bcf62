//go:build !linux

package sandbox

// openBeneath is for systems that have openat2(2).
func (s *Store) openBeneath(place, string) (directory, bool) { return directory{}, false }

// within is for systems that tell mounts of one file system apart; here the device is looked at.
func (d directory) within(name string) (directory, error) { return d.open(name) }

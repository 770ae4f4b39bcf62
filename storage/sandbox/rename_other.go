//go:build !linux

package sandbox

// renameNew is a rename that replaces nothing: it fails with EEXIST where something is.
func (d directory) renameNew(from, to string) error { return d.linkNew(from, to) }

package loadtest

import "strconv"

// Place says which part of a run a load generator has.
type Place struct {
	Run        string `json:"run"`        // names the run: the same for all its generators
	Generator  int    `json:"generator"`  // from 0
	Generators int    `json:"generators"` // of the run; at least 1
}

// Prefix is where the keys of the generator's objects begin, below the prefix of all runs. It ends with a slash.
func (p Place) Prefix(all string) string { return p.RunPrefix(all) + strconv.Itoa(p.Generator) + "/" }

// RunPrefix is where the keys of all generators of the run begin. It ends with a slash.
func (p Place) RunPrefix(all string) string { return all + "/" + p.Run + "/" }

// Share is the generator's share of a whole number: all shares add up to it.
func (p Place) Share(whole uint64) uint64 {
	n, i := uint64(max(p.Generators, 1)), uint64(max(p.Generator, 0))
	share := whole / n
	if i < whole%n {
		share++
	}
	return share
}

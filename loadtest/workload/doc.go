// Package workload says what a load test does: which operations, in what order, on which objects, of what size and when.
//
// Everything follows from a seed, so that a run can be repeated: operation n of a generator has the same kind, size and content in each run. Only what
// depends on how fast the store answers differs, as which objects a mixed load finds there.
package workload

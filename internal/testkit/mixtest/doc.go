// Package mixtest makes batches of every kind of copy, and checks afterwards what became of them against the one
// invariant of the fleet: each accepted item has exactly one outcome, the counts are those of the receipts, the bytes at a
// destination are the ones that its receipt tells, and no half-done file is seen at any time or left behind.
//
// It speaks to a fleet over its public API only and looks at destinations itself: at files on disk, at objects
// through presigned URLs, at uploads in the server that took them. Which processes the fleet consists of and what
// happens to them is the business of the test.
package mixtest

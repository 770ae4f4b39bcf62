// Package loadtest makes operations on a store or a fleet, many at once, and records how long each took.
//
// In a closed loop a place begins its next operation when the last one has ended. In an open loop operations are due at times of their own: one that is due
// while all places are taken waits, and its wait counts, so that a store that stalls cannot hide it.
package loadtest

// Package lifecycle owns what outlives a process on a machine: the data directory, which one process at a time may use,
// and the secrets kept in it, which only its owner can read.
package lifecycle

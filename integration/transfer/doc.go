// Package transfer holds the tests of single copies that take long, under faults: workers that die or freeze in the middle, sources that
// change, stores that restart, connections that break, disks that are full. Whatever happens in between, the destination holds
// the bytes that the receipt tells, or nothing; what was moved once is not moved again where it need not be; and nothing
// half-done is left behind.
package transfer

// Package loadtest shows that a load test tells the truth about a fleet of real processes: what it copies, what it refuses, what becomes of a run whose fleet
// dies meanwhile, and that nothing is written once a run is over.
package loadtest

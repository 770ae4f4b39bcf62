// Package happy shows that what callers are promised works, through real processes: every pair of locations, the published
// copy call to the letter, batches and receipts, presigning, grants, and the ways to start and stop a fleet.
package happy

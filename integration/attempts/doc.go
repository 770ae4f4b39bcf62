// Package attempts shows what a worker does with an item, with the real broker and aggregator around it in one process, and sources
// and destinations in memory that fail, block and panic as a test wants.
package attempts

// Package uploads has the resumable upload sessions of sandboxes: what a client with a poor connection sends in parts, in any order, over several
// connections and restarts, and what ends in its place whole or not at all.
package uploads

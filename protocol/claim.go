package protocol

import "time"

// Claim is a worker's word that it holds these items now, stored durably before their work starts: one record a
// worker, rewritten at every fetch. After a crash it tells how often an item was tried, whatever the
// queue remembers, and who else may still hold it.
type Claim struct {
	Version int         `json:"v"`
	Worker  string      `json:"worker"`
	Written time.Time   `json:"written"`
	Held    []HeldClaim `json:"held"`
}

// HeldClaim is one item in a [Claim].
type HeldClaim struct {
	Ref   Ref    `json:"r"`
	Fetch uint64 `json:"f"` // the worker's fetch that brought it; with Worker it names the hidden destination
	// Crashes is how many claims on the item ended without a word before this one.
	Crashes int `json:"c,omitempty"`
}

// ClaimVersion is the version of [Claim] that this build writes.
const ClaimVersion = 1

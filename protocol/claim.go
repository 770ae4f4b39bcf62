package protocol

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"
)

// Claim is a worker's word that it holds these items now, stored durably before their work starts: one record a
// worker, rewritten at every fetch. After a crash it tells how often an item was tried, whatever the
// queue remembers, and who else may still hold it.
type Claim struct {
	Version int         `json:"v"`
	Worker  string      `json:"worker"`
	Written time.Time   `json:"written"`
	Pool    string      `json:"pool,omitempty"`
	Slots   int         `json:"slots,omitempty"`
	Held    []HeldClaim `json:"held"`
}

// HeldClaim is one item in a [Claim].
type HeldClaim struct {
	Ref Ref `json:"r"`
	// Fence orders the claims on an item: a later claim has a higher one.
	Fence uint64 `json:"f"`
	// Crashes is how many claims on the item ended without a word before this one.
	Crashes int `json:"c,omitempty"`
	// Waiting says that the item's work has not begun: it waits to run alone. A claim that ends so is no crash of the item.
	Waiting bool `json:"w,omitempty"`
}

// ClaimVersion is the version of [Claim] that this build writes.
const ClaimVersion = 2

// Charge is how many crashes the item has to answer for if this claim ended without a word.
func (h HeldClaim) Charge() int {
	if h.Waiting {
		return h.Crashes
	}
	return h.Crashes + 1
}

// TempToken names the hidden destination of one worker's claim on an item. No two claims share it, and whoever
// reads the claim knows it: the next owner removes what a dead one left.
func TempToken(worker string, held HeldClaim) string {
	sum := sha256.Sum256([]byte(worker + "\x00" + string(held.Ref.Org) + "\x00" + string(held.Ref.Batch) + "\x00" +
		strconv.Itoa(held.Ref.Index) + "\x00" + strconv.FormatUint(held.Fence, 10)))
	return hex.EncodeToString(sum[:12])
}

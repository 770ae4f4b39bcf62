package protocol

import "time"

// Large items are moved in parts. Who holds the item writes a [PartPlan], copies its parts one after the other, and, if that is slow,
// publishes the rest as work of their own ([KindPart]) for any worker of the pool. Each part that is stored at the
// destination is told as a [PartReport]; the aggregator keeps them in [PartPage]s. After a death the next owner of the
// item continues with the parts that are missing.

// PartPlan is how an item is moved in parts. The owner of the item writes it, with the revision that it read.
type PartPlan struct {
	Version int `json:"v"`
	// Epoch grows with each owner, and each new beginning. Works of another epoch are dropped.
	Epoch int    `json:"epoch"`
	Fence uint64 `json:"fence"` // of the owner's claim on the item
	// Had is how many parts were stored when that owner took over. One that died when they were more was not killed by the item.
	Had int `json:"had,omitempty"`

	// The state of the source that is copied: that of storage.Mark.
	ETag        string    `json:"etag,omitempty"`
	Modified    time.Time `json:"modified,omitzero"`
	Size        int64     `json:"size"`
	ContentType string    `json:"content_type,omitempty"`

	PartSize int64 `json:"part_size"` // bytes of every part but the last
	Count    int   `json:"count"`     // parts
	// Upload is what the destination calls what parts are written to: a hidden file, a multipart upload. It names no credential.
	// States of parts of another upload do not count. "": it is being begun, at Created or a moment later, and the destination finds the name.
	Upload string `json:"upload"`
	// Spread says that parts were published as work of their own.
	Spread bool `json:"spread,omitempty"`
	// Settled says that all works of the parts that were published have ended in order, and none begins before the next owner.
	Settled bool `json:"settled,omitempty"`
	// Stale says that a writer of an earlier epoch may be at the upload still: its owner died, or parts were spread under it and not settled.
	Stale bool `json:"stale,omitempty"`
	// Completing says that the owner began to make the destination visible.
	Completing bool `json:"completing,omitempty"`
	// RestartReason says why an earlier beginning was given up.
	RestartReason string    `json:"restart_reason,omitempty"`
	Created       time.Time `json:"created"`
}

// PartState is what is known of a part that was tried.
type PartState struct {
	Number   int    `json:"n"`
	Size     int64  `json:"size"`
	Upload   string `json:"upload"`
	ETag     string `json:"etag,omitempty"`
	Checksum string `json:"checksum,omitempty"`
	// Chain is the state of the SHA-256 of all bytes up to the end of this part, where it was copied in order behind the one before. A
	// page keeps that of the last part of each stretch of stored ones.
	Chain  []byte `json:"chain,omitempty"`
	Worker string `json:"worker"`
	// Twice says that the part may have had two writers: it was delivered more than once.
	Twice bool `json:"twice,omitempty"`
	// Failure says why the part could not be had; nil: it is stored. A part that was stored once stays so.
	Failure *Failure `json:"failure,omitempty"`
	// Epoch is that of the plan under which it failed: a later owner does not give up for it. 0: it is stored.
	Epoch int `json:"epoch,omitempty"`
}

// PartReport is the news of a part on its way to the aggregator.
type PartReport struct {
	Ref   Ref       `json:"ref"`
	Epoch int       `json:"epoch"`
	State PartState `json:"state"`
}

// PartPage holds the states of the parts of an item, from 1 + PageSize*page on, in order. All are of one upload: those of a new one
// replace them.
type PartPage struct {
	Version int         `json:"v"`
	Upload  string      `json:"upload"`
	Parts   []PartState `json:"parts"`
}

// PartVersion is the version of [PartPlan] and [PartPage] that this build writes.
const PartVersion = 1

// PartPageOf is the number of the page that holds a part.
func PartPageOf(number int) int { return (number - 1) / PageSize }

// ConflictPolicy is what to do about a destination that exists.
type ConflictPolicy string

// The policies.
const (
	Overwrite   ConflictPolicy = "overwrite"
	SkipIfThere ConflictPolicy = "skip"
	FailIfThere ConflictPolicy = "fail"
	IfDifferent ConflictPolicy = "if_different" // overwrite, unless size and digest are those of the source
	// MergeTree is of a [SandboxTree] only: what is there stays, but for files that the archive has, too. [Overwrite] replaces the directory.
	MergeTree ConflictPolicy = "merge"
)

// Digest is what is computed of the bytes that are copied, and shown in the receipt.
type Digest string

// The digests.
const (
	DigestSHA256 Digest = "sha256"
	DigestNone   Digest = "none"
)

// Why a copy could not be continued where an earlier attempt had left it.
const (
	RestartSourceChanged = "source_changed"     // the source is another one than it was
	RestartUploadGone    = "upload_gone"        // what had been written is not there any more
	RestartNotPossible   = "not_resumable"      // a PUT or POST target takes content from its first byte only
	RestartNoRanges      = "source_no_ranges"   // the source gives itself only as a whole, or does not say what state it is in
	RestartMismatch      = "checksum_mismatch"  // it is not what the source, or the store, says it is
	RestartPlanChanged   = "plan_not_supported" // what was begun is of a form that this build does not know
)

// How bytes came to a destination.
const (
	MethodStream     = "stream"      // in one go
	MethodParts      = "parts"       // in parts, by one worker or several
	MethodServerCopy = "server_copy" // by the object store itself
)

// Why an item was skipped.
const (
	SkipExists = "exists"
	SkipSame   = "same"
)

package protocol

import "time"

// PlanPage bounds the items of one [PlanQuestion]: an answer stays far below the message limit of a broker.
const PlanPage = 32

// PlanVersion is the version of [PlanQuestion] and [PlanAnswer] that this build writes.
const PlanVersion = 1

// PlanQuestion asks one worker of a pool what it would do with some items, without doing it. It travels over core NATS.
type PlanQuestion struct {
	Version int     `json:"v"`
	Org     OrgID   `json:"org"`
	Batch   BatchID `json:"batch"` // made up for this question, so that what is sealed works nowhere else
	Sealed  []byte  `json:"sealed"`
	// Within is how long the answer is waited for, in nanoseconds. What was not looked at by then is answered as unknown.
	Within time.Duration `json:"within"`
}

// PlanAnswer has what was found out, in the order of the items, or says why nothing was. It holds no location.
type PlanAnswer struct {
	Version int           `json:"v"`
	Items   []PlannedItem `json:"items"`
	Failure *Failure      `json:"failure,omitempty"`
}

// PlanAction is what would become of an item.
type PlanAction string

// The actions.
const (
	PlanCopy      PlanAction = "copy"
	PlanOverwrite PlanAction = "overwrite" // a copy that replaces what is at the destination
	PlanFail      PlanAction = "fail"
	PlanSkip      PlanAction = "skip" // what is at the destination stays, and counts as done
	// PlanIfDifferent: there is something of the same size at the destination; whether it is the same shows when it is read.
	PlanIfDifferent PlanAction = "if_different"
	PlanUnknown     PlanAction = "unknown" // there was no time to look
)

// PlannedItem is what would become of an item, as far as that can be told without reading or writing it.
type PlannedItem struct {
	Src      PlannedSource `json:"src"`
	Dest     PlannedDest   `json:"dest"`
	Action   PlanAction    `json:"action"`
	Problems []PlanProblem `json:"problems"`
}

// PlannedSource is what a source told of itself.
type PlannedSource struct {
	Size        *int64    `json:"size,omitempty"` // bytes; nil: not told
	Status      int       `json:"http_status,omitempty"`
	ContentType string    `json:"content_type,omitempty"`
	ETag        string    `json:"etag,omitempty"`
	StrongETag  bool      `json:"strong_etag"`
	Modified    time.Time `json:"modified,omitzero"`
	Ranges      bool      `json:"ranges"`              // a part can be asked for, so that a broken transfer can go on
	ExpiresAt   time.Time `json:"expires_at,omitzero"` // of a presigned URL
}

// PlannedDest is what is known of a destination.
type PlannedDest struct {
	Checked   bool      `json:"checked"`              // false: what is there cannot be known without writing
	Exists    *bool     `json:"exists,omitempty"`     // nil: not known
	Size      *int64    `json:"size,omitempty"`       // of what is there, in bytes
	Makes     string    `json:"makes,omitempty"`      // what would be made first: sandbox, directory, bucket
	FreeBytes *int64    `json:"free_bytes,omitempty"` // nil: not known
	ExpiresAt time.Time `json:"expires_at,omitzero"`  // of a presigned URL
	MaxBytes  *int64    `json:"max_bytes,omitempty"`  // that it takes; nil: no limit is known
}

// PlanSeverity says what a problem means for its item.
type PlanSeverity string

// The severities. Only an error makes an item fail.
const (
	PlanError   PlanSeverity = "error"
	PlanWarning PlanSeverity = "warning"
	PlanNote    PlanSeverity = "note"
)

// PlanProblem is something that would go wrong, with the class and code that the failure would have, or that the caller should know.
type PlanProblem struct {
	Severity PlanSeverity `json:"severity"`
	Side     string       `json:"side,omitempty"` // src or dest; "": neither
	Failure
}

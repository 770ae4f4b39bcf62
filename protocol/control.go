package protocol

import "time"

// Wanted is what the caller wants of a batch.
type Wanted string

// What may be wanted. Stop is final.
const (
	WantRun   Wanted = "run"
	WantPause Wanted = "pause"
	WantStop  Wanted = "stop"
)

// Reasons of a [Control], in the order of who gives them: the caller, the canary option, the max_failed option.
const (
	ReasonCaller    = "asked_for"
	ReasonCanary    = "canary"
	ReasonMaxFailed = "max_failed"
)

// Control is what is wanted of a batch beside that it runs. Only a batch that somebody acted upon has one. Fronts write it, and the
// aggregator where an option says so; workers and the aggregator watch it.
type Control struct {
	Version int       `json:"v"`
	Org     OrgID     `json:"org"`
	Batch   BatchID   `json:"batch"`
	Wanted  Wanted    `json:"wanted"`
	Reason  string    `json:"reason,omitempty"`
	At      time.Time `json:"at"`
	// Resumes counts how often the batch was resumed. Each time, what had been in the queue and has not ended is fed again.
	Resumes int `json:"resumes,omitempty"`
	// CanaryDone says that the canary has been passed: a resume lets everything run.
	CanaryDone bool `json:"canary_done,omitempty"`
}

// ControlVersion is the version of [Control] that this build writes.
const ControlVersion = 1

// Feed is how far the items of a batch have come from the manifest into the queue. It exists from before the acceptance of
// a fed batch is complete until the batch has ended and nothing more is to be done for it; one that was acted upon gets one, too.
// The aggregator that feeds a batch writes it, under its expected revision.
type Feed struct {
	Version int       `json:"v"`
	Org     OrgID     `json:"org"`
	Batch   BatchID   `json:"batch"`
	Next    int       `json:"next"`           // index of the first item that was never fed
	Redo    int       `json:"redo,omitempty"` // of those before: the first that is yet to be looked at in this pass
	RedoEnd int       `json:"redo_end,omitempty"`
	Pass    int       `json:"pass,omitempty"`    // passes over what was fed before that were begun
	Resumes int       `json:"resumes,omitempty"` // [Control.Resumes] that was carried out last
	Owner   string    `json:"owner,omitempty"`   // who wrote it
	At      time.Time `json:"at"`
	Created time.Time `json:"created"`
}

// FeedVersion is the version of [Feed] that this build writes.
const FeedVersion = 1

// Progress is how far a running item is. It travels over core NATS and is kept nowhere.
type Progress struct {
	Index  int       `json:"index"`
	ID     string    `json:"id,omitempty"`
	Worker string    `json:"worker"`
	Bytes  int64     `json:"bytes"`
	Size   *int64    `json:"size,omitempty"` // nil: the source does not tell
	Start  time.Time `json:"start"`
	// Begun names the copy of which these are the bytes: one that is continued, by another attempt or another worker, keeps it.
	Begun time.Time `json:"begun,omitzero"`
	// Part is a part of the item, of which these are the bytes: its owner is told so, nobody else. 0: it is the item.
	Part int `json:"part,omitempty"`
}

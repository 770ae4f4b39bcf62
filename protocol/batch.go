package protocol

import (
	"slices"
	"time"
)

// BatchState is the state of a batch.
type BatchState string

// The batch states. The last four are final.
const (
	BatchAccepting           BatchState = "accepting"
	BatchQueued              BatchState = "queued"
	BatchRunning             BatchState = "running"
	BatchPaused              BatchState = "paused"
	BatchCanceling           BatchState = "canceling"
	BatchSucceeded           BatchState = "succeeded"
	BatchCompletedWithErrors BatchState = "completed_with_errors"
	BatchFailed              BatchState = "failed"
	BatchCanceled            BatchState = "canceled"
)

// Final reports whether a batch in this state never changes again.
func (s BatchState) Final() bool {
	return s == BatchSucceeded || s == BatchCompletedWithErrors || s == BatchFailed || s == BatchCanceled
}

// Acceptance is the accept record: written before the first item is published, so that a crash in
// between is noticed. Only the API front writes it; the sweep may abandon it.
type Acceptance struct {
	Version int      `json:"v"`
	Batch   BatchID  `json:"batch"`
	Org     OrgID    `json:"org"`
	Lane    Lane     `json:"lane"`
	Pool    string   `json:"pool"`
	Total   int      `json:"total"`          // 0 until the manifest of a fed batch is whole
	Chunks  int      `json:"chunks"`         // 1: the front publishes the items; 0: they are fed from the manifest
	Request string   `json:"request_sha256"` // digest of the request, to tell a retry from another use of the key
	Keyed   bool     `json:"keyed"`          // the id stands for an idempotency key
	State   Accepted `json:"state"`
	// Generation counts tries: each writes a manifest, or publishes its chunk, under names of its own.
	Generation int       `json:"generation,omitempty"`
	Created    time.Time `json:"created"`
	IDs        []string  `json:"ids,omitempty"` // the callers' ids in order, of a batch that fits one page and has any

	// Manifest is the sealed page ([Sealer.SealPage]) of a batch of at most [PageSize] items. Larger ones have theirs in
	// the manifest bucket ([ManifestKey]).
	Manifest []byte `json:"manifest,omitempty"`

	Label   string  `json:"label,omitempty"` // the caller's words
	Trace   string  `json:"trace,omitempty"` // W3C traceparent of the call
	Options Options `json:"options,omitzero"`
	// RerunOf is the batch whose failed items these are; "" if they are not, or are those of several.
	RerunOf BatchID `json:"rerun_of,omitempty"`
	// Upload is the upload session that this batch publishes; "": it is no such batch. Its items are not run again: the session is completed
	// again.
	Upload UploadID `json:"upload,omitempty"`
	// Rule is the rule whose events asked for this batch, and RuleVersion its version; "": nobody but a caller did.
	Rule        string `json:"rule,omitempty"`
	RuleVersion int    `json:"rule_version,omitempty"`
}

// Options say how a batch is to be run. The zero value leaves everything to the defaults.
type Options struct {
	Attempts  int       `json:"attempts,omitempty"`  // most attempts of an item; 0: [DefaultMaxAttempts]
	Canary    int       `json:"canary,omitempty"`    // items that run before the batch pauses by itself; 0: none
	Rate      float64   `json:"rate,omitempty"`      // items started a second; 0: unlimited
	MaxFailed Threshold `json:"max_failed,omitzero"` // failed items beyond which the rest is not started
	Webhook   *Webhook  `json:"webhook,omitempty"`   // who is told of the end; nil: nobody
}

// Threshold is a number of failed items, or a share of all items. The zero value is none; a count of 0 that was asked for
// has Given set.
type Threshold struct {
	Given bool    `json:"given,omitempty"`
	Count int     `json:"count,omitempty"`
	Share float64 `json:"share,omitempty"` // above 0, at most 1; 0: Count counts
}

// Exceeded reports whether a batch of total items has more failed ones than the threshold.
func (t Threshold) Exceeded(failed, total int) bool {
	if !t.Given {
		return false
	}
	if t.Share > 0 {
		const rounding = 1e-9 // 0.29 of 100 is 28.999999999999996, and 29 are not more
		return float64(failed) > t.Share*float64(total)*(1+rounding)
	}
	return failed > t.Count
}

// Webhook is who is told of the end of a batch. Sealed is a [Sealer.SealText] of a [WebhookTarget] in JSON: a URL is a credential.
type Webhook struct {
	Sealed []byte `json:"sealed"`
	Shown  string `json:"shown"` // the URL without query and userinfo
}

// WebhookTarget is the secret part of a [Webhook].
type WebhookTarget struct {
	URL    string `json:"url"`
	Secret string `json:"secret,omitempty"` // signs the notice; "": it is not signed
}

// Fed reports whether the items come into the queue from the manifest, little by little, and not with the call.
func (a *Acceptance) Fed() bool { return a.Chunks == 0 }

// Subject is where the items of the batch are published.
func (a *Acceptance) Subject() string {
	return WorkSubject(a.Lane, a.Pool, ShardOf(a.Org), a.Org, a.Batch)
}

// Guard is the subject whose first message lets a chunk in, once. The only item of a batch is its own guard: nothing
// else is ever on its subject, and a message is cheaper than an atomic batch of two.
func (a *Acceptance) Guard(chunk int) string {
	if a.Total == 1 {
		return a.Subject()
	}
	return GuardSubject(a.Lane, a.Org, a.Batch, a.Generation, chunk)
}

// AcceptanceVersion is the version of [Acceptance] that this build writes.
const AcceptanceVersion = 2

// Accepted is how far an acceptance came.
type Accepted string

// The states of an acceptance: that of a fed batch is pending until its manifest is whole, then complete. One that the front publishes
// stays pending, since its atomic chunk says it all. Abandoned is what the sweep makes of one whose front died in
// between, or whose manifest was refused: its items never run.
const (
	AcceptPending   Accepted = "pending"
	AcceptComplete  Accepted = "complete"
	AcceptAbandoned Accepted = "abandoned"
)

// Tally counts the receipts of a page or a batch. It is always computed from receipts, never incremented apart
// from them.
type Tally struct {
	Succeeded int   `json:"succeeded"`
	Failed    int   `json:"failed"`
	Canceled  int   `json:"canceled"`
	Skipped   int   `json:"skipped"`
	Retrying  int   `json:"retrying"`
	Bytes     int64 `json:"bytes"`
}

// Count adds one receipt.
func (t *Tally) Count(r *Receipt) {
	switch r.State {
	case ItemSucceeded:
		t.Succeeded++
	case ItemFailed:
		t.Failed++
	case ItemCanceled:
		t.Canceled++
	case ItemSkipped:
		t.Skipped++
	case ItemRetrying:
		t.Retrying++
	case ItemQueued, ItemRunning:
		// not ended, so not counted
	}
	t.Bytes += r.Bytes
}

// Replace takes the tally of an old page out and puts that of the new one in.
func (t *Tally) Replace(before, after Tally) {
	t.Succeeded += after.Succeeded - before.Succeeded
	t.Failed += after.Failed - before.Failed
	t.Canceled += after.Canceled - before.Canceled
	t.Skipped += after.Skipped - before.Skipped
	t.Retrying += after.Retrying - before.Retrying
	t.Bytes += after.Bytes - before.Bytes
}

// Ended is the number of items that have their outcome.
func (t Tally) Ended() int { return t.Succeeded + t.Failed + t.Canceled + t.Skipped }

// State derives the state of a batch of total items. A batch none of whose items succeeded is never "succeeded".
func (t Tally) State(total int) BatchState {
	switch {
	case t.Ended() < total && t.Ended()+t.Retrying == 0:
		return BatchQueued
	case t.Ended() < total:
		return BatchRunning
	case t.Succeeded+t.Skipped == total && total > 0:
		return BatchSucceeded
	case t.Canceled > 0:
		return BatchCanceled
	case t.Succeeded+t.Skipped > 0:
		return BatchCompletedWithErrors
	default:
		return BatchFailed
	}
}

// Summary is the state of a batch in KV, committed together with the pages it was derived from. A batch
// of at most [PageSize] items keeps its only page inline.
type Summary struct {
	Version  int        `json:"v"`
	Batch    BatchID    `json:"batch"`
	Org      OrgID      `json:"org"`
	Lane     Lane       `json:"lane"`
	Total    int        `json:"total"`
	State    BatchState `json:"state"`
	Tally    Tally      `json:"tally"`
	Started  time.Time  `json:"started,omitzero"`   // start of the first attempt reported
	Ended    time.Time  `json:"ended,omitzero"`     // end of the last attempt, once all have ended
	Receipts []Receipt  `json:"receipts,omitempty"` // the inline page

	// Rest is the state of every item without a final receipt, once the batch was stopped: one word in place of a million
	// receipts. "": they are still to come.
	Rest ItemState `json:"rest,omitempty"`
	// Unsure are the indexes, in order, of those among the rest that a worker held when it died: whether their bytes had become visible by
	// then nobody can tell. At most the slots of the workers that died.
	Unsure []int `json:"unsure,omitempty"`
	// Reason says why the batch was stopped.
	Reason string `json:"reason,omitempty"`
	// Groups are the failures by class, code and host, the largest first, at most [MaxGroups]; GroupsLeft is how many failed
	// items are in none of them.
	Groups     []ErrorGroup `json:"groups,omitempty"`
	GroupsLeft int          `json:"groups_left,omitempty"`
	Pace       Pace         `json:"pace,omitzero"`
	// Webhook is the receipt of the notice of the end: its attempts are the delivery log. Nil: none was asked for, or tried yet.
	Webhook *Receipt `json:"webhook,omitempty"`
}

// ErrorGroup is how many items failed in the same way.
type ErrorGroup struct {
	Class   Class  `json:"class"`
	Code    string `json:"code"`
	Host    string `json:"host,omitempty"`
	Count   int    `json:"count"`
	Example int    `json:"example"` // index of one of them
	Message string `json:"message"` // of the example
}

// MaxGroups bounds the error groups of a batch.
const MaxGroups = 50

// Pace is how fast a batch ran of late, in the seconds before At.
type Pace struct {
	At    time.Time `json:"at"`
	Items float64   `json:"items"` // that ended, a second
	Bytes float64   `json:"bytes"` // of them, a second
}

// SummaryVersion is the version of [Summary] and [Page] that this build writes.
const SummaryVersion = 2

// Settle returns what an item's receipt says once the batch was stopped: an item that has not ended ends as the rest does.
func (s *Summary) Settle(r Receipt) Receipt {
	if s.Rest == "" || r.State.Final() {
		return r
	}
	r.State, r.RetryAt, r.Failure = s.Rest, time.Time{}, nil
	if s.IsUnsure(r.Index) {
		r.Failure = &Failure{
			Class: Lost, Code: "outcome_unknown", Message: "A worker died while it ran this item, and the batch was stopped before another one could",
			Hint: "The destination may hold the item's bytes, whole, or what was there before: look at it, or run the item again.",
		}
	}
	return r
}

// IsUnsure reports whether an item of a stopped batch may have become visible although it has no outcome.
func (s *Summary) IsUnsure(index int) bool {
	_, found := slices.BinarySearch(s.Unsure, index)
	return found
}

// Page holds the receipts of the items from First on, at most [PageSize], in index order; an item without
// news has no receipt in it.
type Page struct {
	Version  int       `json:"v"`
	First    int       `json:"first"`
	Receipts []Receipt `json:"receipts"`
}

// PageOf returns the number of the page that an item belongs to.
func PageOf(index int) int { return index / PageSize }

// Pages returns the number of pages of a batch of total items.
func Pages(total int) int { return (total + PageSize - 1) / PageSize }

// Inline reports whether the only page of a batch stands in its summary.
func Inline(total int) bool { return total <= PageSize }

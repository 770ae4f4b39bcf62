package protocol

import "time"

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
	Total   int      `json:"total"`
	Chunks  int      `json:"chunks"`         // atomic batches that carry the items
	Request string   `json:"request_sha256"` // digest of the request, to tell a retry from another use of the key
	Keyed   bool     `json:"keyed"`          // the id stands for an idempotency key
	State   Accepted `json:"state"`
	// Generation counts revivals: an abandoned acceptance that is asked for again publishes all its chunks anew.
	Generation int       `json:"generation,omitempty"`
	Created    time.Time `json:"created"`
	IDs        []string  `json:"ids,omitempty"` // the callers' ids in order, of a batch that fits one page and has any
}

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
const AcceptanceVersion = 1

// Accepted is how far an acceptance came.
type Accepted string

// The states of an acceptance: pending until every chunk is in the queue, then complete. One of a single chunk
// stays pending, since its atomic batch says it all. Abandoned is what the sweep makes of one whose front died in between:
// its items never run.
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
}

// SummaryVersion is the version of [Summary] and [Page] that this build writes.
const SummaryVersion = 1

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

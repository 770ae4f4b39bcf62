package protocol

import "time"

// PageSize is the number of receipts in a page. A page stays below 128 KiB with it.
const PageSize = 256

// Lane separates small synchronous calls from volume: each lane is a stream of its own.
type Lane string

// The lanes.
const (
	Interactive Lane = "interactive"
	Bulk        Lane = "bulk"
)

// Lanes lists all lanes, the one that goes first first.
var Lanes = []Lane{Interactive, Bulk}

// Item is one copy as the caller asked for it, and its place.
type Item struct {
	Index  int    // position in the batch, from 0
	ID     string // the caller's id; "" if none was given
	Src    Location
	Dest   Location
	Expect Expect
	// Conflict is what to do about something that is there already; "": [Overwrite].
	Conflict ConflictPolicy
	// Digest is what is computed of the bytes; "": [DigestSHA256].
	Digest Digest
}

// Asked returns the item as it stands in a manifest.
func (i *Item) Asked() ManifestItem {
	return ManifestItem{ID: i.ID, Src: i.Src, Dest: i.Dest, Expect: i.Expect, Conflict: i.Conflict, Digest: i.Digest}
}

// Kind is what a worker is asked to do.
type Kind string

// The kinds of work.
const (
	KindCopy    Kind = ""
	KindWebhook Kind = "webhook" // tell who asked for it that a batch has ended
	KindPart    Kind = "part"    // one part of an item that is moved in parts
	KindWaiting Kind = "waiting" // works of a batch that wait together for a host
)

// WebhookIndex is the index under which the notice of a batch's end is worked on and reported.
const WebhookIndex = -1

// Work is the message that carries one item to a worker. What is to be copied is Sealed, or stands in the manifest.
type Work struct {
	Version int     `json:"v"`
	Org     OrgID   `json:"org"`
	Batch   BatchID `json:"batch"`
	Index   int     `json:"index"`
	Total   int     `json:"total"` // items in the batch
	Chunks  int     `json:"chunks,omitempty"`
	Kind    Kind    `json:"kind,omitempty"`
	ID      string  `json:"id,omitempty"`    // the caller's id, where Sealed is given
	Lane    Lane    `json:"lane"`            // where it came in
	Pool    string  `json:"pool"`            // which workers may run it
	Shard   int     `json:"shard"`           // which consumer of the pool
	Trace   string  `json:"trace,omitempty"` // W3C traceparent of the call that asked for it
	// Sealed is a [Sealer.SealItem]; empty: the item stands in the manifest of that generation. Generation 0 is the manifest in
	// the accept record.
	Sealed     []byte `json:"sealed,omitempty"`
	Generation int    `json:"generation,omitempty"`
	// Recheck says that the item may have been published before: its receipt and the claims on it are to be looked up.
	Recheck bool `json:"recheck,omitempty"`

	// Fence is above that of every claim that ended in a planned retry of this item; 0 before the first retry.
	Fence uint64 `json:"fence,omitempty"`
	// MaxAttempts bounds the attempts; 0 means [DefaultMaxAttempts].
	MaxAttempts int `json:"max_attempts,omitempty"`
	// Attempts are those that ended, oldest first; a retried item carries them along.
	Attempts []Attempt `json:"attempts,omitempty"`

	// Part is the number of the part, from 1, of a [KindPart], and Epoch that of the [PartPlan] it belongs to. A part of
	// an earlier epoch is not wanted any more.
	Part  int `json:"part,omitempty"`
	Epoch int `json:"epoch,omitempty"`
	// Sweep says that the item has ended, and is not to be run: only what is left of its parts is to be removed.
	Sweep bool `json:"sweep,omitempty"`

	// Since is since when the item has waited for hosts that rest, without an attempt; zero: it has not.
	Since time.Time `json:"since,omitzero"`
	// Waiting are the works of a [KindWaiting], and Host what they wait for. What they have in common is said once, outside.
	Waiting []WaitingWork `json:"waiting,omitempty"`
	Host    *WaitingHost  `json:"host,omitempty"`
}

// WorkVersion is the version of [Work] that this build writes.
const WorkVersion = 2

// DefaultMaxAttempts bounds the attempts of an item that gives no number of its own.
const DefaultMaxAttempts = 4

// Ref names one item of one batch; it is how claims, fences and receipts speak of it.
type Ref struct {
	Org   OrgID   `json:"o"`
	Batch BatchID `json:"b"`
	Index int     `json:"i"`
	Part  int     `json:"p,omitempty"` // of the item, from 1; 0: the item itself
}

// Ref returns the item's name.
func (w *Work) Ref() Ref { return Ref{Org: w.Org, Batch: w.Batch, Index: w.Index, Part: w.Part} }

// Attempt is one try at an item, as the receipt shows it.
type Attempt struct {
	Number int       `json:"number"` // from 1
	Worker string    `json:"worker"`
	Start  time.Time `json:"start"`
	End    time.Time `json:"end"`
	Bytes  int64     `json:"bytes"` // bytes read from the source
	// Resumes is how often the connection to the source broke and the attempt went on where it had been.
	Resumes int      `json:"resumes,omitempty"`
	Failure *Failure `json:"failure,omitempty"`
}

// ItemState is the state of an item.
type ItemState string

// The item states. The last four are final.
const (
	ItemQueued    ItemState = "queued"
	ItemRunning   ItemState = "running"
	ItemRetrying  ItemState = "retrying"
	ItemSucceeded ItemState = "succeeded"
	ItemFailed    ItemState = "failed"
	ItemCanceled  ItemState = "canceled"
	ItemSkipped   ItemState = "skipped"
)

// Final reports whether an item in this state never changes again.
func (s ItemState) Final() bool {
	return s == ItemSucceeded || s == ItemFailed || s == ItemCanceled || s == ItemSkipped
}

// Receipt is what is known about one item. Once its state is final it never changes.
type Receipt struct {
	Index    int       `json:"index"`
	ID       string    `json:"id,omitempty"`
	State    ItemState `json:"state"`
	Bytes    int64     `json:"bytes"`            // bytes at the destination; of an unpacked archive those of the archive; 0 unless succeeded
	SHA256   string    `json:"sha256,omitempty"` // lowercase hex, of the bytes at the destination
	ETag     string    `json:"etag,omitempty"`   // as the destination told it
	Verified bool      `json:"verified"`         // compared with something independent of the bytes we hold
	Failure  *Failure  `json:"failure,omitempty"`
	Attempts []Attempt `json:"attempts,omitempty"`
	Status   int       `json:"http_status,omitempty"` // of the last answer of a peer; 0: none
	RetryAt  time.Time `json:"retry_at,omitzero"`     // when a retrying item is due
	// ResumedFrom is how many bytes an earlier attempt had left that were not moved again.
	ResumedFrom int64 `json:"resumed_from_bytes"`
	// RestartReason says why what an earlier attempt had left could not be continued: one of the Restart constants. "": it could, or
	// there was nothing.
	RestartReason string `json:"restart_reason,omitempty"`
	// Method is how the bytes came to the destination: one of the Method constants. "": they did not.
	Method string `json:"method,omitempty"`
	// SkipReason says why an item was skipped: "exists" or "same".
	SkipReason string `json:"skip_reason,omitempty"`
	// Unpacked is what an archive was unpacked to; nil: the item is none, or did not succeed.
	Unpacked *Unpacked `json:"unpacked,omitempty"`
	TraceID  string    `json:"trace_id,omitempty"`
}

// Unpacked is what became of an archive.
type Unpacked struct {
	Files int   `json:"files"` // regular files and links
	Bytes int64 `json:"bytes"` // of the regular files
}

// Report is one item's news on its way from a worker to the aggregator: a final receipt, or a
// retrying one. Workers send many in one message, [ReportBundle].
type Report struct {
	Ref     Ref     `json:"ref"`
	Total   int     `json:"total"`
	Lane    Lane    `json:"lane"`
	Receipt Receipt `json:"receipt"`
}

// ReportBundle is the message on the outcome stream: what a worker's slots finished while the last
// bundle was being stored. One message, one fsync.
type ReportBundle struct {
	Version int          `json:"v"`
	Worker  string       `json:"worker"`
	Reports []Report     `json:"reports"`
	Parts   []PartReport `json:"parts,omitempty"`
	// Uploads are parts of upload sessions, told by the front.
	Uploads []UploadReport `json:"uploads,omitempty"`
}

// ReportVersion is the version of [ReportBundle] that this build writes.
const ReportVersion = 2

package triggers

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/copyfleet/copyfleet/internal/observe"
	"github.com/copyfleet/copyfleet/producer/rules"
	"github.com/copyfleet/copyfleet/protocol"
)

// Config are the settings of a [Service]. The zero value of each is its default.
type Config struct {
	Memory   time.Duration // how long an event is known to have come; 0: [DefaultMemory]
	Sweep    time.Duration // between two sweeps of a rule by itself; 0: [DefaultSweep]; negative: never
	Logger   *slog.Logger  // nil: [slog.Default]
	Metrics  *observe.Metrics
	Identity string       // names this process; "": a random name
	Room     func() error // why nothing may be accepted now, such as that the disk is nearly full; nil: it always may
}

// The defaults and limits.
const (
	DefaultMemory   = 24 * time.Hour
	DefaultSweep    = 10 * time.Minute
	MostRemembered  = 500_000 // copies of an org that are known to have been asked for; older ones are forgotten before their time
	MostRules       = 200     // of an org
	MostSecrets     = 200     // of an org
	MaxSecret       = 16 << 10
	MaxHops         = 8 // rules that an object may have come through
	RollingItems    = protocol.PageSize
	RollingInterval = 100 * time.Millisecond // between the batches of a rule, while events come quickly
)

// Queue makes batches of what rules ask for.
type Queue interface {
	// Check validates an item as POST /v1/batches does, for the org as it is now. The error is a [*Refusal], or says that nobody could tell.
	Check(ctx context.Context, org protocol.OrgID, item []byte) (Checked, error)
	// Granted reports whether the org may use all keys of a bucket that begin with a prefix, as its copies may.
	Granted(org protocol.OrgID, bucket, prefix string) bool
	// Submit accepts a batch, durable when it returns. The same batch again is the same batch, whatever its items.
	Submit(ctx context.Context, b Batch) error
	// Ended reports whether an item has its outcome. One of a batch that is not there any more has.
	Ended(ctx context.Context, org protocol.OrgID, batch protocol.BatchID, index int) (bool, error)
}

// Checked is an item that may run.
type Checked struct {
	Item protocol.ManifestItem
	Pool string // of workers that reach its sandboxes
	// Dest tells the destination from all others, without secrets: "s3://bucket/key", "sandbox:SBX/path", a URL without its query.
	Dest string
}

// Refusal says why an item may not run.
type Refusal struct { //nolint:errname // it is an answer, not a failure, and is named for what it is
	Code    string
	Message string
}

// Error implements error.
func (r *Refusal) Error() string { return r.Message }

// Batch is a batch of one rule.
type Batch struct {
	Org     protocol.OrgID
	ID      protocol.BatchID
	Rule    string
	Version int
	Pool    string
	Options rules.Options
	Items   []protocol.ManifestItem // at most [RollingItems]
}

// Store looks at buckets.
type Store interface {
	// Stat returns what is known of an object, or [ErrNoObject]; [ErrDenied] if the store lets nobody of ours look.
	Stat(ctx context.Context, bucket, key, version string) (Object, error)
	// List visits the objects below a prefix until visit returns false. The bucket not being there is [ErrNoBucket].
	List(ctx context.Context, bucket, prefix string, visit func(Object) bool) error
}

// Object is an object of a bucket.
type Object struct {
	Key      string
	ETag     string // without quotes
	Version  string
	Size     int64
	Modified time.Time
	Metadata map[string]string // by lowercase name without "x-amz-meta-"; nil: not told
}

// Errors of a [Store], and of a [Service].
var (
	ErrNoObject  = errors.New("no such object")
	ErrNoBucket  = errors.New("no such bucket")
	ErrDenied    = errors.New("the store denies access")
	ErrNoRule    = errors.New("no such rule")
	ErrNoSecret  = errors.New("no such secret")
	ErrTooMany   = errors.New("the org has as many as it may")
	ErrNoSweep   = errors.New("the rule is on no bucket") // on CloudEvents
	ErrNoGrant   = errors.New("the org has no grant for what the rule is about")
	ErrNotReady  = errors.New("the rules are still being loaded")
	ErrEventFull = errors.New("the queue of events is full")
)

// Applied is what became of a rule that was applied.
type Applied struct {
	Name    string `json:"name"`
	Version int    `json:"version"` // from 1; it goes on after a deletion
	Change  string `json:"change"`  // created, updated, unchanged
}

// KeptVersions is how many versions of a rule can be read.
const KeptVersions = 20

// View is a rule as callers see it.
type View struct {
	Name     string    `json:"name"`
	Version  int       `json:"version"`
	Document string    `json:"document"` // as it was written
	Created  time.Time `json:"created_at"`
	Updated  time.Time `json:"updated_at"`
	Versions []int     `json:"versions,omitempty"` // that can be read; of one rule only
	Counts   Counts    `json:"counts"`
	Problems []Trouble `json:"problems"` // the last events of which no copy was made though the rule matched, the newest first
	Sweep    *Swept    `json:"last_sweep,omitempty"`
	Batch    string    `json:"batch,omitempty"` // the newest batch
}

// Counts are what became of the events that a rule matched. They are derived from the journal.
type Counts struct {
	Matched    int `json:"matched"`
	Copies     int `json:"copies"`     // items that were asked for
	Duplicates int `json:"duplicates"` // came before
	Superseded int `json:"superseded"` // a later version of the same key came before, or while it waited
	Loops      int `json:"loops"`      // refused: the object was written by this rule, or came through too many rules
	Refused    int `json:"refused"`    // no valid copy could be made, or the expression failed
	Recovered  int `json:"recovered"`  // of the copies, those of objects that a sweep found
	Waiting    int `json:"waiting"`    // for an earlier copy to the same destination
}

// Trouble is an event of which no copy was made.
type Trouble struct {
	At      time.Time `json:"at"`
	Event   string    `json:"event"` // bucket and key, or source and id; at most 300 bytes
	Code    string    `json:"code"`  // loop, too_many_hops, expression_failed, or that of a [rules.RenderError] or [Refusal]
	Message string    `json:"message"`
}

// Swept is what became of a sweep.
type Swept struct {
	ID        string    `json:"id"`
	Rule      string    `json:"rule"`
	State     string    `json:"state"` // running, done, failed
	Started   time.Time `json:"started_at"`
	Ended     time.Time `json:"ended_at,omitzero"`
	Listed    int       `json:"listed"`    // objects that the rule is about
	Known     int       `json:"known"`     // of them, those of which a copy was asked for before
	Recovered int       `json:"recovered"` // of them, those of which a copy is asked for now
	Refused   int       `json:"refused"`   // of them, those of which no copy can be made
	Message   string    `json:"message,omitempty"`
}

// SecretView is a secret as callers see it: never its value.
type SecretView struct {
	Name    string    `json:"name"`
	Updated time.Time `json:"updated_at"`
	UsedBy  []string  `json:"used_by"` // rules
}

// Tested is what one rule makes of one event.
type Tested struct {
	Event   string `json:"event"`
	Rule    string `json:"rule"`
	Matches bool   `json:"matches"`
	Copy    []byte `json:"-"`              // the item, in JSON; nil: none
	Code    string `json:"code,omitempty"` // why none, though it matches
	Message string `json:"message,omitempty"`
}

package uploads

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/observe"
	"github.com/copyfleet/copyfleet/protocol"
)

// Config are the limits of upload sessions. The zero value of each is its default.
type Config struct {
	Quota    int64         // bytes that the sessions of a sandbox may have staged at once; 0: [DefaultQuota]
	Largest  int64         // bytes of a session; 0: [DefaultLargest]. Never more than Quota
	Expiry   time.Duration // how long a session takes parts; 0: [DefaultExpiry]. Below the day after which MinIO drops unfinished uploads
	Sessions int           // sessions of a sandbox that have not ended; 0: [DefaultSessions]
	Logger   *slog.Logger  // nil: [slog.Default]
	Sender   string        // names this process in reports; "": a random name
	Metrics  *observe.Metrics
}

// The defaults.
const (
	DefaultQuota    int64 = 100 << 30
	DefaultLargest  int64 = 1 << 40
	DefaultExpiry         = 20 * time.Hour
	DefaultSessions       = 1000
)

// Limits of every session.
const (
	SmallestPart   int64 = 8 << 20 // bytes of a part, unless the content is smaller
	MostParts            = 10_000
	MostConcurrent       = 8 // parts of a session that a client should send at once
	MaxMetadata          = 16 << 10
	KeptFor              = 24 * time.Hour // a session that has ended can still be read for so long
)

// Staging is where parts are kept until a session is published.
type Staging interface {
	// Bucket names it. It is made if it is missing.
	Bucket() string
	// Begin begins a multipart upload of so many bytes at a key and returns what the store calls it.
	Begin(ctx context.Context, key string, length, partSize int64) (multipart string, err error)
	// PutPart stores a part; the number is from 0. An error of body is returned wrapped, and leaves the part as it was. The part is durable when it
	// returns. An upload that is not there is [ErrStagedGone].
	PutPart(ctx context.Context, key, multipart string, number int, size int64, body io.Reader) (StagedPart, error)
	// PutWhole stores an object of so many bytes; of -1: as many as come.
	PutWhole(ctx context.Context, key string, size int64, body io.Reader) (bytes int64, err error)
	// Clean removes the multipart upload, if that is not "". With all it removes the object, too, and whatever else was begun at the key: a
	// writer that died may have told nobody what the store calls it. That there is nothing is no error.
	Clean(ctx context.Context, key, multipart string, all bool) error
}

// StagedPart is what the store says of a part.
type StagedPart struct {
	ETag     string // without quotes
	Checksum string // "crc64nvme:" and base64; "" where the store has none
}

// Errors of a [Staging].
var (
	ErrStagedGone     = errors.New("the staged upload is not there")
	ErrStagingAway    = errors.New("the staging storage is not available")
	ErrStagingRefuses = errors.New("the staging storage refuses") // for good: a missing permission, a wrong key
	ErrStagingIsFull  = errors.New("the staging storage is full")
)

// ErrBody is of a body that could not be read to its end. It is not the staging's fault, and nothing of the body is kept.
var ErrBody = errors.New("the body broke off")

// Queue runs the batches that publish sessions.
type Queue interface {
	// Submit accepts a batch of one item, durable when it returns. The same batch again is the same batch.
	Submit(ctx context.Context, p Publication) error
	// Outcome tells how a batch ended; ended is false while it runs. A batch that is not known is [ErrNoBatch].
	Outcome(ctx context.Context, org protocol.OrgID, batch protocol.BatchID) (receipt protocol.Receipt, ended bool, err error)
	// Cancel asks for a batch to end. A batch that is not known is [ErrNoBatch].
	Cancel(ctx context.Context, org protocol.OrgID, batch protocol.BatchID) error
}

// ErrNoBatch is what a [Queue] returns for a batch that was not accepted.
var ErrNoBatch = errors.New("no such batch")

// Publication is a batch that publishes a session.
type Publication struct {
	Org   protocol.OrgID
	Batch protocol.BatchID
	Pool  string
	Item  protocol.Item
	Trace string // W3C traceparent of the call that asked for it
}

// Name names a session. Only one who knows all three finds it.
type Name struct {
	Org     protocol.OrgID
	Sandbox protocol.SandboxID
	ID      protocol.UploadID
}

// Request asks for a session. It was validated: paths are clean, and members that exclude each other are not both there.
type Request struct {
	Org     protocol.OrgID
	Sandbox protocol.SandboxID
	Pool    string
	Key     string // the idempotency key

	Kind       protocol.UploadKind
	Source     protocol.UploadSource
	TargetPath string
	Length     int64
	Conflict   protocol.UploadConflict
	User       string
	Archive    string
	Whole      string // lowercase hex SHA-256; ""
	Metadata   []byte // JSON, as it came; nil
}

// Session is a session as callers see it.
type Session struct {
	protocol.Upload

	Status   Status
	Accepted int64   // bytes of the parts that are there
	Missing  []Range // parts that are not there, in order
	Next     int     // the first part that is missing; PartCount if none is
	Changed  time.Time
	Reserved int64 // bytes of the quota that it takes
	Limits   Limits
}

// Status is the published state of a session.
type Status string

// The published states.
const (
	StatusCreated    Status = "created"
	StatusUploading  Status = "uploading"
	StatusStaged     Status = "staged"
	StatusCompleting Status = "completing"
	StatusCompleted  Status = "completed"
	StatusAborted    Status = "aborted"
	StatusExpired    Status = "expired"
	StatusFailed     Status = "failed"
)

// Range is parts from First to Last, both included.
type Range struct {
	First int `json:"first"`
	Last  int `json:"last"`
}

// Limits are what a sandbox allows.
type Limits struct {
	Largest    int64 `json:"max_upload_bytes"`
	Part       int64 `json:"max_part_bytes"`
	Concurrent int   `json:"max_concurrency"`
	Quota      int64 `json:"sandbox_staging_quota_bytes"`
}

// Refusal says why a call is not done. It changed nothing.
type Refusal struct { //nolint:errname // it is an answer as good as another, and is named for what it is
	Code    string // one of the Refused constants
	Message string // one sentence for the caller, with the numbers
	Missing []Range
	Retry   time.Duration // when to try again; 0: it says nothing
	Session *Session      // as it is, where it is known
}

// Error implements error.
func (r *Refusal) Error() string { return r.Code + ": " + r.Message }

// Why calls are refused.
const (
	RefusedNotFound   = "upload_not_found"
	RefusedKeyReused  = "idempotency_conflict"
	RefusedTooLarge   = "upload_too_large"       // it could never be taken
	RefusedQuota      = "staging_quota_exceeded" // others hold what it would take
	RefusedSessions   = "too_many_uploads"
	RefusedPart       = "part_out_of_range"
	RefusedLength     = "part_length_wrong"
	RefusedChecksum   = "part_checksum_mismatch"
	RefusedBusy       = "too_many_parts_at_once"
	RefusedMissing    = "upload_parts_missing"
	RefusedWhole      = "whole_checksum_conflict" // another one was given at creation
	RefusedCompleting = "upload_completing"
	RefusedCompleted  = "upload_completed"
	RefusedAborted    = "upload_aborted"
	RefusedExpired    = "upload_expired"
	RefusedFailed     = "upload_failed"
)

// Part is a part that a client sends.
type Part struct {
	Number int
	Length int64  // as announced
	SHA256 string // lowercase hex; "": not given
	Body   io.Reader
}

// Direct is content that comes in one request.
type Direct struct {
	Request // Length is what was announced; Key is that of the token

	Body  io.Reader
	Trace string // W3C traceparent of the call
	// Exact says that Body has Length bytes; else it has at most so many.
	Exact bool
}

// Service has the sessions of all sandboxes. It is safe for concurrent use, by several processes too.
type Service struct {
	cfg     Config
	conn    *broker.Conn
	bucket  *broker.Bucket
	staging Staging
	queue   Queue
	log     *slog.Logger
	now     func() time.Time // the clock, without its monotonic part: what it says is compared with what is stored

	// theirs is the clock of the broker. What has been over for long by one of the clocks alone is not: a clock may jump.
	theirs func(context.Context) (time.Time, error)

	smallest int64 // bytes of a part of a session of few parts
	most     int   // sessions that a pass of the sweep brings on

	turns turns  // at a sandbox's quota, the beginning of a session, and a part
	parts places // of each session: parts under way
}

// New opens the sessions. The bucket of the sessions was made before ([broker.Conn.Setup]).
func New(ctx context.Context, cfg Config, conn *broker.Conn, staging Staging, queue Queue) (*Service, error) {
	cfg = cfg.withDefaults()
	if cfg.Quota < 0 || cfg.Largest < 0 || cfg.Expiry < 0 || cfg.Sessions < 0 {
		return nil, fmt.Errorf("upload sessions: a limit is negative: quota %d, largest %d, expiry %s, sessions %d",
			cfg.Quota, cfg.Largest, cfg.Expiry, cfg.Sessions)
	}
	bucket, err := conn.Bucket(ctx, broker.UploadBucket)
	if err != nil {
		return nil, fmt.Errorf("upload sessions: %w", err)
	}
	return &Service{
		cfg: cfg, conn: conn, bucket: bucket, staging: staging, queue: queue, log: cfg.Logger, smallest: SmallestPart, most: sweepMost,
		now: func() time.Time { return time.Now().UTC().Round(0) }, theirs: bucket.Now,
	}, nil
}

func (c Config) withDefaults() Config {
	c.Quota = cmp.Or(c.Quota, DefaultQuota)
	c.Largest = min(cmp.Or(c.Largest, DefaultLargest), c.Quota)
	c.Expiry = cmp.Or(c.Expiry, DefaultExpiry)
	c.Sessions = cmp.Or(c.Sessions, DefaultSessions)
	c.Sender = cmp.Or(c.Sender, "front-"+rand.Text())
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

package main

import (
	"io"
	"log/slog"
	"net/netip"
	"time"

	"github.com/alecthomas/kong"

	"github.com/copyfleet/copyfleet/internal/bytesize"
)

// cli is every command with its flags. Each flag has an environment variable COPYFLEET_….
type cli struct {
	JSON     bool             `help:"Print JSON: one object a line, the last one the summary." name:"json"`
	LogLevel slog.Level       `help:"Least level that is logged: DEBUG, INFO, WARN or ERROR." default:"INFO" env:"COPYFLEET_LOG_LEVEL"`
	LogJSON  bool             `help:"Log in JSON." name:"log-json" env:"COPYFLEET_LOG_JSON"`
	Version  kong.VersionFlag `help:"Print the version."`

	Up         upCmd         `cmd:"" help:"Run everything in this process: API, worker, aggregator, NATS JetStream and S3, durable in one data directory."`
	API        apiCmd        `cmd:"" name:"api" help:"Run the API front against a NATS and an S3 of yours."`
	Worker     workerCmd     `cmd:"" help:"Run a worker; start as many as you like."`
	Aggregator aggregatorCmd `cmd:"" help:"Run the aggregator, which turns outcomes into receipts. It takes the S3 flags like every role and does not need them yet."`
	Demo       demoCmd       `cmd:"" help:"Start everything on free ports, run real batches through it, check every result, and stop."`

	Submit     submitCmd     `cmd:"" help:"Send a manifest of copies and wait for their end."`
	List       listCmd       `cmd:"" help:"List batches, the newest first."`
	Show       showCmd       `cmd:"" help:"Show a batch, its items, or one item with all its attempts."`
	Watch      watchCmd      `cmd:"" help:"Wait for the end of a batch."`
	Cancel     cancelCmd     `cmd:"" help:"Cancel a batch on all workers."`
	Pause      pauseCmd      `cmd:"" help:"Pause a batch."`
	Resume     resumeCmd     `cmd:"" help:"Let a paused batch go on."`
	Retry      retryCmd      `cmd:"" help:"Run the failed items of a batch again, as a new batch."`
	Report     reportCmd     `cmd:"" help:"Write what became of every item of a batch."`
	Dead       deadCmd       `cmd:"" help:"List failed items of all batches, and run them again."`
	Upload     uploadCmd     `cmd:"" help:"Put a file, a directory or the standard input into a sandbox, in parts that are not sent twice."`
	Presign    presignCmd    `cmd:"" help:"Make a URL that lets its holder read or write one object for a while."`
	Rules      rulesCmd      `cmd:"" help:"Say which copies follow from events: apply, look at, try and delete rules, and look for what no event told of."`
	Secrets    secretsCmd    `cmd:"" help:"Keep secrets that rules send in headers and forms."`
	Events     eventsCmd     `cmd:"" help:"Have a bucket tell of its objects, and send events by hand."`
	Keys       keysCmd       `cmd:"" help:"Make, list and revoke API keys."`
	Orgs       orgsCmd       `cmd:"" help:"Say which buckets an org may use."`
	Bench      benchCmd      `cmd:"" help:"Measure what a store does under load, and what the fleet does with it."`
	Doctor     doctorCmd     `cmd:"" help:"Look whether the API, its services, the key, the clock and this machine are in order."`
	Completion completionCmd `cmd:"" help:"Print a script that completes commands and flags in a shell."`
	VersionCmd versionCmd    `cmd:"" name:"version" help:"Print the version."`
}

func (c *cli) logger(w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogJSON {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// apiFlags are those of the API front, in up and api.
type apiFlags struct {
	Listen  string        `help:"Address of the API." default:"127.0.0.1:7400" env:"COPYFLEET_LISTEN"`
	Org     string        `help:"The default org." default:"ORG-dev" env:"COPYFLEET_ORG"`
	APIKey  string        `help:"An admin key of the default org. up makes one on its first start and keeps it." name:"api-key" env:"COPYFLEET_API_KEY" placeholder:"KEY"`
	MaxWait time.Duration `help:"How long a copy call waits for its end." default:"15m" env:"COPYFLEET_MAX_WAIT"`

	MaxQueued int `help:"Items that may be accepted and not have ended; a batch beyond is answered 429." default:"5000000" env:"COPYFLEET_MAX_QUEUED"`

	UploadQuota  bytesize.Size `help:"Bytes that the upload sessions of a sandbox may have staged at once." name:"upload-quota" default:"100GiB" env:"COPYFLEET_UPLOAD_QUOTA"`
	MaxUpload    bytesize.Size `help:"Bytes of an upload session; never more than the quota." name:"max-upload" default:"1TiB" env:"COPYFLEET_MAX_UPLOAD"`
	UploadExpiry time.Duration `help:"How long an upload session takes parts. A store must keep unfinished uploads for longer: MinIO does so for a day." name:"upload-expiry" default:"20h" env:"COPYFLEET_UPLOAD_EXPIRY"`

	EventMemory   time.Duration `help:"How long an event is known to have come, so that its repetition makes no copy." name:"event-memory" default:"24h" env:"COPYFLEET_EVENT_MEMORY"`
	SweepInterval time.Duration `help:"Time between two sweeps of a rule by itself: the search for objects of which no event came. 0: none." name:"sweep-interval" default:"10m" env:"COPYFLEET_SWEEP_INTERVAL"`
}

// endpointFlags name an S3 endpoint and who asks.
type endpointFlags struct {
	Endpoint  string `help:"URL of an S3 endpoint." name:"s3-endpoint" env:"COPYFLEET_S3_ENDPOINT" placeholder:"URL"`
	AccessKey string `help:"Access key of the S3 endpoint." name:"s3-access-key" env:"COPYFLEET_S3_ACCESS_KEY" placeholder:"KEY"`
	SecretKey string `help:"Secret key of the S3 endpoint." name:"s3-secret-key" env:"COPYFLEET_S3_SECRET_KEY" placeholder:"SECRET"`
	Region    string `help:"Region of the S3 endpoint." name:"s3-region" default:"us-east-1" env:"COPYFLEET_S3_REGION"`
}

// s3Flags name the object store.
type s3Flags struct {
	endpointFlags

	StagingBucket string `help:"The bucket in which uploads are kept until they are published. It is made at its first use; callers reach nothing in it. The same for every role." name:"staging-bucket" default:"copyfleet-staging" env:"COPYFLEET_STAGING_BUCKET"`
}

// workerFlags are those of a worker, in up and worker.
type workerFlags struct {
	Sandboxes     string         `help:"Where sandboxes are: file:///dir or s3://bucket/prefix, laid out <org>/<sandbox>/<path>. Default: the directory sandboxes in the data directory." env:"COPYFLEET_SANDBOXES" placeholder:"URL"`
	Slots         int            `help:"Items that a worker copies at once." default:"32" env:"COPYFLEET_SLOTS"`
	PartThreshold bytesize.Size  `help:"Bytes from which on an item is copied in parts, which are kept when a copy breaks off, and which other workers help with." name:"part-threshold" default:"64MiB" env:"COPYFLEET_PART_THRESHOLD"`
	PartSize      bytesize.Size  `help:"Bytes of a part; more where there would be more than 10,000." name:"part-size" default:"16MiB" env:"COPYFLEET_PART_SIZE"`
	SpreadAfter   time.Duration  `help:"How long the rest of an item may take at the rate seen until other workers are given parts of it." name:"spread-after" default:"3s" env:"COPYFLEET_SPREAD_AFTER"`
	Pool          string         `help:"The pool whose items the worker runs: sandboxes are registered for a pool." default:"default" env:"COPYFLEET_POOL"`
	FileSync      string         `help:"Whether a sandbox file, and in up an object of the embedded S3, is durable before its outcome is told: on or off." enum:"on,off" default:"on" env:"COPYFLEET_FILE_SYNC"`
	EgressAllow   []netip.Prefix `help:"Networks (CIDR) that may be dialed beside public addresses. Given, it replaces the default, which is loopback in up and nothing in worker." env:"COPYFLEET_EGRESS_ALLOW" placeholder:"CIDR"`
	HeaderTimeout time.Duration  `help:"How long a peer may take to answer." default:"20s" env:"COPYFLEET_HEADER_TIMEOUT"`
	IdleTimeout   time.Duration  `help:"How long a transfer may make no progress." default:"20s" env:"COPYFLEET_IDLE_TIMEOUT"`
	MinProgress   bytesize.Size  `help:"Bytes that must move within the idle timeout: a source or target that drips is given up. 1: the slowest peer passes that is not silent." default:"4KiB" env:"COPYFLEET_MIN_PROGRESS"`
	Drain         time.Duration  `help:"How long running items may go on at a shutdown before they are handed back." default:"20s" env:"COPYFLEET_DRAIN"`
	SpoolDir      string         `help:"Where content of unknown length is kept meanwhile. Default: the data directory in up, else the system's temporary directory." env:"COPYFLEET_SPOOL_DIR" placeholder:"DIR"`

	HostConcurrency int           `help:"Most items at once at a host, reading and writing each. 0: what the host does most with is found out." default:"0" env:"COPYFLEET_HOST_CONCURRENCY"`
	HostRequests    float64       `help:"Items a second at a host, for this worker. 0: unlimited." default:"0" env:"COPYFLEET_HOST_REQUESTS"`
	HostBytes       bytesize.Size `help:"Bytes a second from or to a host, for this worker. 0: unlimited." default:"0" env:"COPYFLEET_HOST_BYTES"`
	HostPatience    time.Duration `help:"How long an item waits for a host that keeps failing, before that counts as its own attempts." default:"10m" env:"COPYFLEET_HOST_PATIENCE"`
	TenantRequests  float64       `help:"Items a second of a tenant, for this worker. 0: unlimited." default:"0" env:"COPYFLEET_TENANT_REQUESTS"`
	TenantBytes     bytesize.Size `help:"Bytes a second of a tenant, for this worker. 0: unlimited." default:"0" env:"COPYFLEET_TENANT_BYTES"`
}

// natsFlags name an external NATS.
type natsFlags struct {
	URL      string        `help:"URL of a NATS with JetStream." name:"nats-url" env:"COPYFLEET_NATS_URL" placeholder:"URL"`
	Replicas int           `help:"Replicas of streams and buckets on a NATS cluster: 1, 3 or 5. 0: as they are, and 1 for new ones." name:"nats-replicas" default:"0" env:"COPYFLEET_NATS_REPLICAS"`
	AckWait  time.Duration `help:"How long an item stays with a worker that gives no sign of life, before another takes it over. The same for every role." default:"30s" env:"COPYFLEET_ACK_WAIT"`
}

// sealFlags name the key that locations are sealed with in the queue.
type sealFlags struct {
	SealKey string `help:"Key that seals locations in the queue: 32 bytes in base64, the same for every role. Without it one is made and kept in NATS." name:"seal-key" env:"COPYFLEET_SEAL_KEY" placeholder:"BASE64"`
}

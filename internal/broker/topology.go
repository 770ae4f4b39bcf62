package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/copyfleet/copyfleet/protocol"
)

// Names of what we keep in JetStream. They stand on disk: changing one strands what it holds.
const (
	retryStream    = "CF_RETRY"
	reportStream   = "CF_REPORT"
	reportConsumer = "aggregator"
	eventStream    = "CF_EVENTS"   // notifications of other systems, until it is recorded what became of them
	triggerStream  = "CF_TRIGGERS" // the journals of what became of them

	BatchBucket    = "cf-batches"   // accept records, summaries, pages
	RegistryBucket = "cf-registry"  // keys, sandboxes, grants
	ClaimBucket    = "cf-claims"    // a record a worker
	SecretBucket   = "cf-secrets"   // the sealing key, where none is configured
	ManifestBucket = "cf-manifests" // what the callers of large batches asked for, by page
	ControlBucket  = "cf-control"   // what is wanted of batches that somebody acted upon
	FeedBucket     = "cf-feeds"     // how far batches have come from their manifest into the queue
	PartBucket     = "cf-parts"     // plans and parts of items that are moved in parts
	UploadBucket   = "cf-uploads"   // upload sessions, their parts, and the quota that they take
	RuleBucket     = "cf-rules"     // rules, named secrets, and what became of events
)

const (
	// DefaultAckWait is the AckWait of a [Config] that gives none.
	DefaultAckWait = 30 * time.Second
	// minAckWait leaves a heartbeat, at a third of it, time for its answer.
	minAckWait = time.Second

	maxWaiting    = 8192      // further pulls are dropped silently by the server
	maxAckPending = 100_000   // at least twice the slots of the whole fleet
	maxQueued     = 5_000_000 // items in a lane before callers are told to wait
)

func laneStream(lane protocol.Lane) string {
	switch lane {
	case protocol.Interactive:
		return "CF_WORK_INTERACTIVE"
	case protocol.Bulk:
		return "CF_WORK_BULK"
	}
	return ""
}

func shardConsumer(pool string, shard int) string {
	return protocol.Token(pool) + "-" + strconv.Itoa(shard)
}

// Setup creates what is missing of the streams, buckets and the aggregator's consumer, and brings their
// configuration up to date. Every role calls it at start; it is idempotent.
func (c *Conn) Setup(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, setupTimeout, fmt.Errorf("%w: no answer within %s", ErrUnavailable, setupTimeout))
	defer cancel()
	if err := c.settleReplicas(ctx); err != nil {
		return err
	}
	for _, cfg := range c.streams() {
		if _, err := c.js.CreateOrUpdateStream(ctx, cfg); err != nil {
			return fmt.Errorf("set up stream %s: %w", cfg.Name, classify(err))
		}
	}
	_, err := c.js.CreateOrUpdateConsumer(ctx, reportStream, jetstream.ConsumerConfig{
		Durable:       reportConsumer,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       c.ackWait,
		MaxDeliver:    -1,
		MaxAckPending: maxAckPending,
	})
	if err != nil {
		return fmt.Errorf("set up consumer %s: %w", reportConsumer, classify(err))
	}
	return c.EnsurePool(ctx, protocol.DefaultPool)
}

// settleReplicas finds out how many replicas a fleet has that names none: one role that was not told must not take
// them away.
func (c *Conn) settleReplicas(ctx context.Context) error {
	if c.replicas > 0 {
		return nil
	}
	stream, err := c.js.Stream(ctx, reportStream)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		c.replicas = 1
	case err != nil:
		return fmt.Errorf("look at stream %s: %w", reportStream, classify(err))
	default:
		c.replicas = stream.CachedInfo().Config.Replicas
	}
	return nil
}

// EnsurePool creates the consumers of a pool. Nothing may be published for a pool before: what no consumer
// waits for counts as consumed, and is trimmed.
func (c *Conn) EnsurePool(ctx context.Context, pool string) error {
	for shard := range protocol.Shards {
		for _, lane := range protocol.Lanes {
			err := c.ensureConsumer(ctx, laneStream(lane), c.consumerConfig(pool, shard, protocol.WorkFilter(lane, pool, shard)))
			if err != nil {
				return err
			}
		}
		if err := c.ensureConsumer(ctx, retryStream, c.consumerConfig(pool, shard, protocol.RetrySubject(pool, shard))); err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) streams() []jetstream.StreamConfig {
	list := make([]jetstream.StreamConfig, 0, 16)
	for _, lane := range protocol.Lanes {
		// Limits, not WorkQueue: see docs/adr/0001-limits-streams.md.
		list = append(list, jetstream.StreamConfig{
			Name:               laneStream(lane),
			Subjects:           protocol.LaneSubjects(lane),
			Storage:            jetstream.FileStorage,
			Replicas:           c.replicas,
			Discard:            jetstream.DiscardNew,
			MaxMsgs:            maxQueued,
			AllowDirect:        c.replicas == 1, // a replica may answer with what it has not heard of yet
			AllowAtomicPublish: true,
		})
	}
	list = append(list,
		jetstream.StreamConfig{
			Name:              retryStream,
			Subjects:          []string{protocol.RetryAt + ">", protocol.RetryDue + ">"},
			Storage:           jetstream.FileStorage,
			Replicas:          c.replicas,
			AllowDirect:       c.replicas == 1,
			AllowMsgSchedules: true,
		},
		jetstream.StreamConfig{
			Name:     reportStream,
			Subjects: []string{protocol.ReportSubject},
			Storage:  jetstream.FileStorage,
			Replicas: c.replicas,
		},
	)
	list = append(list, c.eventStreams()...)
	for _, bucket := range []string{
		BatchBucket, RegistryBucket, ClaimBucket, SecretBucket, ManifestBucket, ControlBucket, FeedBucket, PartBucket, UploadBucket, RuleBucket,
	} {
		list = append(list, c.bucketStream(bucket))
	}
	return list
}

// bucketStream is a KV bucket as ADR-8 describes it, created by hand because nats.go would take
// AllowAtomicPublish away. On a cluster reads go to the leader: a direct read may be stale.
func (c *Conn) bucketStream(bucket string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               bucketStreamName(bucket),
		Subjects:           []string{bucketPrefix(bucket) + ">"},
		Storage:            jetstream.FileStorage,
		Replicas:           c.replicas,
		MaxMsgsPerSubject:  1,
		Discard:            jetstream.DiscardNew,
		AllowRollup:        true,
		DenyDelete:         true,
		AllowDirect:        c.replicas == 1,
		AllowAtomicPublish: true,
		AllowMsgTTL:        true,
	}
}

func bucketStreamName(bucket string) string { return "KV_" + bucket }
func bucketPrefix(bucket string) string     { return "$KV." + bucket + "." }

// consumerConfig is the durable consumer of one shard. A consumer reads one stream; filter narrows it.
func (c *Conn) consumerConfig(pool string, shard int, filter string) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       shardConsumer(pool, shard),
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       c.ackWait,
		MaxDeliver:    -1, // attempts are counted in claims; a message that JetStream gives up on is forgotten
		MaxAckPending: maxAckPending,
		MaxWaiting:    maxWaiting,
		FilterSubject: filter,
	}
}

// ensureConsumer creates the consumer if it is missing. It leaves an existing one alone, so that workers that start
// at once do not quarrel.
func (c *Conn) ensureConsumer(ctx context.Context, stream string, cfg jetstream.ConsumerConfig) error {
	_, err := c.js.CreateConsumer(ctx, stream, cfg)
	if errors.Is(err, jetstream.ErrConsumerExists) {
		_, err = c.js.UpdateConsumer(ctx, stream, cfg)
	}
	if err != nil {
		return fmt.Errorf("set up consumer %s of %s: %w", cfg.Durable, stream, classify(err))
	}
	return nil
}

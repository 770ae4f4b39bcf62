package broker

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

// Headers of atomic batches (nats-architecture-and-design, ADR-50).
const (
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"
)

// MaxChunk is the number of items in a chunk: an atomic batch takes 1000 messages and one is the guard.
const MaxChunk = 999

// write is one message of an atomic batch. Expect is the last sequence its subject must have; nil: any.
type write struct {
	subject string
	data    []byte
	expect  *uint64
	marker  bool // of a deletion, which removes itself in time
}

// PublishChunk stores the items of a chunk, all on one subject, as one atomic batch, and returns the stream sequence of the
// first. Publishing the same guard again returns [ErrCommitted] and stores nothing. A single item may be its own guard, where nothing
// else is ever published on its subject: that is one message in place of an atomic batch.
func (c *Conn) PublishChunk(ctx context.Context, guard, subject string, items [][]byte) (uint64, error) {
	if len(items) == 0 || len(items) > MaxChunk {
		return 0, fmt.Errorf("publish a chunk of %d items: must be 1 to %d", len(items), MaxChunk)
	}
	if guard == subject {
		return c.publishSingle(ctx, subject, items)
	}
	writes := make([]write, 0, len(items)+1)
	writes = append(writes, write{subject: guard, expect: new(uint64)})
	for _, item := range items {
		writes = append(writes, write{subject: subject, data: item})
	}
	last, err := c.publishAtomic(ctx, writes)
	if errors.Is(err, ErrConflict) {
		return 0, fmt.Errorf("%w: %w", ErrCommitted, err)
	}
	if err != nil {
		return 0, err
	}
	return last - uint64(len(items)) + 1, nil
}

func (c *Conn) publishSingle(ctx context.Context, subject string, items [][]byte) (uint64, error) {
	if len(items) != 1 {
		return 0, fmt.Errorf("publish %d items that are their own guard: only one can be", len(items))
	}
	seq, err := c.publishOne(ctx, write{subject: subject, data: items[0], expect: new(uint64)})
	if errors.Is(err, ErrConflict) {
		return 0, fmt.Errorf("%w: %w", ErrCommitted, err)
	}
	return seq, err
}

// publishAtomic stores all messages or none, with one fsync, and returns the sequence of the last.
func (c *Conn) publishAtomic(ctx context.Context, writes []write) (uint64, error) {
	id := rand.Text()
	for i, w := range writes {
		msg := nats.NewMsg(w.subject)
		msg.Data = w.data
		msg.Header.Set(headerBatchID, id)
		msg.Header.Set(headerBatchSequence, strconv.Itoa(i+1))
		if w.expect != nil {
			msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(*w.expect, 10))
		}
		if w.marker {
			msg.Header.Set(headerOperation, "DEL")
			msg.Header.Set(jetstream.MsgTTLHeader, markerTTL.String())
		}
		if i < len(writes)-1 {
			if err := c.nc.PublishMsg(msg); err != nil {
				return 0, fmt.Errorf("publish message %d of an atomic batch: %w", i+1, classify(err))
			}
			continue
		}
		failpoint.Hit(failpoint.AtomicStaged)
		msg.Header.Set(headerBatchCommit, "1")
		return c.request(ctx, msg)
	}
	return 0, errors.New("publish an atomic batch: it is empty")
}

// publishOne stores a single message: an atomic batch costs several plain publishes.
func (c *Conn) publishOne(ctx context.Context, w write) (uint64, error) {
	msg := nats.NewMsg(w.subject)
	msg.Data = w.data
	if w.expect != nil {
		msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(*w.expect, 10))
	}
	return c.request(ctx, msg)
}

// request sends a message that JetStream answers with a PubAck, and returns the stored sequence.
func (c *Conn) request(ctx context.Context, msg *nats.Msg) (uint64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, requestTimeout, fmt.Errorf("%w: no acknowledgement within %s", ErrUnavailable, requestTimeout))
	defer cancel()
	resp, err := c.nc.RequestMsgWithContext(ctx, msg)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return 0, fmt.Errorf("publish to %s: %w", msg.Subject, cause)
		}
		return 0, fmt.Errorf("publish to %s: %w", msg.Subject, classify(err))
	}
	var ack struct {
		Error    *jetstream.APIError `json:"error"`
		Stream   string              `json:"stream"`
		Sequence uint64              `json:"seq"`
	}
	if err := json.Unmarshal(resp.Data, &ack); err != nil {
		return 0, fmt.Errorf("publish to %s: the acknowledgement is not JSON: %w", msg.Subject, err)
	}
	if ack.Error != nil {
		return 0, fmt.Errorf("publish to %s: %w", msg.Subject, classify(ack.Error))
	}
	if ack.Stream == "" {
		return 0, fmt.Errorf("publish to %s: %w: the acknowledgement names no stream", msg.Subject, ErrUnavailable)
	}
	return ack.Sequence, nil
}

// Published reports whether a chunk with this guard is in the queue, and was not trimmed yet.
func (c *Conn) Published(ctx context.Context, lane protocol.Lane, guard string) (bool, error) {
	stream, err := c.js.Stream(ctx, laneStream(lane))
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", guard, classify(err))
	}
	_, err = stream.GetLastMsgForSubject(ctx, guard)
	if err = classify(err); errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", guard, err)
	}
	return true, nil
}

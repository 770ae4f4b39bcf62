package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/textproto"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/copyfleet/copyfleet/protocol"
)

const (
	fetchMost  = 512             // messages at a time
	fetchBytes = 4 << 20         // of them, whatever their number; it has to be more than MaxNotification
	readIdle   = time.Minute     // the server forgets a reader that does not come back for so long; it is made again
	readGrace  = 2 * time.Second // beyond its own time, in which a pull has to be answered
	readCheck  = 50 * time.Millisecond
	maxReaders = 3 // attempts of one fetch to be told something by a consumer
)

// EventReader reads the notifications for an org in order. It is used by one goroutine at a time.
type EventReader struct{ r reader }

// Events reads the notifications for an org that lie behind a sequence. Nothing is acknowledged: who has dealt with them calls [Conn.DropEvents].
// The error is [ErrRewound] if the stream has not come to that sequence: its sequences are those of other notifications then.
func (c *Conn) Events(ctx context.Context, org protocol.OrgID, after uint64) (*EventReader, error) {
	r := &EventReader{reader{conn: c, stream: eventStream, filter: protocol.EventFilter(org), last: after}}
	if err := r.r.open(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// Fetch returns at most n notifications, and 4 MiB of them; none if none comes within wait. Those that are there are returned at once. It goes on after
// a reconnection and a restart of the server without gap or repetition, also after an error but [ErrRewound].
func (r *EventReader) Fetch(ctx context.Context, n int, wait time.Duration) ([]Notification, error) {
	got, err := r.r.fetch(ctx, n, wait)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	list := make([]Notification, len(got))
	for i, m := range got {
		list[i] = notification(m)
	}
	return list, nil
}

func notification(m stored) Notification {
	headers := make(map[string]string, len(m.msg.Header))
	for name, values := range m.msg.Header {
		if len(values) > 0 {
			headers[textproto.CanonicalMIMEHeaderKey(name)] = values[0]
		}
	}
	kind, _, _ := strings.Cut(strings.TrimPrefix(m.msg.Subject, strings.TrimSuffix(protocol.EventSubjects, "*.*")), ".")
	return Notification{Seq: m.seq, Kind: protocol.EventKind(kind), Headers: headers, Body: m.msg.Data, Time: m.at}
}

// Close ends reading.
func (r *EventReader) Close() { r.r.close() }

// reader reads a stream in order without acknowledging. Its place is the sequence of the last message that it has returned, not a state of the
// server: the consumer that it reads by is made anew from there whenever that is gone, or was too fast, or may have sent something that never came.
type reader struct {
	conn           *Conn
	stream, filter string
	last           uint64 // returned

	name  string // of the consumer; "": there is none
	next  uint64 // number that the consumer gives the next message
	epoch uint64 // of the connection that the consumer was made on
	inbox *nats.Subscription
	msgs  chan *nats.Msg
}

// stored is a message with its place.
type stored struct {
	msg *nats.Msg
	seq uint64
	at  time.Time
}

// errLost says that the consumer is of no use any more.
var errLost = errors.New("the consumer is gone")

func (r *reader) open(ctx context.Context) error {
	r.close()
	r.epoch = r.conn.Epoch()
	stream, err := r.conn.js.Stream(ctx, r.stream)
	if err != nil {
		return fmt.Errorf("open a reader of %s: %w", r.stream, classify(err))
	}
	// A consumer would wait, without a word, until the new stream comes to where the old one was.
	if last := stream.CachedInfo().State.LastSeq; last < r.last {
		return fmt.Errorf("open a reader of %s behind %d: %w: its last message is %d", r.stream, r.last, ErrRewound, last)
	}
	msgs := make(chan *nats.Msg, fetchMost+1)
	inbox, err := r.conn.nc.ChanSubscribe(r.conn.nc.NewInbox(), msgs)
	if err != nil {
		return fmt.Errorf("open a reader of %s: %w", r.stream, classify(err))
	}
	consumer, err := r.conn.js.CreateConsumer(ctx, r.stream, jetstream.ConsumerConfig{
		FilterSubject: r.filter, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.last + 1,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: readIdle,
	})
	if err != nil {
		_ = inbox.Unsubscribe() // fails only on a closed connection
		return fmt.Errorf("open a reader of %s: %w", r.stream, classify(err))
	}
	r.name, r.next, r.inbox, r.msgs = consumer.CachedInfo().Name, 1, inbox, msgs
	return nil
}

// close forgets the consumer. The server is told without waiting for it; what it misses it does by itself after readIdle.
func (r *reader) close() {
	if r.inbox != nil {
		_ = r.inbox.Unsubscribe()
		_ = r.conn.nc.Publish("$JS.API.CONSUMER.DELETE."+r.stream+"."+r.name, nil)
	}
	r.inbox, r.msgs, r.name = nil, nil, ""
}

// fetch returns at most n messages; none if none comes within wait.
func (r *reader) fetch(ctx context.Context, n int, wait time.Duration) ([]stored, error) {
	n = min(n, fetchMost)
	for range maxReaders {
		if r.name == "" || r.epoch != r.conn.Epoch() {
			if err := r.open(ctx); err != nil {
				return nil, err
			}
		}
		got, err := r.pull(ctx, n, wait)
		if err != nil {
			r.close() // what may still come of this pull has to come again
		}
		if len(got) > 0 || err == nil {
			return got, nil
		}
		if !errors.Is(err, errLost) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: %w", ErrUnavailable, errLost)
}

// pull asks the consumer once. What comes together with an error is good: nothing before it is missing.
func (r *reader) pull(ctx context.Context, n int, wait time.Duration) ([]stored, error) {
	// With both no_wait and expires the server answers as soon as it has anything (nats-server v2.15.2, server/consumer.go, processNextMsgRequest).
	req, err := json.Marshal(map[string]any{"batch": n, "no_wait": true, "expires": max(wait, time.Millisecond), "max_bytes": fetchBytes})
	if err != nil {
		return nil, fmt.Errorf("pull from %s: %w", r.stream, err)
	}
	msg := &nats.Msg{Subject: "$JS.API.CONSUMER.MSG.NEXT." + r.stream + "." + r.name, Reply: r.inbox.Subject, Data: req}
	if err := r.conn.nc.PublishMsg(msg); err != nil {
		return nil, fmt.Errorf("pull from %s: %w", r.stream, classify(err))
	}
	limit := time.NewTimer(wait + readGrace)
	defer limit.Stop()
	check := time.NewTicker(readCheck)
	defer check.Stop()
	var got []stored
	for len(got) < n {
		select {
		case <-ctx.Done():
			return got, context.Cause(ctx)
		case <-limit.C:
			return got, fmt.Errorf("%w: no answer within %s", ErrUnavailable, wait+readGrace)
		case <-check.C: // a server that was restarted knows nothing of the pull
			if r.epoch != r.conn.Epoch() || !r.conn.nc.IsConnected() {
				return got, errLost
			}
		case msg := <-r.msgs:
			m, more, err := r.take(msg)
			if err != nil || !more {
				return got, err
			}
			got = append(got, m)
		}
	}
	return got, nil
}

// take looks at one answer to a pull. more is false for the one that ends it.
func (r *reader) take(msg *nats.Msg) (m stored, more bool, err error) {
	if msg == nil {
		return m, false, fmt.Errorf("%w: the connection was closed", ErrUnavailable)
	}
	if status := msg.Header.Get("Status"); status != "" && len(msg.Data) == 0 && !strings.HasPrefix(msg.Reply, "$JS.ACK.") {
		return m, false, readStatus(status, msg.Header.Get("Description"))
	}
	meta, err := msg.Metadata()
	if err != nil {
		return m, false, fmt.Errorf("a message without metadata: %w", err)
	}
	if meta.Sequence.Consumer != r.next || meta.Sequence.Stream <= r.last {
		return m, false, errLost // one got lost on the way
	}
	r.next++
	r.last = meta.Sequence.Stream
	return stored{msg: msg, seq: meta.Sequence.Stream, at: meta.Timestamp}, true, nil
}

// readStatus maps the end of a pull: nil if there is no more now.
func readStatus(status, description string) error {
	switch {
	case status == "404" || status == "408":
		return nil
	case status == "409" && strings.Contains(description, "MaxBytes"): // the next message does not fit any more
		return nil
	}
	return fmt.Errorf("%w: status %s %s", errLost, status, description)
}

package broker

import (
	"context"
	"errors"
	"fmt"
	"net/textproto"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc/pool"

	"github.com/copyfleet/copyfleet/protocol"
)

// MaxNotification bounds a notification in the stream of events with its headers, in bytes, whoever publishes it: a body of 1 MiB with all
// the headers that JetStream takes, 64 KiB.
const MaxNotification = 1<<20 + 64<<10

// Bounds of the stream of events. They count messages: a bound in bytes would reserve that space on the server, which then could not be set up
// while its disk is nearly full.
const (
	maxNotifications        = 1_000_000
	maxNotificationsSubject = 200_000 // of one kind for one org, so that no org takes all the room
)

// eventStreams are the stream of notifications and that of the journals of what became of them.
func (c *Conn) eventStreams() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{
		{
			Name:                 eventStream,
			Subjects:             []string{protocol.EventSubjects},
			Storage:              jetstream.FileStorage,
			Replicas:             c.replicas,
			Discard:              jetstream.DiscardNew,
			DiscardNewPerSubject: true,
			MaxMsgs:              maxNotifications,
			MaxMsgsPerSubject:    maxNotificationsSubject,
			MaxMsgSize:           MaxNotification,
		},
		{
			Name:     triggerStream,
			Subjects: []string{protocol.TriggerSubjects},
			Storage:  jetstream.FileStorage,
			Replicas: c.replicas,
			Discard:  jetstream.DiscardNew,
		},
	}
}

// Notification is what another system published, as it lies in the stream of events.
type Notification struct {
	Seq     uint64 // in the stream; it grows
	Kind    protocol.EventKind
	Headers map[string]string // by canonical name; of several values the first
	Body    []byte
	Time    time.Time // when it was stored
}

// PublishEvent stores a notification. It is durable when PublishEvent returns. Of the headers those of CloudEvents and the content type are stored:
// others could be orders to JetStream. The error is [ErrFull] if the stream has no room, and [ErrTooLarge] beyond [MaxNotification].
func (c *Conn) PublishEvent(ctx context.Context, org protocol.OrgID, kind protocol.EventKind, headers map[string]string, body []byte) (uint64, error) {
	msg := nats.NewMsg(protocol.EventSubject(kind, org))
	msg.Data = body
	for name, value := range headers {
		if name = textproto.CanonicalMIMEHeaderKey(name); strings.HasPrefix(name, "Ce-") || name == "Content-Type" {
			msg.Header.Set(name, value)
		}
	}
	return c.request(ctx, msg)
}

// DropEvents removes the notifications for an org up to and with a sequence.
func (c *Conn) DropEvents(ctx context.Context, org protocol.OrgID, through uint64) error {
	return c.dropBelow(ctx, eventStream, protocol.EventFilter(org), through+1)
}

// removeAtOnce are the notifications that are removed one by one at the same time.
const removeAtOnce = 8

// RemoveEvents removes single notifications, which is much dearer than [Conn.DropEvents]. One that is not there any more is no error.
func (c *Conn) RemoveEvents(ctx context.Context, seqs []uint64) error {
	stream, err := c.js.Stream(ctx, eventStream)
	if err != nil {
		return fmt.Errorf("remove events: %w", classify(err))
	}
	removing := pool.New().WithContext(ctx).WithMaxGoroutines(removeAtOnce).WithCancelOnError().WithFirstError()
	for _, seq := range seqs {
		removing.Go(func(ctx context.Context) error {
			err := stream.DeleteMsg(ctx, seq)
			if err == nil {
				return nil
			}
			if _, there := stream.GetMsg(ctx, seq); errors.Is(there, jetstream.ErrMsgNotFound) {
				return nil
			}
			return fmt.Errorf("remove event %d: %w", seq, classify(err))
		})
	}
	return removing.Wait() //nolint:wrapcheck // wrapped above
}

// LastEvent is the sequence of the last notification that lies in the stream for an org, as the leader of the stream knows it; 0: there is none.
func (c *Conn) LastEvent(ctx context.Context, org protocol.OrgID) (uint64, error) {
	stream, err := c.js.Stream(ctx, eventStream)
	if err != nil {
		return 0, fmt.Errorf("look at stream %s: %w", eventStream, classify(err))
	}
	msg, err := stream.GetLastMsgForSubject(ctx, protocol.EventFilter(org))
	if err = classify(err); errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look for the last event: %w", err)
	}
	return msg.Sequence, nil
}

// dropBelow removes what lies on the subjects that match a filter before a sequence.
func (c *Conn) dropBelow(ctx context.Context, name, filter string, seq uint64) error {
	stream, err := c.js.Stream(ctx, name)
	if err != nil {
		return fmt.Errorf("drop %s below %d: %w", filter, seq, classify(err))
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSubject(filter), jetstream.WithPurgeSequence(seq)); err != nil {
		return fmt.Errorf("drop %s below %d: %w", filter, seq, classify(err))
	}
	return nil
}

// EventOrgs are the orgs' tokens that notifications wait for. All that were stored before lie at or before the sequence last.
func (c *Conn) EventOrgs(ctx context.Context) (tokens []string, last uint64, err error) {
	stream, err := c.js.Stream(ctx, eventStream)
	if err != nil {
		return nil, 0, fmt.Errorf("look at stream %s: %w", eventStream, classify(err))
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(protocol.EventSubjects))
	if err != nil {
		return nil, 0, fmt.Errorf("look at stream %s: %w", eventStream, classify(err))
	}
	seen := map[string]bool{}
	for subject := range info.State.Subjects {
		if token := subject[strings.LastIndexByte(subject, '.')+1:]; !seen[token] {
			seen[token] = true
			tokens = append(tokens, token)
		}
	}
	return tokens, info.State.LastSeq, nil
}

// DropStray is [Conn.DropEvents] for a token of [Conn.EventOrgs], which need not be that of an org that there is.
func (c *Conn) DropStray(ctx context.Context, token string, through uint64) error {
	return c.dropBelow(ctx, eventStream, protocol.EventFilterOf(token), through+1)
}

// AppendTrigger appends to the journal of an org, whose last record must be the one with that sequence (0: there is none); else the error is
// [ErrConflict]. It returns the sequence of the record, which is durable. After any other error the record may be there or not: read the journal.
func (c *Conn) AppendTrigger(ctx context.Context, org protocol.OrgID, last uint64, record []byte) (uint64, error) {
	return c.publishOne(ctx, write{subject: protocol.TriggerSubject(org), data: pack(record), expect: &last})
}

// Triggers visits the journal of an org from the oldest record to the newest, and returns the sequence of that; 0: it is empty.
func (c *Conn) Triggers(ctx context.Context, org protocol.OrgID, visit func(seq uint64, record []byte) error) (uint64, error) {
	subject := protocol.TriggerSubject(org)
	stream, err := c.js.Stream(ctx, triggerStream)
	if err != nil {
		return 0, fmt.Errorf("read the journal %s: %w", subject, classify(err))
	}
	newest, err := stream.GetLastMsgForSubject(ctx, subject)
	if err = classify(err); errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the journal %s: %w", subject, err)
	}
	r := &reader{conn: c, stream: triggerStream, filter: subject}
	defer r.close()
	for r.last < newest.Sequence {
		got, err := r.fetch(ctx, fetchMost, requestTimeout)
		if err != nil {
			return 0, fmt.Errorf("read the journal %s: %w", subject, err)
		}
		if len(got) == 0 {
			return 0, fmt.Errorf("read the journal %s: %w: record %d does not come", subject, ErrUnavailable, newest.Sequence)
		}
		for _, m := range got {
			record, err := Unpack(m.msg.Data)
			if err != nil {
				return 0, fmt.Errorf("read record %d of the journal %s: %w", m.seq, subject, err)
			}
			if err := visit(m.seq, record); err != nil {
				return 0, err
			}
		}
	}
	return r.last, nil
}

// DropTriggers removes the records of an org before a sequence.
func (c *Conn) DropTriggers(ctx context.Context, org protocol.OrgID, seq uint64) error {
	return c.dropBelow(ctx, triggerStream, protocol.TriggerSubject(org), seq)
}

// EventsWaiting is the number of notifications of a kind that lie in the stream for an org.
func (c *Conn) EventsWaiting(ctx context.Context, org protocol.OrgID, kind protocol.EventKind) (uint64, error) {
	stream, err := c.js.Stream(ctx, eventStream)
	if err != nil {
		return 0, fmt.Errorf("look at stream %s: %w", eventStream, classify(err))
	}
	subject := protocol.EventSubject(kind, org)
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return 0, fmt.Errorf("look at stream %s: %w", eventStream, classify(err))
	}
	return info.State.Subjects[subject], nil
}

package triggers

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/producer/events"
	"github.com/copyfleet/copyfleet/protocol"
)

// arrived is an event that was read and waits to be decided on.
type arrived struct {
	seq    uint64
	index  int           // in its notification
	event  *events.Event // nil: it is the end mark of a sweep
	end    *sweepMessage
	parked bool // only the rules decide for which it was parked: a record says that it is decided on for all others
	replay bool // it is perhaps decided on for some rules: where it is, it is no repetition
	stored int64
	size   int // about what it takes in memory, in bytes
}

// take adds the events of a notification to those that are pending. What cannot be read is dropped: it never blocks what is behind it.
func (o *org) take(ctx context.Context, n *broker.Notification) {
	o.last = n.Seq
	o.stored = append(o.stored, n.Seq)
	var end *sweepMessage
	list, err := parse(n, &end)
	if err != nil {
		o.metrics.EventMalformed(ctx, string(n.Kind))
		o.log.LogAttrs(ctx, slog.LevelWarn, "a notification is dropped: it cannot be read", slog.Uint64("sequence", n.Seq),
			slog.String("kind", string(n.Kind)), slog.String("error", short(err.Error())))
		return
	}
	before, at := n.Seq <= o.m.through, -1
	if p := o.m.partial; p != nil && p.Seq == n.Seq {
		at = p.Event
	}
	for i := range list {
		a := arrived{seq: n.Seq, index: i, stored: n.Time.UnixNano()}
		a.parked = before || i < at
		a.replay = i == at
		if a.parked && !o.places[parked{Seq: n.Seq, Event: i}] {
			continue
		}
		e := list[i] // by itself, so that one that is parked for long does not keep the others of its notification
		a.event, a.size = &e, eventBytes+room(e.Fields)
		o.pending = append(o.pending, a)
		o.held += a.size
	}
	if end != nil && !before {
		o.pending = append(o.pending, arrived{seq: n.Seq, end: end, stored: n.Time.UnixNano()})
	}
}

// parse reads a notification.
func parse(n *broker.Notification, end **sweepMessage) ([]events.Event, error) {
	switch n.Kind {
	case protocol.EventS3:
		return events.ParseS3(n.Body) //nolint:wrapcheck // says what is wrong
	case protocol.EventSweep:
		m, err := decodeSweep(n.Body)
		if err != nil {
			return nil, err
		}
		if m.End != nil {
			*end = m
		}
		return m.events(), nil
	default:
		header := make(http.Header, len(n.Headers))
		for name, value := range n.Headers {
			header.Set(name, value)
		}
		return events.ParseCloudEvents(header, n.Body) //nolint:wrapcheck // says what is wrong
	}
}

// eventBytes is what an event takes in memory beside its fields.
const eventBytes = 2 << 10

// room is about what a JSON value takes in memory, in bytes: of small objects it is some hundred times what they take as text.
func room(v any) int {
	switch v := v.(type) {
	case map[string]any:
		n := 350 // of one with up to 8 members
		for name, member := range v {
			n += 32 + len(name) + room(member)
		}
		return n
	case []any:
		n := 24
		for _, element := range v {
			n += 16 + room(element)
		}
		return n
	case string:
		return 16 + len(v)
	case json.Number:
		return 16 + len(v)
	}
	return 0
}

// lost gives up parked events whose notifications are not in the stream any more: somebody else removed them. That none came is not enough to say
// so: who reads may be told by a server of a cluster that is behind.
func (o *org) lost(ctx context.Context) error {
	newest, err := o.streams.newest(ctx)
	if err != nil {
		return fmt.Errorf("look for events that wait: %w", err)
	}
	if newest > o.last {
		return nil
	}
	o.giveUp(ctx)
	return nil
}

// giveUp forgets the parked events that were not read again.
func (o *org) giveUp(ctx context.Context) {
	for p := range o.refs {
		o.log.LogAttrs(ctx, slog.LevelError, "an event that waited is gone from the stream", slog.Uint64("sequence", p.Seq), slog.String("rule", p.Rule))
		o.m.count(p.Rule).Waiting--
		o.unshown[p.Rule] = true
	}
	clear(o.refs)
}

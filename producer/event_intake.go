package producer

import (
	"context"
	"errors"
	"net/http"
	"net/textproto"
	"strings"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/producer/events"
	"github.com/copyfleet/copyfleet/producer/triggers"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	// maxEventHeaders bounds the headers that are stored with a CloudEvent, in bytes as they lie in the stream: JetStream stores 64 KiB.
	maxEventHeaders = 60 << 10
	// eventExpansion is how many bytes a notification takes at most for each of its own while it is being read, and maxEventExpanded how many in all: package
	// events bounds its values. The worst is a list of objects with one short member each, of which 350 KB took 21 MiB.
	eventExpansion   = 64
	maxEventExpanded = 24 << 20
	// maxEventMemory bounds the notifications that are being read at one moment, in bytes that they take, over all calls.
	maxEventMemory = 256 << 20
	// eventsFullRetry is the Retry-After in seconds when the stream of events has no room: it empties as fast as copies are made.
	eventsFullRetry = 5
)

// eventStore stores notifications. [triggers.Service] is one.
type eventStore interface {
	Accept(ctx context.Context, org protocol.OrgID, kind protocol.EventKind, attributes map[string]string, body []byte) error
}

// eventsAnswer says how many events were taken.
type eventsAnswer struct {
	Events int `json:"events"`
}

// takeS3Events answers POST /v1/events/s3. MinIO's webhook target sends such a notification for each event, and again until it is answered 2xx.
func (s *Server) takeS3Events(w http.ResponseWriter, r *http.Request) {
	if p := checkMediaType(r.Header); p != nil {
		writeProblem(w, r, *p)
		return
	}
	s.takeEvents(w, r, protocol.EventS3, nil, events.ParseS3)
}

// takeCloudEvents answers POST /v1/events/cloudevents. The body may be of any type: in binary mode it is the event's data.
func (s *Server) takeCloudEvents(w http.ResponseWriter, r *http.Request) {
	if p := checkEncoding(r.Header); p != nil {
		writeProblem(w, r, *p)
		return
	}
	attributes := eventHeaders(r.Header)
	if attributes == nil {
		writeProblem(w, r, newProblem(CodeInvalidHeader, "The headers of the event are larger than 61440 bytes."))
		return
	}
	s.takeEvents(w, r, protocol.EventCloud, attributes, func(body []byte) ([]events.Event, error) {
		return events.ParseCloudEvents(r.Header, body)
	})
}

// maxOrigin bounds the name of a sender, in bytes: that of a DNS name.
const maxOrigin = 253

// allowCloudEvents answers OPTIONS /v1/events/cloudevents: a sender asks whether it may deliver (CloudEvents, "HTTP 1.1 Web Hooks for Event Delivery" 1.0.2,
// 4). One that has a key of the role may, as fast as it likes: what is too fast is answered 503 with Retry-After.
func (s *Server) allowCloudEvents(w http.ResponseWriter, r *http.Request) {
	origins := r.Header.Values("Webhook-Request-Origin")
	switch {
	case s.events == nil:
		writeProblem(w, r, newProblem(CodeNotFound, "This server takes no events."))
		return
	case len(origins) != 1 || origins[0] == "" || len(origins[0]) > maxOrigin || !visibleASCII(origins[0]):
		writeProblem(w, r, newProblem(CodeInvalidHeader, "A sender that asks whether it may deliver names itself in one header WebHook-Request-Origin."))
		return
	}
	h := w.Header()
	h.Set("Allow", "OPTIONS, POST")
	h.Set("Webhook-Allowed-Origin", origins[0])
	h.Set("Webhook-Allowed-Rate", "*")
	w.WriteHeader(http.StatusOK)
}

// takeEvents reads a notification and stores it as it came: one message, which is durable whole or not at all.
func (s *Server) takeEvents(w http.ResponseWriter, r *http.Request, kind protocol.EventKind, attributes map[string]string,
	parse func([]byte) ([]events.Event, error),
) {
	if s.events == nil {
		writeProblem(w, r, newProblem(CodeNotFound, "This server takes no events."))
		return
	}
	b, p := s.readBytes(w, r, events.MaxBody)
	if p != nil {
		writeProblem(w, r, *p)
		return
	}
	defer b.Release()
	n, p := s.countEvents(principalOf(r).Org, b.bytes, parse)
	if p != nil {
		writeProblem(w, r, *p)
		return
	}
	if n > 0 { // S3's test event, and an empty batch, are nothing to store
		if err := s.events.Accept(r.Context(), principalOf(r).Org, kind, attributes, b.bytes); err != nil {
			s.refuseEvents(w, r, err)
			return
		}
	}
	writeJSON(w, http.StatusAccepted, eventsAnswer{Events: n})
}

// countEvents parses a notification, so that its sender is told what is wrong with it.
func (s *Server) countEvents(org protocol.OrgID, body []byte, parse func([]byte) ([]events.Event, error)) (int, *Problem) {
	held := share{budget: s.eventMemory, org: org}
	if !held.take(min(eventExpansion*int64(len(body)), maxEventExpanded)) {
		return 0, busy()
	}
	defer held.release()
	list, err := parse(body)
	if err == nil {
		return len(list), nil
	}
	return 0, eventProblem(err)
}

// refuseEvents answers when a notification could not be stored. Its sender is to send it again.
func (s *Server) refuseEvents(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, triggers.ErrEventFull):
		p := newProblem(CodeEventsFull, "Too many events wait to be dealt with. Send it again later.")
		p.retryAfter = eventsFullRetry
		writeProblem(w, r, p)
	case errors.Is(err, triggers.ErrNotReady):
		writeProblem(w, r, newProblem(CodeNotReady, "The rules are still being loaded. Send it again later."))
	case errors.Is(err, broker.ErrNoSpace):
		s.fault(r, "no event is taken: the disk is nearly full", err)
		p := newProblem(CodeNoSpace, "The server's disk is nearly full; nothing was accepted. Send it again later.")
		p.retryAfter = noSpaceRetry
		writeProblem(w, r, p)
	case errors.Is(err, broker.ErrTooLarge): // of a broker that was set to take less than ours does
		writeProblem(w, r, newProblem(CodeBodyTooLarge, "The notification is larger than the queue takes."))
	default:
		s.fault(r, "store an event", err)
		writeProblem(w, r, newProblem(CodeUnavailable, "The event could not be stored. Send it again later."))
	}
}

// eventHeaders returns the headers that belong to a CloudEvent, and no other: the key of the call is among them. It is nil if they are too large.
func eventHeaders(h http.Header) map[string]string {
	kept, size := map[string]string{}, 0
	for name, values := range h {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		if canonical != "Content-Type" && !strings.HasPrefix(canonical, "Ce-") || len(values) == 0 {
			continue
		}
		kept[canonical] = values[0] // a second one was refused, or does not count
		size += len(canonical) + len(values[0]) + len(": \r\n")
	}
	if size > maxEventHeaders {
		return nil
	}
	return kept
}

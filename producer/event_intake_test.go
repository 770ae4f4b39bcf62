package producer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/producer/events"
	"github.com/copyfleet/copyfleet/producer/triggers"
	"github.com/copyfleet/copyfleet/protocol"
)

// inbox is where notifications are stored: in the broker, or nowhere and with an error.
type inbox struct {
	conn *broker.Conn

	mu    sync.Mutex
	taken int
	last  []byte // that was taken
	fails error
}

// Accept implements eventStore.
func (b *inbox) Accept(ctx context.Context, org protocol.OrgID, kind protocol.EventKind, attributes map[string]string, body []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fails != nil {
		return b.fails
	}
	b.taken++
	b.last = bytes.Clone(body)
	if b.conn == nil {
		return nil
	}
	_, err := b.conn.PublishEvent(ctx, org, kind, attributes, body)
	return err
}

func (b *inbox) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fails = err
}

// newInbox puts an inbox behind the front of a bundle.
func newInbox(b *bundle, conn *broker.Conn) *inbox {
	box := &inbox{conn: conn}
	b.server.events = box
	return box
}

const (
	minioBody = `{"EventName":"s3:ObjectCreated:Put","Key":"in/a b","Records":[{"eventSource":"minio:s3","eventTime":"2030-01-01T00:00:00.000Z",` +
		`"eventName":"s3:ObjectCreated:Put","s3":{"bucket":{"name":"in"},"object":{"key":"a+b%252F","size":1,"eTag":"e","sequencer":"17A"}}}]}`
	cloudBody = `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1}}`
)

// TestEventsAreStoredAsTheyCame sends each form of a notification and reads from the stream what a rule would get to see.
func TestEventsAreStoredAsTheyCame(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	newInbox(s.bundle, s.conn)
	d := newDescription(t, apiDescription)
	minio := []string{"Content-Type", "application/json", "User-Agent", "MinIO (linux; amd64) MinIO/DEVELOPMENT"}
	binary := []string{"ce-specversion", "1.0", "ce-id", "a%20%E2%82%AC", "ce-source", "/s", "ce-type", "t", "Content-Type", "text/csv", "X-Other", "x"}
	for i, tc := range []struct {
		path, body string
		header     []string
		kind       protocol.EventKind
		stored     map[string]string // headers
		events     int
		id         string // of the first event: what tells it from others
	}{
		{"/v1/events/s3", minioBody, minio, protocol.EventS3, nil, 1, "a b%2F"},
		{"/v1/events/cloudevents", "a,b", binary, protocol.EventCloud, map[string]string{
			"Ce-Specversion": "1.0", "Ce-Id": "a%20%E2%82%AC", "Ce-Source": "/s", "Ce-Type": "t", "Content-Type": "text/csv",
		}, 1, "a €"},
		{"/v1/events/cloudevents", cloudBody, []string{"Content-Type", "application/cloudevents+json"}, protocol.EventCloud, map[string]string{
			"Content-Type": "application/cloudevents+json",
		}, 1, "1"},
		{"/v1/events/cloudevents", "[" + cloudBody + "," + cloudBody + "]", []string{"Content-Type", "application/cloudevents-batch+json; charset=utf-8"},
			protocol.EventCloud, map[string]string{"Content-Type": "application/cloudevents-batch+json; charset=utf-8"}, 2, "1"},
	} {
		org := protocol.OrgID("one")
		if i%2 == 1 {
			org = "two"
		}
		a := s.call(string(org)+"/copy", "POST", tc.path, tc.body, tc.header...).want(http.StatusAccepted, "")
		d.check(t, "POST", tc.path, a)
		if got := decode[eventsAnswer](a); got.Events != tc.events {
			t.Errorf("%s: %d events were taken", tc.body, got.Events)
		}
		got := s.nextEvent(org)
		if got.Kind != tc.kind || string(got.Body) != tc.body || !maps.Equal(got.Headers, tc.stored) {
			t.Errorf("stored is %s %v %s", got.Kind, got.Headers, got.Body)
		}
		read := readNotification(t, got)
		if len(read) != tc.events || read[0].Key+read[0].ID != tc.id {
			t.Errorf("read again: %+v", read)
		}
		if err := s.conn.DropEvents(t.Context(), org, got.Seq); err != nil {
			t.Fatal(err)
		}
	}
}

func readNotification(t *testing.T, n broker.Notification) []events.Event {
	t.Helper()
	h := http.Header{}
	for name, value := range n.Headers {
		h.Set(name, value)
	}
	read, err := events.ParseS3(n.Body)
	if n.Kind == protocol.EventCloud {
		read, err = events.ParseCloudEvents(h, n.Body)
	}
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// nextEvent returns the one notification that lies there for an org.
func (s *stage) nextEvent(org protocol.OrgID) broker.Notification {
	s.Helper()
	reader, err := s.conn.Events(s.Context(), org, 0)
	if err != nil {
		s.Fatal(err)
	}
	defer reader.Close()
	list, err := reader.Fetch(s.Context(), 10, 4*time.Minute)
	if err != nil || len(list) != 1 {
		s.Fatalf("%d notifications, %v", len(list), err)
	}
	return list[0]
}

// TestEventsRefused answers what is malformed, and stores nothing of it.
func TestEventsRefused(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Config{})
	box := newInbox(b, nil)
	d := newDescription(t, apiDescription)
	const s3, cloud = "/v1/events/s3", "/v1/events/cloudevents"
	record := `{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"k"}}}`
	structured := []string{"Content-Type", "application/cloudevents+json"}
	for _, tc := range []struct {
		path, body string
		header     []string
		status     int
		code       Code
		pointer    string
	}{
		{s3, "", nil, 400, CodeEventMalformed, ""},
		{s3, "{}", nil, 400, CodeEventMalformed, "/Records"},
		{s3, `{"Records":[` + record + `,` + strings.Replace(record, `"k"`, `"%"`, 1) + `]}`, nil, 400, CodeEventMalformed, "/Records/1/s3/object/key"},
		{s3, strings.Replace(`{"Records":[`+record+`]}`, `"k"`, `"`+strings.Repeat("k", 1_000_000)+`"`, 1), nil, 400, CodeEventMalformed, "/Records/0/s3/object/key"},
		{s3, `{"Records":[],"Records":[]}`, nil, 400, CodeEventMalformed, ""},
		{s3, strings.Repeat("x", events.MaxBody+1), nil, 413, CodeBodyTooLarge, ""},
		{s3, minioBody, []string{"Content-Type", "text/plain"}, 415, CodeUnsupportedMedia, ""},
		{s3, minioBody, []string{"Content-Encoding", "gzip"}, 415, CodeUnsupportedMedia, ""},
		{cloud, "", nil, 400, CodeEventMalformed, ""},
		{cloud, `{"specversion":"1.0"}`, structured, 400, CodeEventMalformed, "/id"},
		{cloud, cloudBody, []string{"Content-Type", "application/cloudevents+avro"}, 400, CodeEventMalformed, ""},
		{cloud, "[" + cloudBody + ",{}]", []string{"Content-Type", "application/cloudevents-batch+json"}, 400, CodeEventMalformed, "/1/specversion"},
		{cloud, "x", []string{"Ce-Id", "1"}, 400, CodeEventMalformed, "/specversion"},
		{cloud, strings.Repeat("x", events.MaxBody+1), structured, 413, CodeBodyTooLarge, ""},
		{cloud, cloudBody, append([]string{"Ce-Extension", strings.Repeat("x", maxEventHeaders)}, structured...), 400, CodeInvalidHeader, ""},
		{cloud, cloudBody, append([]string{"Content-Encoding", "gzip"}, structured...), 415, CodeUnsupportedMedia, ""},
	} {
		a := b.call("one/copy", "POST", tc.path, tc.body, tc.header...)
		what := fmt.Sprintf("%s %v %.60s", tc.path, tc.header, tc.body)
		if a.status != tc.status {
			t.Errorf("%.200s: %d %s", what, a.status, a.body)
			continue
		}
		d.check(t, "POST", tc.path, a)
		p := a.problem()
		if p.Code != tc.code || tc.code == CodeEventMalformed && (len(p.Errors) != 1 || p.Errors[0].Pointer != tc.pointer) || len(a.body) > 2048 {
			t.Errorf("%.200s: %s", what, a.body)
		}
	}
	if box.taken != 0 {
		t.Errorf("%d of them were stored", box.taken)
	}
}

// TestEventsWithoutContent are answered 202, and are nothing to store.
func TestEventsWithoutContent(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Config{})
	box := newInbox(b, nil)
	test := `{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2014-10-13T15:57:02.089Z","Bucket":"b","RequestId":"r","HostId":"h"}`
	for _, a := range []answer{
		b.call("one/copy", "POST", "/v1/events/s3", test, "Content-Type", "application/json"),
		b.call("one/copy", "POST", "/v1/events/cloudevents", "[]", "Content-Type", "application/cloudevents-batch+json"),
	} {
		if got := decode[eventsAnswer](a.want(http.StatusAccepted, "")); got.Events != 0 {
			t.Errorf("%d events", got.Events)
		}
	}
	if box.taken != 0 {
		t.Errorf("%d were stored", box.taken)
	}
}

// TestEventsNeedARole of those who may copy: an event is an order to.
func TestEventsNeedARole(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Config{})
	box := newInbox(b, nil)
	for _, tc := range []struct {
		who    string
		status int
		code   Code
	}{{"", 401, CodeUnauthorized}, {"one/read", 403, CodeForbidden}, {"one/copy", 202, ""}, {"one/admin", 202, ""}} {
		b.call(tc.who, "POST", "/v1/events/s3", minioBody).want(tc.status, tc.code)
		b.call(tc.who, "POST", "/v1/events/cloudevents", cloudBody).want(tc.status, tc.code)
	}
	if box.taken != 4 {
		t.Errorf("%d were stored", box.taken)
	}
	// Older MinIO asks with HEAD whether somebody is there; any answer will do.
	if a := b.call("", "HEAD", "/v1/events/s3", ""); a.status != http.StatusMethodNotAllowed {
		t.Errorf("HEAD: %d", a.status)
	}
}

// TestEventsThatCannotBeStored are to be sent again, and nothing inner is told.
func TestEventsThatCannotBeStored(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Config{})
	d := newDescription(t, apiDescription)
	b.call("one/copy", "POST", "/v1/events/s3", minioBody).want(404, CodeNotFound)
	box := newInbox(b, nil)
	for _, tc := range []struct {
		err    error
		status int
		code   Code
		retry  string
	}{
		{fmt.Errorf("stream: %w", triggers.ErrEventFull), 503, CodeEventsFull, "5"},
		{triggers.ErrNotReady, 503, CodeNotReady, "1"},
		{broker.ErrNoSpace, 503, CodeNoSpace, "30"},
		{broker.ErrTooLarge, 413, CodeBodyTooLarge, ""},
		{errors.New("INNER"), 503, CodeUnavailable, "1"},
	} {
		box.fail(tc.err)
		for _, path := range []string{"/v1/events/s3", "/v1/events/cloudevents"} {
			body := map[string]string{"/v1/events/s3": minioBody, "/v1/events/cloudevents": cloudBody}[path]
			a := b.call("one/copy", "POST", path, body).want(tc.status, tc.code)
			d.check(t, "POST", path, a)
			if diff := cmp.Diff(tc.retry, a.header.Get("Retry-After")); diff != "" || strings.Contains(string(a.body), "INNER") {
				t.Errorf("%s: %s\n%s", path, a.body, diff)
			}
		}
	}
}

// TestEventsTakeMemoryWithinBounds refuses what would take more, and gives back what was taken.
func TestEventsTakeMemoryWithinBounds(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Config{})
	newInbox(b, nil)
	s := b.server
	if !s.eventMemory.take("one", s.eventMemory.limit-s.eventMemory.others-1) {
		t.Fatal("there is no room at the start")
	}
	b.call("one/copy", "POST", "/v1/events/s3", minioBody).want(503, CodeBusy)
	b.call("two/copy", "POST", "/v1/events/s3", minioBody).want(202, "")
	s.eventMemory.give("one", s.eventMemory.limit-s.eventMemory.others-1)
	b.call("one/copy", "POST", "/v1/events/s3", minioBody).want(202, "")
	b.call("one/copy", "POST", "/v1/events/s3", "{").want(400, CodeEventMalformed)
	if s.eventMemory.used != 0 {
		t.Errorf("%d bytes were not given back", s.eventMemory.used)
	}
}

// TestSendersAskFirst: the handshake of web hooks of CloudEvents, which is no way around the key.
func TestSendersAskFirst(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Config{})
	box := newInbox(b, nil)
	const path, origin = "/v1/events/cloudevents", "WebHook-Request-Origin"
	a := b.call("one/copy", "OPTIONS", path, "", origin, "eventemitter.example.com", "WebHook-Request-Rate", "120").want(http.StatusOK, "")
	for name, want := range map[string]string{"WebHook-Allowed-Origin": "eventemitter.example.com", "WebHook-Allowed-Rate": "*", "Allow": "OPTIONS, POST"} {
		if got := a.header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, refused := range []struct {
		who    string
		status int
		code   Code
		header []string
	}{
		{"one/copy", http.StatusBadRequest, CodeInvalidHeader, nil},
		{"one/copy", http.StatusBadRequest, CodeInvalidHeader, []string{origin, ""}},
		{"one/copy", http.StatusBadRequest, CodeInvalidHeader, []string{origin, "a b"}},
		{"one/copy", http.StatusBadRequest, CodeInvalidHeader, []string{origin, strings.Repeat("a", maxOrigin+1)}},
		{"one/read", http.StatusForbidden, CodeForbidden, []string{origin, "a.test"}},
		{"", http.StatusUnauthorized, CodeUnauthorized, []string{origin, "a.test"}},
	} {
		a := b.call(refused.who, "OPTIONS", path, "", refused.header...).want(refused.status, refused.code)
		if a.header.Get("Webhook-Allowed-Origin") != "" {
			t.Errorf("%+v may deliver", refused)
		}
		newDescription(t, apiDescription).check(t, "OPTIONS", path, a)
	}
	b.call("one/copy", "GET", path, "").want(http.StatusMethodNotAllowed, CodeMethodNotAllowed)
	if box.taken != 0 {
		t.Errorf("%d events were taken", box.taken)
	}
}

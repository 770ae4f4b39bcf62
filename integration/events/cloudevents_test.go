package events

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/copyfleet/copyfleet/producer/triggers"
	"github.com/copyfleet/copyfleet/protocol"
)

// fromURLs is a rule that copies what CloudEvents of a type name in their data.
func (f *fleet) fromURLs(name, kind string) string {
	return fmt.Sprintf(`name: %[1]s
match: {source: cloudevents, types: [%[2]q]}
copy:
  id: "{{event.source}} {{event.id}}"
  src: {type: httpGetLocation, url: "{{event.data.url}}"}
  dest: {type: sandboxFileLocation, sandbox: %[3]s, path: "/%[1]s/{{event.subject}}"}
`, name, kind, f.Sandbox)
}

const ready = "com.example.file.ready"

// cloudEvent is one in structured mode. What it names has the content "at " and the subject.
func (f *fleet) cloudEvent(kind, origin, id, subject string) map[string]any {
	return map[string]any{
		"specversion": "1.0", "type": kind, "source": origin, "id": id, "subject": subject, "datacontenttype": "application/json",
		"data": map[string]any{"url": f.Give("/cloud/"+subject, []byte("at "+subject))},
	}
}

// asText is a value in JSON.
func asText(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// binary are the headers and the body of an event in binary mode.
func binary(t *testing.T, event map[string]any) (map[string]string, string) {
	t.Helper()
	header := map[string]string{"Content-Type": "application/json"}
	for name, value := range event {
		if text, ok := value.(string); ok && name != "datacontenttype" {
			header["ce-"+name] = text
		}
	}
	return header, asText(t, event["data"])
}

// cloudEvents come in each mode, over HTTP and over NATS.
func cloudEvents(t *testing.T, f *fleet) {
	t.Helper()
	const rule = "from-clouds"
	f.apply(t, f.fromURLs(rule, ready))
	const path, structured, batched = "/v1/events/cloudevents", "application/cloudevents+json", "application/cloudevents-batch+json"
	accepted := func(n int, contentType, body string, header map[string]string) {
		t.Helper()
		if header == nil {
			header = map[string]string{"Content-Type": contentType}
		}
		if a := f.send(t, f.API, path, header, body); a.Status != http.StatusAccepted || string(a.Body) == "" {
			t.Errorf("%s with %d events: status %d: %s", contentType, n, a.Status, a.Body)
		}
	}
	event := func(id string) map[string]any { return f.cloudEvent(ready, "/test/a", id, id) }
	header, body := binary(t, event("http-binary"))
	accepted(1, "binary", body, header)
	accepted(1, structured, asText(t, event("http-structured")), nil)
	accepted(1, structured+"; charset=utf-8", asText(t, event("http-charset")), nil)
	accepted(3, batched, asText(t, []any{event("batch-1"), event("batch-2"), f.cloudEvent("com.example.other", "/test/a", "x", "x")}), nil)
	js := f.JetStream(t)
	publish := func(header map[string]string, body string) {
		t.Helper()
		m := &nats.Msg{Subject: protocol.EventSubject(protocol.EventCloud, protocol.OrgID(f.API.Org)), Data: []byte(body), Header: nats.Header{}}
		for name, value := range header {
			m.Header[name] = []string{value} // as it is: NATS does not change the case of names
		}
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Error(err)
		}
	}
	header, body = binary(t, event("nats-binary"))
	publish(header, body)
	publish(map[string]string{"content-type": structured}, asText(t, event("nats-structured")))
	publish(nil, asText(t, event("nats-bare")))
	publish(map[string]string{"Content-Type": batched}, asText(t, []any{event("nats-batch-1"), event("nats-batch-2")}))
	ids := []string{"http-binary", "http-structured", "http-charset", "batch-1", "batch-2", "nats-binary", "nats-structured", "nats-bare", "nats-batch-1", "nats-batch-2"}
	f.copied(t, rule, len(ids))
	// The same id of the same source is a repetition, whatever else it says; of another source it is not.
	accepted(1, structured, asText(t, f.cloudEvent(ready, "/test/a", "batch-1", "not-copied")), nil)
	accepted(1, structured, asText(t, f.cloudEvent(ready, "/test/b", "batch-1", "elsewhere")), nil)
	f.copied(t, rule, len(ids)+1)
	for _, id := range append(ids, "elsewhere") {
		f.holds(t, rule, id, "at "+id)
	}
	if c := f.counts(t, rule, func(c triggers.Counts) bool { return c.Duplicates == 1 && c.Matched > len(ids)+1 }).Counts; c.Copies != len(ids)+1 || c.Refused != 0 {
		t.Errorf("the counts are %+v", c)
	}
}

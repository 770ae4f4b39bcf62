package events

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/producer/triggers"
	"github.com/copyfleet/copyfleet/protocol"
)

// nonsense are notifications of S3 that nothing can be made of.
func nonsense() map[string]string {
	good := notification(record{bucket: "b", key: "k", sequencer: "1"})
	return map[string]string{
		"nothing": "", "no JSON": "event!", "a list": "[1,2]", "a number": "7", "half of one": good[:len(good)/2], "more behind it": good + "{}",
		"a bad escape": strings.Replace(good, `"key":"k"`, `"key":"%zz"`, 1), "a key of 1 MB": notification(record{bucket: "b", key: strings.Repeat("k", 1e6)}),
		"no key": strings.Replace(good, `"key":"k",`, "", 1), "a size in words": strings.Replace(good, `"size":0`, `"size":"big"`, 1),
		"no bytes of a text": strings.Replace(good, `"key":"k"`, `"key":"%FF%FE"`, 1),
	}
}

// malformed notifications are refused over HTTP, and disturb nobody over NATS.
func malformed(t *testing.T, f *fleet) {
	t.Helper()
	const rule = "undisturbed"
	bucket := f.publishing(t, natsCore)
	f.apply(t, f.toSandbox(rule, bucket))
	js, subject := f.JetStream(t), protocol.EventSubject(protocol.EventS3, protocol.OrgID(f.API.Org))
	for name, body := range nonsense() {
		a := f.send(t, f.API, "/v1/events/s3", nil, body)
		var problem struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		}
		if err := json.Unmarshal(a.Body, &problem); err != nil || a.Status != http.StatusBadRequest || problem.Code == "" || problem.Message == "" {
			t.Errorf("%s: status %d, %v: %.300s", name, a.Status, err, a.Body)
		}
		if len(a.Body) > 2000 {
			t.Errorf("%s is answered with %d bytes", name, len(a.Body))
		}
		if _, err := js.Publish(t.Context(), subject, []byte(body)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := js.Publish(t.Context(), protocol.EventSubject(protocol.EventCloud, protocol.OrgID(f.API.Org)), []byte(body)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for path, body := range map[string]string{"/v1/events/s3": `{"Records":[` + strings.Repeat(" ", 2<<20) + `]}`, "/v1/events/cloudevents": strings.Repeat(" ", 2<<20)} {
		if a := f.send(t, f.API, path, map[string]string{"Content-Type": "application/cloudevents+json"}, body); a.Status != http.StatusRequestEntityTooLarge {
			t.Errorf("2 MiB to %s: status %d: %.300s", path, a.Status, a.Body)
		}
	}
	for name, body := range map[string]string{
		"no id": `{"specversion":"1.0","type":"t","source":"/s"}`, "another version": `{"specversion":"9","type":"t","source":"/s","id":"1"}`,
		"empty type": `{"specversion":"1.0","type":"","source":"/s","id":"1"}`, "no JSON": "<event/>", "two of a name": `{"specversion":"1.0","type":"t","source":"/s","id":"1","id":"2"}`,
	} {
		a := f.send(t, f.API, "/v1/events/cloudevents", map[string]string{"Content-Type": "application/cloudevents+json"}, body)
		if a.Status != http.StatusBadRequest {
			t.Errorf("a CloudEvent with %s: status %d: %s", name, a.Status, a.Body)
		}
	}
	// What is well-formed, but known to nobody, is taken.
	f.notify(t, record{event: "s3:SomethingNew:Happened", bucket: bucket, key: "unknown", sequencer: "1"})
	if a := f.send(t, f.API, "/v1/events/s3", nil, `{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-01-02T03:04:05.678Z","Bucket":"b","RequestId":"r","HostId":"h"}`); a.Status/100 != 2 {
		t.Errorf("the test event of S3: status %d: %s", a.Status, a.Body)
	}
	f.puts(t, bucket, "x", "as if nothing had been")
	f.copied(t, rule, 1)
	f.holds(t, rule, "x", "as if nothing had been")
	if c := f.counts(t, rule, func(c triggers.Counts) bool { return c.Copies == 1 }).Counts; c.Matched != 1 {
		t.Errorf("the counts are %+v", c)
	}
}

// expensive is a rule whose expression looks at the 400 million pairs of what an event brings.
func expensive(t *testing.T, f *fleet) {
	t.Helper()
	const rule = "expensive"
	f.apply(t, strings.Replace(f.fromURLs(rule, "com.example.expensive"), "types:", `when: "data.n.all(x, data.n.all(y, x + y >= 0.0))", types:`, 1))
	event := f.cloudEvent("com.example.expensive", "/test", "1", "never")
	numbers := make([]int, 20_000)
	event["data"] = map[string]any{"n": numbers}
	if a := f.send(t, f.API, "/v1/events/cloudevents", map[string]string{"Content-Type": "application/cloudevents+json"}, asText(t, event)); a.Status != http.StatusAccepted {
		t.Fatalf("status %d: %s", a.Status, a.Body)
	}
	v := f.counts(t, rule, func(c triggers.Counts) bool { return c.Refused == 1 })
	if len(v.Problems) != 1 || v.Problems[0].Code != "expression_failed" || v.Counts.Copies != 0 {
		t.Errorf("the rule is shown as %+v", v)
	}
}

// escaping are names that would lead out of where a rule writes.
func escaping(t *testing.T, f *fleet) {
	t.Helper()
	const rule, bucket = "confined", "not-looked-at-by-confined"
	f.apply(t, f.versions(rule, bucket))
	keys := []string{"../../x", "..", "a/../../../x", "/etc/passwd", "a\x00b", "", "./x"}
	for i, key := range keys {
		if key == "" {
			continue // there is no such key
		}
		f.notify(t, record{bucket: bucket, key: key, sequencer: sequencer(i)})
	}
	v := f.counts(t, rule, func(c triggers.Counts) bool { return c.Refused == len(keys)-1 })
	for _, p := range v.Problems {
		if p.Code != "escapes" {
			t.Errorf("refused: %+v", p)
		}
	}
	if entries, err := os.ReadDir(f.OnDisk("/" + rule)); err == nil && len(entries) > 0 || v.Counts.Copies != 0 {
		t.Errorf("there are %v, the counts are %+v", entries, v.Counts)
	}
}

// ruleFiles are refused as a whole, with the line of each problem.
func ruleFiles(t *testing.T, f *fleet) {
	t.Helper()
	good := f.toSandbox("good-one", "some-bucket")
	for name, test := range map[string]struct {
		document string
		line     int
	}{
		"an unknown member":      {strings.Replace(good, "copy:", "copied: yes\ncopy:", 1), 3},
		"an unknown placeholder": {strings.Replace(good, `{{key}}"}`+"\n  dest", `{{kee}}"}`+"\n  dest", 1), 5},
		"an expression":          {strings.Replace(good, "source: s3", `source: s3, when: "size +"`, 1), 2},
		"no bool":                {strings.Replace(good, "source: s3", `source: s3, when: "size + 1"`, 1), 2},
		"an unknown event":       {strings.Replace(good, "source: s3", `source: s3, events: ["s3:ObjectBorn:*"]`, 1), 2},
		"climbing":               {strings.Replace(good, `path: "/`, `path: "/../`, 1), 6},
		"a placeholder host":     {strings.Replace(f.versions("good-one", "some-bucket"), f.URL, "http://{{key}}", 1), 5},
		"no YAML":                {"name: [", 2},
	} {
		body := good + "---\n" + strings.ReplaceAll(test.document, "good-one", "bad-one")
		a := f.send(t, f.API, "/v1/rules", map[string]string{"Content-Type": "application/yaml"}, body)
		lines := strings.Count(good, "\n") + 1
		var problem struct {
			Errors []struct {
				Line    int    `json:"line"`
				Message string `json:"message"`
			} `json:"errors"`
		}
		if err := json.Unmarshal(a.Body, &problem); err != nil || a.Status != http.StatusBadRequest || len(problem.Errors) == 0 {
			t.Errorf("%s: status %d, %v: %s", name, a.Status, err, a.Body)
			continue
		}
		if e := problem.Errors[0]; e.Message == "" || e.Line != lines+test.line {
			t.Errorf("%s in line %d is told as %+v", name, lines+test.line, e)
		}
	}
	if _, err := f.view(t.Context(), "good-one"); err == nil || !strings.Contains(err.Error(), fmt.Sprint(http.StatusNotFound)) {
		t.Errorf("a valid rule beside an invalid one: %v", err)
	}
}

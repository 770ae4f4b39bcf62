package rules

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/producer/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// parsed returns the one rule of a document that is valid.
func parsed(t *testing.T, text string) *Rule {
	t.Helper()
	list, problems := Parse([]byte(text))
	if len(problems) > 0 || len(list) != 1 {
		t.Fatalf("%d rules, problems %+v, want one rule and none", len(list), problems)
	}
	return list[0]
}

const twoRules = `name: ingest
match: {source: s3, events: ["s3:ObjectCreated:*"], bucket: incoming, prefix: raw/, suffix: .csv}
copy:
  src: {type: objectLocation, bucket: "{{bucket}}", key: "{{key}}"}
  dest: {type: sandboxFileLocation, sandbox: SBX-1, path: "/in/{{key.base}}"}
---
name: from-cloudevents
match: {source: cloudevents, types: ["com.example.file.ready"]}
copy:
  src: {type: httpGetLocation, url: "{{event.data.url}}"}
  dest: {type: sandboxFileLocation, sandbox: SBX-1, path: "/ce/{{event.id}}"}
`

func TestTwoRules(t *testing.T) {
	t.Parallel()
	list, problems := Parse([]byte(twoRules))
	if len(problems) > 0 || len(list) != 2 {
		t.Fatalf("%d rules, problems %+v", len(list), problems)
	}
	e := events.Event{Source: events.S3, Type: "s3:ObjectCreated:Put", Bucket: "incoming", Key: "raw/a/b.csv", Size: 3, Fields: map[string]any{}}
	c := events.Event{Source: events.CloudEvents, Type: "com.example.file.ready", ID: "1", Fields: map[string]any{"id": "1", "data": map[string]any{"url": "http://h/x?y=1"}}}
	for i, test := range []struct {
		event *events.Event
		want  string
	}{
		{&e, `{"src":{"type":"objectLocation","bucket":"incoming","key":"raw/a/b.csv"},"dest":{"type":"sandboxFileLocation","sandbox":"SBX-1","path":"/in/b.csv"}}`},
		{&c, `{"src":{"type":"httpGetLocation","url":"http://h/x?y=1"},"dest":{"type":"sandboxFileLocation","sandbox":"SBX-1","path":"/ce/1"}}`},
	} {
		if ok, err := list[i].Matches(t.Context(), test.event); !ok || err != nil {
			t.Errorf("rule %d: matches %v, %v", i, ok, err)
		}
		if ok, err := list[1-i].Matches(t.Context(), test.event); ok || err != nil {
			t.Errorf("rule %d: matches the event of the other: %v, %v", i, ok, err)
		}
		if got, err := list[i].Render(test.event, nil); err != nil || string(got) != test.want {
			t.Errorf("rule %d:\n got %s, %v\nwant %s", i, got, err, test.want)
		}
	}
}

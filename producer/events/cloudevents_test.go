package events

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
)

const (
	oneEvent = "application/cloudevents+json"
	aBatch   = "application/cloudevents-batch+json"
)

// ceHeader makes headers of pairs, with the names as they are given: NATS keeps them so.
func ceHeader(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h[pairs[i]] = append(h[pairs[i]], pairs[i+1])
	}
	return h
}

func parseOne(t *testing.T, h http.Header, body string) Event {
	t.Helper()
	list, err := ParseCloudEvents(h, []byte(body))
	if err != nil || len(list) != 1 {
		t.Fatalf("%d events, %v", len(list), err)
	}
	return list[0]
}

// TestCloudEventModes reads one event in each of the ways in which it comes.
func TestCloudEventModes(t *testing.T) {
	t.Parallel()
	const body = `{"specversion":"1.0","id":"1","source":"/s","type":"com.example.ready","subject":"a","time":"2030-01-02T03:04:05.5+01:00",` +
		`"datacontenttype":"application/json","dataschema":"https://example.test/s","myext":"x","n":7,"b":true,"data":{"url":"https://example.test/a","n":12345678901234567890}}`
	data := map[string]any{"url": "https://example.test/a", "n": json.Number("12345678901234567890")}
	want := Event{
		Source: CloudEvents, Type: "com.example.ready", ID: "1", Origin: "/s", Subject: "a", Size: -1,
		Time: time.Date(2030, 1, 2, 2, 4, 5, 5e8, time.UTC),
		Fields: map[string]any{
			"specversion": "1.0", "id": "1", "source": "/s", "type": "com.example.ready", "subject": "a", "time": "2030-01-02T03:04:05.5+01:00",
			"datacontenttype": "application/json", "dataschema": "https://example.test/s", "myext": "x", "n": json.Number("7"), "b": true, "data": data,
		},
	}
	inHeaders := want
	inHeaders.Fields = maps.Clone(want.Fields)
	inHeaders.Fields["n"], inHeaders.Fields["b"] = "7", "true" // headers have no types
	const payload = `{"url":"https://example.test/a","n":12345678901234567890}`
	attributes := []string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", "com.example.ready", "Ce-Subject", "a",
		"Ce-Time", "2030-01-02T03:04:05.5+01:00", "Ce-Dataschema", "https://example.test/s", "Ce-Myext", "x", "Ce-N", "7", "Ce-B", "true"}
	natsNames := []string{"ce-datacontenttype", "application/json", "authorization", "Bearer k"}
	for i := 0; i < len(attributes); i += 2 {
		natsNames = append(natsNames, strings.ToLower(attributes[i]), attributes[i+1])
	}
	for name, tc := range map[string]struct {
		header http.Header
		body   string
		want   []Event
	}{
		"structured":                {ceHeader("Content-Type", oneEvent+"; charset=UTF-8"), body, []Event{want}},
		"structured, short type":    {ceHeader("content-type", "application/cloudevents"), body, []Event{want}},
		"structured, odd case":      {ceHeader("CONTENT-TYPE", "Application/CloudEvents+JSON"), body, []Event{want}},
		"structured, also headers":  {ceHeader("Content-Type", oneEvent, "Ce-Id", "9", "Ce-Id", "8"), body, []Event{want}},
		"NATS without headers":      {nil, body, []Event{want}},
		"plain JSON":                {ceHeader("Content-Type", "application/json"), " \n" + body, []Event{want}},
		"batch":                     {ceHeader("Content-Type", aBatch), "[" + body + "," + body + "]", []Event{want, want}},
		"batch without a type":      {nil, "[" + body + "]", []Event{want}},
		"empty batch":               {ceHeader("Content-Type", aBatch), "[]", []Event{}},
		"binary over HTTP":          {ceHeader(append(attributes, "Content-Type", "application/json", "Authorization", "Bearer k")...), payload, []Event{inHeaders}},
		"binary over NATS":          {ceHeader(natsNames...), payload, []Event{inHeaders}},
		"binary over NATS, both":    {ceHeader(append(natsNames, "content-type", "text/plain")...), payload, []Event{inHeaders}},
		"null attributes and spare": {ceHeader("Content-Type", oneEvent), strings.Replace(body, `"myext"`, `"other":null,"myext"`, 1), []Event{want}},
	} {
		got, err := ParseCloudEvents(tc.header, []byte(tc.body))
		if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
}

const minimal = `"specversion":"1.0","id":"1","source":"/s","type":"t"`

// TestCloudEventData makes of data what rules can look into.
func TestCloudEventData(t *testing.T) {
	t.Parallel()
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	binary := func(content string) http.Header {
		return ceHeader("Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", "t", "Content-Type", content)
	}
	plain := ceHeader("Content-Type", oneEvent)
	for _, tc := range []struct {
		name   string
		header http.Header
		body   string
		want   any // nil: none
	}{
		{"no data", plain, `{` + minimal + `}`, nil},
		{"null", plain, `{` + minimal + `,"data":null}`, nil},
		{"a string is JSON", plain, `{` + minimal + `,"data":"{\"a\":1}"}`, `{"a":1}`},
		{"numbers as written", plain, `{` + minimal + `,"data":[1.10,-0,1e400]}`, []any{json.Number("1.10"), json.Number("-0"), json.Number("1e400")}},
		{"a text", plain, `{` + minimal + `,"datacontenttype":"text/plain","data":"7"}`, "7"},
		{"XML", plain, `{` + minimal + `,"datacontenttype":"application/xml","data":"<a/>"}`, "<a/>"},
		{"an own kind of JSON", plain, `{` + minimal + `,"datacontenttype":"application/vnd.x+json; v=1","data":{"a":true}}`, map[string]any{"a": true}},
		{"base64 of JSON", plain, `{` + minimal + `,"datacontenttype":"application/json","data_base64":"` + encode(`{"a":true}`) + `"}`, map[string]any{"a": true}},
		{"base64 of a text", plain, `{` + minimal + `,"datacontenttype":"text/plain","data_base64":"` + encode("ü") + `"}`, "ü"},
		{"base64 of what is no text", plain, `{` + minimal + `,"datacontenttype":"text/plain","data_base64":"` + encode("\xff") + `"}`, encode("\xff")},
		{"base64 of bytes", plain, `{` + minimal + `,"data_base64":"` + encode("12") + `"}`, encode("12")},
		{"base64 with escaped slashes", plain, `{` + minimal + `,"data_base64":"\/\/79"}`, "//79"},
		{"base64 with lines", plain, `{` + minimal + `,"data_base64":"AAEC\r\nAwQF"}`, "AAECAwQF"},
		{"data before what it is", plain, `{"data":"<a/>","datacontenttype":"text/xml",` + minimal + `}`, "<a/>"},
		{"binary, none", binary("application/json"), "", nil},
		{"binary, a text", binary("text/csv; charset=utf-8"), "a,b", "a,b"},
		{"binary, bytes", binary("application/octet-stream"), "12", encode("12")},
		{"binary, untold, JSON", binary(""), ` {"a":1}`, map[string]any{"a": json.Number("1")}},
		{"binary, untold, a text", binary(""), `a=1`, "a=1"},
		{"binary, untold, bytes", binary(""), "\xff\x00", encode("\xff\x00")},
	} {
		e := parseOne(t, tc.header, tc.body)
		got, there := e.Fields["data"]
		if diff := cmp.Diff(tc.want, got); diff != "" || there != (tc.want != nil) {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

// TestCloudEventHeaders decodes values of headers once.
func TestCloudEventHeaders(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"a": "a", " a\t": "a", "a b": "a b", "Euro%20%E2%82%AC%20%F0%9F%98%80": "Euro € 😀", "a%2520b": "a%20b", `"a \"b\" \\c"`: `a "b" \c`, `"a%20b"`: "a b",
		"100%": "100%", "%zz%2": "%zz%2", "a+b": "a+b", `"`: `"`, "grün": "grün",
	} {
		e := parseOne(t, ceHeader("ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "t", "ce-subject", value), "")
		if e.Subject != want || e.Fields["subject"] != want {
			t.Errorf("%q: %q", value, e.Subject)
		}
	}
}

// TestCloudEventMalformed names place and reason, and repeats nothing of a value.
func TestCloudEventMalformed(t *testing.T) {
	t.Parallel()
	plain, batch := ceHeader("Content-Type", oneEvent), ceHeader("Content-Type", aBatch)
	with := func(more string) string { return `{` + minimal + `,` + more + `}` }
	for _, tc := range []struct {
		header          http.Header
		body            string
		pointer, reason string
	}{
		{nil, ``, "", "is no CloudEvent"},
		{nil, `SECRET`, "", "is no CloudEvent"},
		{ceHeader("Content-Type", "text/plain"), `{` + minimal + `}`, "", "is no CloudEvent"},
		{ceHeader("Content-Type", "application/cloudevents+avro"), `{}`, "", "other than JSON"},
		{ceHeader("Content-Type", "application/cloudevents+json; charset=latin1"), `{` + minimal + `}`, "", "UTF-8"},
		{plain, ``, "", "is empty"},
		{plain, `[]`, "", "must be an object"},
		{plain, `{` + minimal + `}{}`, "", "more behind"},
		{plain, with(`"id":"2"`), "", "twice"},
		{plain, with(`"data":{"a":1,"a":2}`), "", "twice"},
		{plain, with(`"data":` + strings.Repeat("[", 70) + strings.Repeat("]", 70)), "", "nested"},
		{plain, strings.Repeat(" ", MaxBody+1), "", "more than 1048576 bytes"},
		{plain, `{}`, "/specversion", `must be "1.0"`},
		{plain, strings.Replace(with(`"a":"b"`), `"1.0"`, `"0.3"`, 1), "/specversion", `must be "1.0"`},
		{plain, strings.Replace(with(`"a":"b"`), `"1.0"`, `1.0`, 1), "/specversion", `must be "1.0"`},
		{plain, `{"specversion":"1.0","source":"/s","type":"t"}`, "/id", "is required"},
		{plain, `{"specversion":"1.0","id":"","source":"/s","type":"t"}`, "/id", "is required"},
		{plain, `{"specversion":"1.0","id":" ","source":"/s","type":"t"}`, "/id", "is required"},
		{plain, `{"specversion":"1.0","id":7,"source":"/s","type":"t"}`, "/id", "must be a string"},
		{plain, `{"specversion":"1.0","id":"SECRET\n","source":"/s","type":"t"}`, "/id", "control characters"},
		{plain, `{"specversion":"1.0","id":"` + strings.Repeat("1", maxAttribute+1) + `","source":"/s","type":"t"}`, "/id", "longer"},
		{plain, `{"specversion":"1.0","id":"1","type":"t"}`, "/source", "URI-reference"},
		{plain, `{"specversion":"1.0","id":"1","source":null,"type":"t"}`, "/source", "URI-reference"},
		{plain, `{"specversion":"1.0","id":"1","source":"http://[SECRET","type":"t"}`, "/source", "URI-reference"},
		{plain, `{"specversion":"1.0","id":"1","source":"%SECRET","type":"t"}`, "/source", "URI-reference"},
		{plain, `{"specversion":"1.0","id":"1","source":"/s"}`, "/type", "is required"},
		{plain, with(`"time":"SECRET"`), "/time", "RFC 3339"},
		{plain, with(`"time":7`), "/time", "must be a string"},
		{plain, with(`"datacontenttype":"SECRET;;"`), "/datacontenttype", "media type"},
		{plain, with(`"dataschema":"SECRET"`), "/dataschema", "absolute URI"},
		{plain, with(`"ID":"2"`), "", "in different cases"},
		{plain, with(`"Data":"2"`), "/data", "letters and digits"},
		{plain, with(`"my_ext":"2"`), "/my_ext", "letters and digits"},
		{plain, with(`"":"2"`), "/", "letters and digits"},
		{plain, with(`"` + strings.Repeat("x_", 500) + `":"2"`), "/" + strings.Repeat("x_", 32) + "…", "letters and digits"},
		{plain, with(`"ext":{"a":1}`), "/ext", "a string, a number or a boolean"},
		{plain, with(`"ext":1.5`), "/ext", "32 bits"},
		{plain, with(`"ext":2147483648`), "/ext", "32 bits"},
		{plain, with(`"data":{},"data_base64":"AA=="`), "", "both data and data_base64"},
		{plain, with(`"datacontenttype":"text/plain","data":{}`), "/data", "must be a string"},
		{plain, with(`"data_base64":"SECRET!"`), "/data_base64", "base64"},
		{plain, with(`"data_base64":1`), "/data_base64", "base64"}, // on which the SDK panics
		{plain, with(`"datacontenttype":"application/json","data_base64":"AA=="`), "/data_base64", "no valid JSON"},
		{batch, `{` + minimal + `}`, "", "must be a list"},
		{batch, `[{` + minimal + `},{}]`, "/1/specversion", "is required"},
		{batch, `[{` + minimal + `},7]`, "/1", "must be an object"},
		{batch, `[` + strings.Repeat("0,", MaxEvents) + `0]`, "", "more than 1000 events"},
		{ceHeader("Ce-Id", "1"), ``, "/specversion", "is required"},
		{ceHeader("Ce-", "1"), ``, "/specversion", "is required"}, // on which the SDK panics
		{ceHeader("Ce-Specversion", "1.0", "Ce-", "1", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", "t"), ``, "/", "letters and digits"},
		{ceHeader("Ce-Specversion", "1.0", "Ce-Data", "1", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", "t"), ``, "/data", "letters and digits"},
		{ceHeader("Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Id", "2", "Ce-Source", "/s", "Ce-Type", "t"), ``, "", "ce-id more than once"},
		{ceHeader("Ce-Specversion", "1.0", "Ce-Id", "1", "ce-id", "1", "Ce-Source", "/s", "Ce-Type", "t"), ``, "", "ce-id more than once"},
		{ceHeader("Content-Type", oneEvent, "content-type", aBatch), `{` + minimal + `}`, "", "content-type more than once"},
		{ceHeader("Ce-Specversion", "1.0", "Ce-Id", "%ff", "Ce-Source", "/s", "Ce-Type", "t"), ``, "", "ce-id that is not UTF-8"},
		{ceHeader("Ce-Specversion", "1.0", "Ce-Id", "SECRET%0A", "Ce-Source", "/s", "Ce-Type", "t"), ``, "/id", "control characters"},
		{ceHeader("Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", "t", "Content-Type", "application/json"), `SECRET`, "", "no valid JSON"},
	} {
		list, err := ParseCloudEvents(tc.header, []byte(tc.body))
		wantMalformed(t, fmt.Sprintf("%v %.120s", tc.header, tc.body), len(list), err, tc.pointer, tc.reason)
	}
}

// TestCloudEventsOfTheSDK reads what the SDK for Go writes.
func TestCloudEventsOfTheSDK(t *testing.T) {
	t.Parallel()
	sent := event.New()
	sent.SetID("4/2")
	sent.SetType("com.example.ready")
	sent.SetSource("https://example.test/s?q=1#f")
	sent.SetSubject("grün & 100%")
	sent.SetTime(time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC))
	sent.SetExtension("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	sent.SetExtension("n", 7)
	sent.SetExtension("raw", []byte{0xfb, 0xff})
	if err := sent.SetData("application/json", map[string]any{"a": []int{1, 2}}); err != nil {
		t.Fatal(err)
	}
	want := []any{"4/2", "com.example.ready", "https://example.test/s?q=1#f", "grün & 100%", sent.Time(),
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", json.Number("7"), "+/8=", map[string]any{"a": []any{json.Number("1"), json.Number("2")}}}
	for content, v := range map[string]any{oneEvent: sent, aBatch: []event.Event{sent, sent}} {
		body, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		list, err := ParseCloudEvents(ceHeader("Content-Type", content), body)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			got := []any{e.ID, e.Type, e.Origin, e.Subject, e.Time, e.Fields["traceparent"], e.Fields["n"], e.Fields["raw"], e.Fields["data"]}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", content, diff)
			}
		}
	}
}

package events

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParseS3 never panics, refuses with a reason, and what it reads keeps the promises of an event: as another decoder sees it, too.
func FuzzParseS3(f *testing.F) {
	files, err := os.ReadDir("testdata")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file.Name(), ".json") {
			f.Add(load(f, file.Name()))
		}
	}
	for _, body := range []string{
		s3Body(`"key":"k"`, `"key":"%2B+%00%zz"`), s3Body(`"key":"k"`, `"key":"k","size":1e3,"userMetadata":{"X-Amz-Meta-":null}`), `{"Records":[{}]}`, `{"Records":[{"s3":null}]}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		list, err := ParseS3(body)
		if err != nil {
			fuzzRefused(t, len(list), err)
			return
		}
		var top map[string]json.RawMessage
		var plain []json.RawMessage
		if err := json.Unmarshal(body, &top); err != nil {
			t.Fatal(err)
		}
		if text, there := top["Records"]; there && json.Unmarshal(text, &plain) != nil || len(plain) != len(list) {
			t.Fatalf("%d events of %d records", len(list), len(plain))
		}
		for _, e := range list {
			if !strings.HasPrefix(e.Type, "s3:") || e.Bucket == "" || len(e.Key) > maxKey || !utf8.ValidString(e.Key) || e.Size < -1 || e.Version == "null" {
				t.Fatalf("%+v", e)
			}
			fuzzFields(t, e)
		}
	})
}

// FuzzParseCloudEvents is the same for CloudEvents. The headers are lines, as NATS has them.
func FuzzParseCloudEvents(f *testing.F) {
	binary := "ce-specversion: 1.0\nce-id: 1\nce-source: /s\nce-type: t\n"
	f.Add("content-type: application/cloudevents+json", []byte(`{`+minimal+`,"data_base64":1}`))
	f.Add("content-type: application/cloudevents+json", []byte(`{`+minimal+`,"data_base64":"\/\/79","datacontenttype":"text/plain","time":"2030-01-01t00:00:00z"}`))
	f.Add("content-type: application/cloudevents-batch+json", []byte(`[{`+minimal+`,"ext":-1,"data":{"a":[1e9,null]}},{`+minimal+`}]`))
	f.Add(binary+"content-type: application/json", []byte(`{"a":1}`))
	f.Add(binary+`Ce-Subject: "a%20\"b"`, []byte("text"))
	f.Add(binary+"ce-: 1", []byte{})
	f.Add("", []byte(`{`+minimal+`}`))
	f.Fuzz(func(t *testing.T, lines string, body []byte) {
		h := http.Header{}
		for line := range strings.Lines(lines) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			h[name] = append(h[name], value)
		}
		list, err := ParseCloudEvents(h, body)
		if err != nil {
			fuzzRefused(t, len(list), err)
			return
		}
		for _, e := range list {
			if e.ID == "" || e.Origin == "" || e.Type == "" || e.Fields["specversion"] != "1.0" || e.Fields["id"] != e.ID {
				t.Fatalf("%+v", e)
			}
			fuzzFields(t, e)
		}
		again, err := ParseCloudEvents(h, body)
		if err != nil || !slices.EqualFunc(list, again, func(a, b Event) bool {
			return a.Identity() == b.Identity() && maps.EqualFunc(a.Fields, b.Fields, sameJSON)
		}) {
			t.Fatalf("read again it is another: %v, %v, %v", list, again, err)
		}
	})
}

func fuzzRefused(t *testing.T, n int, err error) {
	t.Helper()
	wrong, ok := errors.AsType[*MalformedError](err)
	if !ok || n != 0 || wrong.Reason == "" || len(err.Error()) > 400 || !utf8.ValidString(err.Error()) {
		t.Fatalf("%d events and %v", n, err)
	}
}

// fuzzFields wants JSON in what rules see, and no "" where nothing was told.
func fuzzFields(t *testing.T, e Event) {
	t.Helper()
	if _, err := json.Marshal(e.Fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"id", "source", "type", "subject", "time", "datacontenttype", "dataschema"} {
		if e.Fields[name] == "" {
			t.Fatalf("the field %s is empty", name)
		}
	}
}

func sameJSON(a, b any) bool {
	x, _ := json.Marshal(a) // fuzzFields has seen to it
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

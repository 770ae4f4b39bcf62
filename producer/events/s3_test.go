package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func load(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestS3 reads what MinIO and S3 write.
func TestS3(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 2, 12, 20, 18, 48, 123e6, time.UTC)
	for name, want := range map[string]Event{
		"minio_put.json": {
			Source: S3, Type: "s3:ObjectCreated:Put", Time: at, Bucket: "incoming", Key: "raw/red flower+100%.csv", Sequencer: "1893A5F0C5C9B3A4",
			ETag: "d41d8cd98f00b204e9800998ecf8427e", Size: 1024, Metadata: map[string]string{"copyfleet-trail": "ORG-a/first", "owner": "Änna"},
			Fields: map[string]any{"id": "1893A5F0C5B2D1E3", "source": "minio:s3", "type": "s3:ObjectCreated:Put", "time": "2026-02-12T20:18:48.123Z"},
		},
		"minio_empty.json": {
			Source: S3, Type: "s3:ObjectCreated:Put", Time: at, Bucket: "incoming", Key: "empty", Sequencer: "1893A5F0C5C9B3A5",
			Version: "4fa5b6b8-2f6a-4a0b-9b2a-6d0f8f0f6c11", ETag: "d41d8cd98f00b204e9800998ecf8427e", Size: 0, Metadata: map[string]string{},
			Fields: map[string]any{"source": "minio:s3", "type": "s3:ObjectCreated:Put", "time": "2026-02-12T20:18:48.123Z"},
		},
		"minio_delete.json": {
			Source: S3, Type: "s3:ObjectRemoved:Delete", Time: time.Date(2026, 2, 12, 20, 18, 49, 0, time.UTC), Bucket: "incoming", Key: "a",
			Sequencer: "1893A5F0F9F2B600", Size: -1,
			Fields: map[string]any{"source": "minio:s3", "type": "s3:ObjectRemoved:Delete", "time": "2026-02-12T20:18:49Z"},
		},
		"aws_put.json": {
			Source: S3, Type: "s3:ObjectCreated:Put", Time: time.Unix(0, 0).UTC(), Bucket: "mybucket", Key: "HappyFace (1).jpg",
			Sequencer: "0055AED6DCD90281E5", Version: "096fKKXTRTtl3on89fVO.nfljtsv6qko", ETag: "d41d8cd98f00b204e9800998ecf8427e", Size: 1024,
			Fields: map[string]any{"id": "C3D13FE58DE4C810", "source": "aws:s3", "type": "s3:ObjectCreated:Put", "time": "1970-01-01T00:00:00Z"},
		},
	} {
		body := load(t, name)
		got, err := ParseS3(body)
		if err != nil || len(got) != 1 {
			t.Errorf("%s: %d events, %v", name, len(got), err)
			continue
		}
		// The data are the record as it came, read by another decoder.
		want.Fields["data"] = records(t, body)[0]
		if diff := cmp.Diff(want, got[0]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func records(t *testing.T, body []byte) []any {
	t.Helper()
	var v map[string]any
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	list, _ := v["Records"].([]any)
	return list
}

func TestS3WithoutEvents(t *testing.T) {
	t.Parallel()
	for _, body := range []string{string(load(t, "aws_test.json")), `{"Records":[]}`} {
		if list, err := ParseS3([]byte(body)); err != nil || len(list) != 0 {
			t.Errorf("%s: %v, %v", body, list, err)
		}
	}
}

// s3Body is a notification of one record; each pair replaces a text in it.
func s3Body(pairs ...string) string {
	return strings.NewReplacer(pairs...).Replace(
		`{"Records":[{"eventSource":"x:s3","eventTime":"2030-01-01T00:00:00Z","eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"k"}}}]}`)
}

// TestS3Keys encodes keys as S3 and MinIO do, and wants them back: decoded once, not twice.
func TestS3Keys(t *testing.T) {
	t.Parallel()
	all := ""
	for r := range rune(0x250) {
		all += string(r)
	}
	for _, key := range []string{
		"a b+c%20d%2Fe", "%", "%%", "%2B", "+", " ", "  /  ", "a/../b", "..", "./", "?versionId=1#f", `"quo\ted"`, "ünï/日本語/🙂", "\x00\r\n\t", "&amp;=;,",
		"/leading", "trailing/", "//", all, strings.Repeat("k", maxKey), strings.Repeat("%", maxKey),
	} {
		// MinIO encodes all of it, S3 leaves slashes.
		for _, raw := range []string{url.QueryEscape(key), strings.ReplaceAll(url.QueryEscape(key), "%2F", "/")} {
			list, err := ParseS3([]byte(s3Body(`"key":"k"`, `"key":"`+raw+`"`)))
			if len(key) > maxKey {
				if !errors.Is(err, ErrMalformed) {
					t.Errorf("a key of %d bytes: %v", len(key), err)
				}
				continue
			}
			if err != nil || list[0].Key != key {
				t.Errorf("%q: %v, %v", key, list, err)
			}
		}
	}
}

// TestS3Lenient reads what is odd, and has a meaning.
func TestS3Lenient(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		body string
		look func(e Event) any
		want any
	}{
		{s3Body(`"ObjectCreated:Put"`, `"s3:ObjectCreated:Put"`), func(e Event) any { return e.Type }, "s3:ObjectCreated:Put"},
		{s3Body(`"ObjectCreated:Put"`, `"Something:New"`), func(e Event) any { return e.Type }, "s3:Something:New"},
		{s3Body(`"ObjectCreated:Put"`, `"s3:BucketCreated"`, `"key":"k"`, `"key":""`), func(e Event) any { return e.Key }, ""},
		{s3Body(`"key":"k"`, `"key":"k","versionId":"null"`), func(e Event) any { return e.Version }, ""},
		{s3Body(`"key":"k"`, `"key":"k","versionId":null,"eTag":null,"size":null`), func(e Event) any { return e.Size }, int64(-1)},
		{s3Body(`"key":"k"`, `"key":"k","size":-1`), func(e Event) any { return e.Size }, int64(-1)},
		{s3Body(`"key":"k"`, `"key":"k","eTag":"e"`), func(e Event) any { return e.Size }, int64(-1)},
		{s3Body(`x:s3`, `minio:s3`, `"key":"k"`, `"key":"k","eTag":"e"`), func(e Event) any { return e.Size }, int64(0)},
		{s3Body(`"key":"k"`, `"key":"k","size":9007199254740993`), func(e Event) any { return e.Size }, int64(9007199254740993)},
		{s3Body(`"key":"k"`, `"key":"k","eTag":"\"e-2\""`), func(e Event) any { return e.ETag }, "e-2"},
		{s3Body(`"key":"k"`, `"key":"k","sequencer":"00af"`), func(e Event) any { return e.Sequencer }, "00AF"},
		{s3Body(`"key":"k"`, `"key":"k","sequencer":"later"`), func(e Event) any { return e.Sequencer }, ""},
		{s3Body(`"key":"k"`, `"key":"k","sequencer":"`+strings.Repeat("1", 65)+`"`), func(e Event) any { return e.Sequencer }, ""},
		{s3Body(`"eventTime":"2030-01-01T00:00:00Z",`, ""), func(e Event) any { return e.Time.IsZero() }, true},
		{s3Body(`"key":"k"`, `"key":"k","userMetadata":{"x-amz-META-A":"v","Expires":"1"}`), func(e Event) any { return e.Metadata["a"] }, "v"},
		{s3Body(), func(e Event) any { return e.Metadata == nil }, true},
		{s3Body(`"eventSource"`, `"unknown":{"deep":[1,2,{}]},"eventSource"`), func(e Event) any { return e.Bucket }, "b"},
	} {
		list, err := ParseS3([]byte(tc.body))
		if err != nil || len(list) != 1 {
			t.Errorf("%s: %v", tc.body, err)
			continue
		}
		if diff := cmp.Diff(tc.want, tc.look(list[0])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.body, diff)
		}
	}
}

// TestS3Malformed names place and reason, and repeats nothing of a value.
func TestS3Malformed(t *testing.T) {
	t.Parallel()
	good := `{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"k"}}}`
	for _, tc := range []struct{ body, pointer, reason string }{
		{``, "", "is empty"},
		{`   `, "", "is empty"},
		{`{`, "", "in the middle of a value"},
		{`[]`, "", "must be an object"},
		{`null`, "", "must be an object"},
		{`{}`, "/Records", "must be a list"},
		{`{"Records":null}`, "/Records", "must be a list"},
		{`{"Records":{}}`, "/Records", "must be a list"},
		{`{"Event":"s3:TestEvent","Records":7}`, "/Records", "must be a list"},
		{`{"Records":[]} {}`, "", "more behind"},
		{`{"Records":[],}`, "", "no valid JSON"},
		{`{"Records":[],"Records":[]}`, "", "twice"},
		{"{\"Records\":[\"\xff\"]}", "", "UTF-8"},
		{`{"Records":[` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `]}`, "", "nested deeper than 64"},
		{`{"Records":[` + strings.Repeat("0,", maxValues) + `0]}`, "", "100000 values"},
		{`{"Records":[` + strings.Repeat("0,", MaxEvents) + `0]}`, "/Records", "more than 1000 events"},
		{`{"Records":[7]}`, "/Records/0", "must be an object"},
		{`{"Records":[{}]}`, "/Records/0/s3", "must be an object"},
		{s3Body(`"eventName":"ObjectCreated:Put"`, `"eventName":""`), "/Records/0/eventName", "is required"},
		{s3Body(`"ObjectCreated:Put"`, `"SECRET\u0000"`), "/Records/0/eventName", "control characters"},
		{s3Body(`"ObjectCreated:Put"`, `["SECRET"]`), "/Records/0/eventName", "must be a string"},
		{s3Body(`"2030-01-01T00:00:00Z"`, `"SECRET"`), "/Records/0/eventTime", "must be a time"},
		{s3Body(`"name":"b"`, `"name":""`), "/Records/0/s3/bucket/name", "is required"},
		{s3Body(`"name":"b"`, `"name":"`+strings.Repeat("b", 256)+`"`), "/Records/0/s3/bucket/name", "longer"},
		{s3Body(`"key":"k"`, `"key":""`), "/Records/0/s3/object/key", "is required"},
		{s3Body(`"key":"k"`, `"key":7`), "/Records/0/s3/object/key", "must be a string"},
		{s3Body(`"key":"k"`, `"key":"SECRET%"`), "/Records/0/s3/object/key", "not encoded as S3"},
		{s3Body(`"key":"k"`, `"key":"SECRET%zz"`), "/Records/0/s3/object/key", "not encoded as S3"},
		{s3Body(`"key":"k"`, `"key":"%ff"`), "/Records/0/s3/object/key", "not UTF-8"},
		{s3Body(`"key":"k"`, `"key":"`+strings.Repeat("k", maxKey+1)+`"`), "/Records/0/s3/object/key", "1025 bytes; a key of S3 has at most 1024"},
		{s3Body(`"key":"k"`, `"key":"`+strings.Repeat("k", 1_000_000)+`"`), "/Records/0/s3/object/key", "1000000 bytes; a key of S3"},
		{s3Body(`"key":"k"`, `"key":"`+strings.Repeat("k", MaxBody)+`"`), "", "more than 1048576 bytes"},
		{s3Body(`"key":"k"`, `"key":"k","size":"7"`), "/Records/0/s3/object/size", "whole number"},
		{s3Body(`"key":"k"`, `"key":"k","size":7.5`), "/Records/0/s3/object/size", "whole number"},
		{s3Body(`"key":"k"`, `"key":"k","size":99999999999999999999`), "/Records/0/s3/object/size", "whole number"},
		{s3Body(`"key":"k"`, `"key":"k","userMetadata":[]`), "/Records/0/s3/object/userMetadata", "must be an object"},
		{s3Body(`"key":"k"`, `"key":"k","userMetadata":{"X-Amz-Meta-A":7}`), "/Records/0/s3/object/userMetadata", "strings"},
		{s3Body(`"key":"k"`, `"key":"k","userMetadata":{"X-Amz-Meta-A":"","x-amz-meta-a":""}`), "/Records/0/s3/object/userMetadata", "different cases"},
		// One bad record among good ones.
		{`{"Records":[` + good + `,` + good + `,{"eventName":"x"},` + good + `]}`, "/Records/2/s3", "must be an object"},
	} {
		list, err := ParseS3([]byte(tc.body))
		wantMalformed(t, fmt.Sprintf("%.120s", tc.body), len(list), err, tc.pointer, tc.reason)
	}
}

func wantMalformed(t *testing.T, what string, n int, err error, pointer, reason string) {
	t.Helper()
	wrong, ok := errors.AsType[*MalformedError](err)
	if !ok || n != 0 || !errors.Is(err, ErrMalformed) {
		t.Errorf("%s: %d events, %v", what, n, err)
		return
	}
	if wrong.Pointer != pointer || !strings.Contains(wrong.Reason, reason) || strings.Contains(err.Error(), "SECRET") || len(err.Error()) > 300 {
		t.Errorf("%s: %q at %q, want %q at %q", what, wrong.Reason, wrong.Pointer, reason, pointer)
	}
}

// TestIdentity tells which events are the same.
func TestIdentity(t *testing.T) {
	t.Parallel()
	created := Event{Source: S3, Type: "s3:ObjectCreated:Put", Bucket: "b", Key: "k", Version: "v", Sequencer: "1", ETag: "e", Time: time.Unix(1, 0)}
	change := func(e Event, f func(*Event)) Event { f(&e); return e }
	bare := change(created, func(e *Event) { e.Sequencer = "" })
	removed := change(created, func(e *Event) { e.Type = "s3:ObjectRemoved:Delete" })
	cloud := Event{Source: CloudEvents, Type: "t", Origin: "o", ID: "i"}
	swept := Event{Source: Sweep, Bucket: "b", Key: "k", ETag: "e", Sweep: "s", Rule: "r"}
	for _, tc := range []struct {
		name string
		a, b Event
		same bool
	}{
		{"told another way", created, change(created, func(e *Event) { e.Time, e.ETag, e.Type, e.Size = time.Unix(2, 0), "", "s3:ObjectCreated:Copy", 7 }), true},
		{"another sequencer", created, change(created, func(e *Event) { e.Sequencer = "2" }), false},
		{"another version", created, change(created, func(e *Event) { e.Version = "" }), false},
		{"another key", created, change(created, func(e *Event) { e.Key = "l" }), false},
		{"another bucket", created, change(created, func(e *Event) { e.Bucket = "c" }), false},
		{"divided elsewhere", created, change(created, func(e *Event) { e.Bucket, e.Key = "bk", "" }), false},
		{"no sequencer", bare, bare, true},
		{"no sequencer, another time", bare, change(bare, func(e *Event) { e.Time = time.Unix(2, 0) }), false},
		{"no sequencer, another zone", bare, change(bare, func(e *Event) { e.Time = e.Time.In(time.FixedZone("", 3600)) }), true},
		{"no sequencer, another content", bare, change(bare, func(e *Event) { e.ETag = "f" }), false},
		{"MinIO's removal has the sequencer of the object", created, removed, false},
		{"a removal again", removed, removed, true},
		{"read twice", change(removed, func(e *Event) { e.Type = "s3:ObjectAccessed:Get" }),
			change(removed, func(e *Event) { e.Type, e.Time = "s3:ObjectAccessed:Get", time.Unix(2, 0) }), false},
		{"a CloudEvent told another way", cloud, change(cloud, func(e *Event) { e.Type, e.Subject = "u", "s" }), true},
		{"another id", cloud, change(cloud, func(e *Event) { e.ID = "j" }), false},
		{"another source", cloud, change(cloud, func(e *Event) { e.Origin = "p" }), false},
		{"another sweep", swept, change(swept, func(e *Event) { e.Sweep = "t" }), false},
		{"the same sweep", swept, swept, true},
	} {
		if got := tc.a.Identity() == tc.b.Identity(); got != tc.same {
			t.Errorf("%s: the same %v", tc.name, got)
		}
	}
	if !created.Created() || !swept.Created() || removed.Created() || cloud.Created() {
		t.Error("what came into being is wrong")
	}
}

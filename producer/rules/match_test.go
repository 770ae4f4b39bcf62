package rules

import (
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/producer/events"
)

var s3Time = time.Date(2026, 2, 12, 20, 18, 48, 123e6, time.UTC)

func TestMatches(t *testing.T) {
	t.Parallel()
	put := func(key string) events.Event {
		return events.Event{Source: events.S3, Type: "s3:ObjectCreated:Put", Bucket: "in-1", Key: key, Size: 10, ETag: "e"}
	}
	of := func(kind string) events.Event { e := put("k"); e.Type = kind; return e }
	swept := func(rule string) events.Event {
		e := put("k")
		e.Source, e.Type, e.Rule = events.Sweep, "", rule
		return e
	}
	cloud := func(kind, origin string) events.Event {
		return events.Event{Source: events.CloudEvents, Type: kind, Origin: origin, Bucket: "in-1", Size: -1}
	}
	elsewhere := put("k")
	elsewhere.Bucket = "in-10"
	const s3, ce = "source: s3, bucket: in-1", "source: cloudevents"
	for name, test := range map[string]struct {
		match string
		yes   []events.Event
		no    []events.Event
	}{
		"creations":     {s3, []events.Event{put("k"), of("s3:ObjectCreated:CompleteMultipartUpload"), of("s3:ObjectCreated:Later"), swept(""), swept("a")}, []events.Event{of("s3:ObjectRemoved:Delete"), of("s3:ObjectCreated:PutTagging"), elsewhere, swept("b"), cloud("x", "y")}},
		"their pattern": {s3 + ", events: ['s3:ObjectCreated:*']", []events.Event{put("k"), swept("a")}, []events.Event{of("s3:ObjectRemoved:Delete"), of("s3:ObjectCreated:DeleteTagging")}},
		"notes":         {s3 + ", events: ['s3:ObjectCreated:PutTagging']", []events.Event{of("s3:ObjectCreated:PutTagging")}, []events.Event{put("k"), swept("a")}},
		"deletions":     {s3 + ", events: ['s3:ObjectRemoved:*']", []events.Event{of("s3:ObjectRemoved:Delete")}, []events.Event{put("k"), swept("a")}},
		"one of them":   {s3 + ", events: ['s3:ObjectCreated:Copy', 's3:ObjectRemoved:Delete']", []events.Event{of("s3:ObjectCreated:Copy"), of("s3:ObjectRemoved:Delete"), swept("a")}, []events.Event{put("k")}},
		"prefix":        {s3 + ", prefix: a/b, suffix: b.c", []events.Event{put("a/bb.c"), put("a/b/b.c")}, []events.Event{put("a/b.c"), put("xa/bb.c"), put("a/bb.c ")}},
		"glob":          {s3 + ", glob: 'a/*/c?.x'", []events.Event{put("a/b/cd.x"), put("a//cé.x")}, []events.Event{put("a/b/b/cd.x"), put("a/b/c/.x"), put("a/b/cdXx"), put("za/b/cd.x")}},
		"glob, deep":    {s3 + ", glob: '**/x/**'", []events.Event{put("x/"), put("a/b/x/c/d"), put("x/a\nb")}, []events.Event{put("ax/b"), put("x")}},
		"size":          {s3 + ", when: 'size >= 10 && key.endsWith(\"k\") && bucket == \"in-1\" && etag == \"e\"'", []events.Event{put("k")}, []events.Event{put("l")}},
		"all CE":        {ce, []events.Event{cloud("a", "b")}, []events.Event{put("k"), swept("a")}},
		"types":         {ce + ", types: [a.b, 'c.*']", []events.Event{cloud("a.b", ""), cloud("c.d", "")}, []events.Event{cloud("a.b.c", ""), cloud("c", "")}},
		"origins":       {ce + ", origins: [/x]", []events.Event{cloud("a", "/x")}, []events.Event{cloud("a", "/x/y")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := parsed(t, "name: a\nmatch: {"+test.match+"}\ncopy: {src: {type: httpGetLocation, url: 'http://h/x'}, dest: {"+okDest2+"}}\n")
			for _, c := range []struct {
				list []events.Event
				want bool
			}{{test.yes, true}, {test.no, false}} {
				for _, e := range c.list {
					if ok, err := r.Matches(t.Context(), &e); ok != c.want || err != nil {
						t.Errorf("%s %s %q of %s: %v, %v, want %v", e.Source, e.Type, e.Key, e.Bucket, ok, err, c.want)
					}
				}
			}
		})
	}
}

// TestGlobTime: a glob made for machines that try again takes no longer than others.
func TestGlobTime(t *testing.T) {
	t.Parallel()
	glob := strings.Repeat("*a", 500) + "b"
	r := parsed(t, onS3[:len(onS3)-2]+", glob: '"+glob+"'}\n"+rest)
	e := events.Event{Source: events.S3, Type: "s3:ObjectCreated:Put", Bucket: "in-1", Key: strings.Repeat("a", 1024)}
	for range 10 {
		if ok, err := r.Matches(t.Context(), &e); ok || err != nil {
			t.Fatalf("%v, %v", ok, err)
		}
	}
	e.Key = strings.Repeat("a", 1<<20)
	if ok, err := r.Matches(t.Context(), &e); ok || err == nil {
		t.Errorf("a key of 1 MiB: %v, %v, want an error", ok, err)
	}
}

package main

import "testing"

func TestParseSandboxes(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]sandboxPlace{
		"file:///srv/boxes":       {dir: "/srv/boxes"},
		"file:///srv/a%23b%3Fc":   {dir: "/srv/a#b?c"},
		"file:///srv/boxes#1":     {}, // would be /srv/boxes, which is somebody else's
		"file:///srv/boxes?x=1":   {},
		"file://host/srv/boxes":   {},
		"file:srv/boxes":          {},
		"/srv/boxes":              {},
		"file:///srv/%zz":         {},
		"file:///srv/boxes/a%2Fb": {dir: "/srv/boxes/a/b"},
		"s3://bucket/prefix":      {bucket: "bucket", prefix: "prefix"},
		"s3://bucket/a/b/":        {bucket: "bucket", prefix: "a/b"},
		"s3://bucket":             {bucket: "bucket"},
		"s3://bucket/":            {bucket: "bucket"},
		"s3://bucket/a//b":        {},
		"s3://bucket/../b":        {},
		"s3://bucket/a/./b":       {},
		"s3://bucket//a":          {},
		"s3:///prefix":            {},
		"s3:bucket/prefix":        {},
		"s3://bucket:9000/prefix": {},
		"s3://key:secret@bucket":  {},
		"s3://bucket/prefix?x=1":  {},
		"http://bucket/prefix":    {},
		"":                        {},
	} {
		got, err := parseSandboxes(raw)
		if got != want || (err == nil) != (want != sandboxPlace{}) {
			t.Errorf("parseSandboxes(%q) = %+v, %v; want %+v", raw, got, err, want)
		}
	}
}

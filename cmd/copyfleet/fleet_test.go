package main

import "testing"

func TestSandboxDir(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"file:///srv/boxes":       "/srv/boxes",
		"file:///srv/a%23b%3Fc":   "/srv/a#b?c",
		"file:///srv/boxes#1":     "", // would be /srv/boxes, which is somebody else's
		"file:///srv/boxes?x=1":   "",
		"file://host/srv/boxes":   "",
		"file:srv/boxes":          "",
		"/srv/boxes":              "",
		"s3://bucket/prefix":      "",
		"file:///srv/%zz":         "",
		"file:///srv/boxes/a%2Fb": "/srv/boxes/a/b",
	} {
		got, err := sandboxDir(raw)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("sandboxDir(%q) = %q, %v; want %q", raw, got, err, want)
		}
	}
}

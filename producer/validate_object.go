package producer

import (
	"slices"
	"strings"

	"github.com/copyfleet/copyfleet/protocol"
)

const (
	maxObjectKey = 1024 // bytes of UTF-8: the limit of S3
	maxPrefix    = 512  // bytes; it becomes part of a record's name
)

// bucketFault returns what is wrong with a bucket name, or "".
func bucketFault(name string) string { return protocol.BucketFault(name) }

// keyFault returns what is wrong with an object key, or "". S3 takes any text; we refuse what some server
// resolves to another key, because grants are decided by the key as it stands, and what no listing can show.
func keyFault(key string) string {
	switch {
	case key == "" || len(key) > maxObjectKey:
		return "A key must have 1 to 1024 bytes."
	case hasControl(key):
		return "A key must not hold control characters."
	case dotSegment(key):
		return `A key must not have a segment "." or "..".`
	}
	return ""
}

// prefixFault returns what is wrong with the prefix of a grant, or "". The prefix "" is the whole bucket.
func prefixFault(prefix string) string {
	switch {
	case len(prefix) > maxPrefix:
		return "A prefix may have 512 bytes at most."
	case prefix == "/":
		return "A prefix must not be '/'; leave it out for the whole bucket."
	case hasControl(prefix):
		return "A prefix must not hold control characters."
	case dotSegment(prefix):
		return `A prefix must not have a segment "." or "..".`
	}
	return ""
}

func dotSegment(s string) bool {
	return slices.ContainsFunc(strings.Split(s, "/"), func(segment string) bool { return segment == "." || segment == ".." })
}

package producer

import (
	"net/netip"
	"slices"
	"strings"
)

const (
	maxObjectKey = 1024 // bytes of UTF-8: the limit of S3
	maxPrefix    = 512  // bytes; it becomes part of a record's name
)

// bucketFault returns what is wrong with a bucket name, or "". Source: "General purpose bucket naming rules" of
// the Amazon S3 User Guide, without those that only keep names of Amazon's own apart.
func bucketFault(name string) string {
	const rule = "A bucket name has 3 to 63 lowercase letters, digits, '.' and '-', with a letter or digit at both ends"
	if len(name) < 3 || len(name) > 63 || !lowerOrDigit(name[0]) || !lowerOrDigit(name[len(name)-1]) {
		return rule + "."
	}
	for i := range len(name) {
		if c := name[i]; !lowerOrDigit(c) && c != '.' && c != '-' {
			return rule + "."
		}
	}
	if strings.Contains(name, "..") {
		return rule + ", and no two dots in a row."
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return rule + ", and is not an IP address."
	}
	return ""
}

func lowerOrDigit(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

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

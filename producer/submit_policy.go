package producer

import (
	"slices"
	"strings"

	"github.com/copyfleet/copyfleet/protocol"
)

// Codes of problems that the policies of an item may have.
const (
	faultConflict = "conflict_unsupported"
	faultNoDigest = "digest_required"
)

// What an item may say of a destination that exists, and of the digest of its bytes.
var (
	conflictPolicies = []protocol.ConflictPolicy{protocol.Overwrite, protocol.SkipIfThere, protocol.FailIfThere, protocol.IfDifferent}
	digestNames      = []protocol.Digest{protocol.DigestSHA256, protocol.DigestNone}
)

// oneOf returns a member that is one of a few words; absent, null and "" all mean that it is not given.
func oneOf[T ~string](v value, at, name string, words []T, p *problems) T {
	text, ok := optionalString(v, at, name, p)
	if !ok || text == "" {
		return ""
	}
	if !slices.Contains(words, T(text)) {
		list := make([]string, len(words))
		for i, word := range words {
			list[i] = string(word)
		}
		p.add(pointer(at, name), faultChoice, "This is one of "+strings.Join(list, ", ")+".")
		return ""
	}
	return T(text)
}

// policies reads what an item says of its destination and of its digest, or what the batch says for it.
func (c *itemCheck) policies(item *protocol.ManifestItem, v value, at string) {
	p := &c.problems
	item.Conflict = oneOf(v, at, "conflict", conflictPolicies, p)
	item.Digest = oneOf(v, at, "digest", digestNames, p)
	promised := item.SHA256 != "" || item.MD5 != ""
	if item.Digest == protocol.DigestNone && promised {
		p.add(pointer(at, "digest"), faultNoDigest, "An item that gives sha256 or md5 asks for a digest; leave them or this member out.")
	}
	if item.Conflict == "" {
		item.Conflict = c.defaults.conflict
	}
	if item.Digest == "" && !(promised && c.defaults.digest == protocol.DigestNone) { // what an item promises is compared
		item.Digest = c.defaults.digest
	}
	if replaces(item.Conflict) || item.Dest.Type != protocol.HTTPPut && item.Dest.Type != protocol.HTTPPostForm {
		return
	}
	p.add(pointer(at, "conflict"), faultConflict,
		"What is at the URL of a PUT or POST cannot be looked at; such an item can only have "+string(protocol.Overwrite)+".")
}

// replaces reports the policy under which nothing is looked at.
func replaces(c protocol.ConflictPolicy) bool { return c == "" || c == protocol.Overwrite }

package producer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
)

// Codes of the problems of members. They are part of the contract like those of problemTable.
const (
	faultMissing      = "missing"
	faultWrongType    = "wrong_type"
	faultUnknown      = "unknown_member"
	faultUnexpected   = "unexpected_member" // known, but not in a location of this type
	faultEmpty        = "empty"
	faultTooLong      = "too_long"
	faultTooMany      = "too_many"
	faultOutOfRange   = "out_of_range"
	faultControl      = "control_character"
	faultDuplicateID  = "duplicate_id"
	faultUnknownType  = "unknown_location_type"
	faultNotSource    = "not_a_source"
	faultNotDest      = "not_a_destination"
	faultSame         = "same_location"
	faultPath         = "invalid_path"
	faultPathEscapes  = "path_escapes"
	faultPathReserved = "path_reserved"
	faultURL          = "invalid_url"
	faultHost         = "invalid_host"
	faultUserinfo     = "url_userinfo"
	faultHeader       = "invalid_header"
	faultForbidden    = "forbidden_header"
	faultDuplicate    = "duplicate_header"
	faultForm         = "invalid_form"
	faultFileField    = "file_field_conflict"
	faultBucket       = "invalid_bucket"
	faultKey          = "invalid_key"
	faultChoice       = "not_allowed"
	faultNotGranted   = "bucket_not_granted"
)

// maxItemID bounds the id that a caller gives an item, in bytes.
const maxItemID = 256

// object checks that v is an object with known members only. It reports false if there is nothing to look into.
func object(v value, at string, p *problems, known ...string) bool {
	switch {
	case v.absent():
		p.add(at, faultMissing, "This object is required.")
		return false
	case v.kind != jsontext.KindBeginObject:
		p.add(at, faultWrongType, "This must be an object, it is "+v.kindName()+".")
		return false
	}
	unknownMembers(v, at, p, known...)
	return true
}

// unknownMembers refuses what is not known: a mistyped optional member would else be dropped, and the copy
// would not be the one that was asked for.
func unknownMembers(v value, at string, p *problems, known ...string) {
	for _, m := range v.members {
		if !slices.Contains(known, m.name) {
			p.add(pointer(at, m.name), faultUnknown, "There is no such member here; known are "+strings.Join(known, ", ")+".")
		}
	}
	tooManyMembers(v, at, p)
}

func tooManyMembers(v value, at string, p *problems) {
	if v.extra > 0 {
		p.add(at, faultTooMany, "This object has "+strconv.Itoa(len(v.members)+v.extra)+" members, far too many.")
	}
}

// requiredString returns a member that must be there and not empty.
func requiredString(v value, at, name string, p *problems) (string, bool) {
	member := v.get(name)
	if member.absent() {
		p.add(pointer(at, name), faultMissing, "This member is required.")
		return "", false
	}
	text, ok := optionalString(v, at, name, p)
	if ok && text == "" {
		p.add(pointer(at, name), faultEmpty, "This member must not be empty.")
		return "", false
	}
	return text, ok
}

// optionalString returns a member or "". It reports false if the member is there and not a string.
func optionalString(v value, at, name string, p *problems) (string, bool) {
	member := v.get(name)
	switch {
	case member.absent():
		return "", true
	case member.kind != jsontext.KindString:
		p.add(pointer(at, name), faultWrongType, "This must be a string, it is "+member.kindName()+".")
		return "", false
	}
	return member.text, true
}

// optionalInt returns a whole number within bounds, or fallback if the member is absent.
func optionalInt(v value, at, name string, fallback, least, most int64, p *problems) int64 {
	member := v.get(name)
	switch {
	case member.absent():
		return fallback
	case member.kind != jsontext.KindNumber:
		p.add(pointer(at, name), faultWrongType, "This must be a whole number, it is "+member.kindName()+".")
		return fallback
	}
	n, err := strconv.ParseInt(member.text, 10, 64)
	if err != nil || n < least || n > most {
		p.add(pointer(at, name), faultOutOfRange, fmt.Sprintf("This must be a whole number from %d to %d.", least, most))
		return fallback
	}
	return n
}

// itemID returns the caller's id of an item. Absent, null and "" all mean that it has none.
func itemID(file value, at string, p *problems) string {
	id, ok := optionalString(file, at, "id", p)
	switch {
	case !ok:
	case len(id) > maxItemID:
		p.add(pointer(at, "id"), faultTooLong, "An id may have 256 bytes at most.")
	case hasControl(id):
		p.add(pointer(at, "id"), faultControl, "An id must not hold control characters.")
	default:
		return id
	}
	return ""
}

// hasControl reports a character of the Unicode class Cc: C0, DEL and C1.
func hasControl(s string) bool { return strings.ContainsFunc(s, unicode.IsControl) }

package rules

import (
	"net/url"
	"strings"
)

// urlFault says what is wrong with the template of a URL, and marks which of its placeholders stand in the query.
func (t *template) urlFault() string {
	if t.raw() || t.fixed() {
		return ""
	}
	const where = "A placeholder is the whole URL, or stands in its path or query: behind scheme, host and a '/' or '?'."
	scheme, rest, ok := strings.Cut(t.literal(), "://")
	if !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return where
	}
	end := strings.IndexAny(rest, "/?#")
	if end <= 0 {
		return where
	}
	if strings.Contains(rest[:end], "@") {
		return "A URL must not hold a user or password; use an Authorization header."
	}
	query := false
	for i, p := range t.parts {
		t.parts[i].inQuery = query
		if strings.Contains(p.literal, "#") {
			return "A URL with placeholders must not have a fragment: no client sends it."
		}
		if _, err := url.PathUnescape(p.literal); err != nil {
			return "A '%' in a URL begins two hexadecimal digits; write %25 for the sign itself."
		}
		query = query || strings.Contains(p.literal, "?")
	}
	return ""
}

// url joins the template of a URL and escaped values: what is read from its path or query is exactly the value. Segments that a value is in are
// neither empty nor such as climb, also once they are decoded.
func (t *template) url(values []string) (text, code, message string) {
	var b strings.Builder
	path := segments{open: true}
	for i, p := range t.parts {
		switch {
		case p.holder == nil:
			b.WriteString(p.literal)
			path.literal(p.literal)
		case p.inQuery:
			escape(&b, values[i], "")
		case p.holder.name == "key" || p.holder.name == "key.dir":
			escape(&b, values[i], "/")
			for j, segment := range strings.Split(values[i], "/") {
				if j > 0 {
					path.end()
				}
				path.value(segment)
			}
		default:
			escape(&b, values[i], "")
			path.value(values[i])
		}
	}
	path.end()
	switch {
	case path.climbs:
		return "", CodeEscapes, `A value must not make a segment of the URL that is empty, "." or "..".`
	case b.Len() > maxURL:
		return "", CodeTooLong, "The URL is longer than 8192 bytes."
	}
	return b.String(), "", ""
}

// segments looks at the path of a URL as it is decoded.
type segments struct {
	open    bool   // the query has not begun
	current string // segment so far
	touched bool   // a value is in it
	climbs  bool
}

// literal takes a literal part of the URL. Its scheme and host are segments in which no value is.
func (s *segments) literal(text string) {
	if !s.open {
		return
	}
	path, _, query := strings.Cut(text, "?")
	for i, segment := range strings.Split(path, "/") {
		if i > 0 {
			s.end()
		}
		decoded, err := url.PathUnescape(segment)
		if err != nil {
			decoded = segment // urlFault refused it
		}
		s.current += decoded
	}
	if query {
		s.end()
		s.open = false
	}
}

func (s *segments) value(text string) {
	s.current += text
	s.touched = true
}

// end ends a segment. Servers that decode before they split, or take a backslash for a slash, would see several.
func (s *segments) end() {
	if s.touched && s.open {
		for name := range strings.FieldsFuncSeq(s.current, func(r rune) bool { return r == '/' || r == '\\' }) {
			s.climbs = s.climbs || name == "." || name == ".."
		}
		s.climbs = s.climbs || s.current == ""
	}
	s.current, s.touched = "", false
}

const hexDigits = "0123456789ABCDEF"

// escape writes a value with all but the unreserved characters of RFC 3986, 2.3, percent-encoded, and those of keep.
func escape(b *strings.Builder, value, keep string) {
	for i := range len(value) {
		c := value[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 || strings.IndexByte(keep, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&15])
	}
}

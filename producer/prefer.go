package producer

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxPreferWait bounds what a caller may ask to wait, in seconds.
const maxPreferWait = 900

// preferences are those of RFC 7240 that mean something here.
type preferences struct {
	async bool
	wait  *time.Duration // nil: not given
}

// parsePrefer reads the Prefer headers. As the RFC demands, what is unknown or malformed is ignored and the
// first of several of one name counts. A wait of more than 900 seconds is malformed.
func parsePrefer(h http.Header) preferences {
	var out preferences
	seen := map[string]bool{}
	for _, line := range h.Values("Prefer") {
		for _, part := range splitUnquoted(line, ',') {
			preference := splitUnquoted(part, ';')[0] // its parameters change nothing
			name, value, _ := strings.Cut(preference, "=")
			name = strings.ToLower(strings.TrimSpace(name))
			if seen[name] {
				continue
			}
			seen[name] = true
			switch name {
			case "respond-async":
				out.async = true
			case "wait":
				out.wait = waitSeconds(strings.Trim(strings.TrimSpace(value), `"`))
			}
		}
	}
	return out
}

func waitSeconds(s string) *time.Duration {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n > maxPreferWait {
		return nil
	}
	d := time.Duration(n) * time.Second
	return &d
}

// splitUnquoted splits at sep outside quoted strings (RFC 9110, 5.6.4).
func splitUnquoted(s string, sep byte) []string {
	var parts []string
	start, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == sep && !quoted:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

// maxIdempotencyKey bounds an Idempotency-Key, in bytes.
const maxIdempotencyKey = 255

// idempotencyKey returns the key, or "" if none was sent. It takes the plain form that most clients send, and the
// quoted one of draft-ietf-httpapi-idempotency-key-header; they are the same key.
func idempotencyKey(h http.Header) (string, *Problem) {
	values := h.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	key, ok := unquote(strings.TrimSpace(values[0]))
	if len(values) > 1 || !ok || key == "" || len(key) > maxIdempotencyKey || !visibleASCII(key) {
		p := newProblem(CodeInvalidHeader, "Idempotency-Key must be given once and have 1 to 255 visible ASCII characters.")
		return "", &p
	}
	return key, nil
}

// unquote returns the content of a quoted string (RFC 9651, 3.3.3), or s itself if it is not one.
func unquote(s string) (string, bool) {
	if !strings.HasPrefix(s, `"`) {
		return s, true
	}
	if len(s) < 2 || !strings.HasSuffix(s, `"`) {
		return "", false
	}
	var b strings.Builder
	inner := s[1 : len(s)-1]
	for i := 0; i < len(inner); i++ {
		switch c := inner[i]; {
		case c == '"':
			return "", false
		case c == '\\':
			if i++; i == len(inner) || inner[i] != '"' && inner[i] != '\\' {
				return "", false
			}
		}
		b.WriteByte(inner[i])
	}
	return b.String(), true
}

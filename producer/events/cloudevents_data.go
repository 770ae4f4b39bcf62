package events

import (
	"encoding/base64"
	"mime"
	"slices"
	"strings"
	"unicode/utf8"
)

// contentOf is the media type of an event's data as it was told.
func contentOf(e Event) string {
	text, _ := e.Fields["datacontenttype"].(string)
	return text
}

// mediaOf is a Content-Type without its parameters, in lower case.
func mediaOf(content string) (string, map[string]string) {
	media, params, err := mime.ParseMediaType(content)
	if err != nil {
		media, _, _ = strings.Cut(content, ";")
		media = strings.ToLower(strings.TrimSpace(media))
	}
	return media, params
}

// isJSON reports what CloudEvents 1.0.2 calls data in JSON: the subtype is json, or ends in +json.
func isJSON(content string) bool {
	media, _ := mediaOf(content)
	_, subtype, _ := strings.Cut(media, "/")
	return subtype == "json" || strings.HasSuffix(subtype, "+json")
}

// isText reports whether data of that type are for people to read, as far as we know it.
func isText(content string) bool {
	media, _ := mediaOf(content)
	return strings.HasPrefix(media, "text/") || strings.HasSuffix(media, "+xml") || strings.HasSuffix(media, "+yaml") ||
		slices.Contains([]string{"application/xml", "application/yaml", "application/x-www-form-urlencoded"}, media)
}

// data turns bytes into what rules see: a value in JSON, a text, or base64. What it is depends on the media type that was told; bytes without one are
// JSON or a text if they can be, if guess.
func (d *decoder) data(at, content string, raw []byte, guess bool) (any, error) {
	switch {
	case isJSON(content):
		return d.decode(at, raw)
	case content == "" && guess:
		if v, err := d.decode(at, raw); err == nil {
			return v, nil
		}
	case !isText(content):
		return base64.StdEncoding.EncodeToString(raw), nil
	}
	if utf8.Valid(raw) {
		return string(raw), nil
	}
	return base64.StdEncoding.EncodeToString(raw), nil
}

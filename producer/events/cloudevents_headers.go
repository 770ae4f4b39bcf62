package events

import (
	"bytes"
	"encoding/hex"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// attributePrefix begins the names of headers that are attributes; typeHeader is the other one that is looked at.
const (
	attributePrefix = "ce-"
	typeHeader      = "content-type"
)

// headers are those that belong to an event.
type headers struct {
	content    string            // Content-Type
	attributes map[string]string // by name in lower case with the prefix: NATS keeps the case that the sender chose
	twice      string            // one of these that was there more than once; only a binary event minds
}

func readHeaders(all http.Header) (headers, error) {
	h := headers{attributes: map[string]string{}}
	contents := 0
	for _, name := range slices.Sorted(maps.Keys(all)) {
		lower, values := strings.ToLower(name), all[name]
		switch {
		case len(values) == 0:
		case lower == typeHeader:
			h.content = values[0]
			contents += len(values)
		case strings.HasPrefix(lower, attributePrefix):
			if _, there := h.attributes[lower]; there || len(values) > 1 {
				h.twice = lower
			}
			h.attributes[lower] = values[0]
		}
	}
	if contents > 1 {
		return h, malformed("", "has the header "+typeHeader+" more than once")
	}
	return h, nil
}

// mode is how an event lies in a message.
type mode int

const (
	binaryMode mode = iota
	structuredMode
	batchMode
)

// modeOf tells the mode as the bindings do: the Content-Type of CloudEvents decides, else headers make it binary. What has neither is JSON.
func modeOf(h headers, body []byte) (mode, error) {
	media, params := mediaOf(h.content)
	if strings.HasPrefix(media, "application/cloudevents") {
		if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
			return 0, malformed("", "must be in UTF-8")
		}
		switch media {
		case "application/cloudevents+json", "application/cloudevents": // the latter is what the SDK for Go sends over NATS
			return structuredMode, nil
		case "application/cloudevents-batch+json", "application/cloudevents-batch":
			return batchMode, nil
		}
		return 0, malformed("", "is in a format of CloudEvents other than JSON")
	}
	if len(h.attributes) > 0 {
		return binaryMode, nil
	}
	if start := bytes.TrimLeft(body, " \t\r\n"); len(start) > 0 && (media == "" || media == "application/json") {
		switch start[0] {
		case '{':
			return structuredMode, nil
		case '[':
			return batchMode, nil
		}
	}
	return 0, malformed("", "is no CloudEvent: it has neither ce- headers nor the Content-Type application/cloudevents+json")
}

// binary returns the attributes of a binary event. Over NATS datacontenttype is a header as the others are, over HTTP it is the Content-Type.
func (h headers) binary() (map[string]any, error) {
	if h.twice != "" {
		return nil, malformed("", "has the header "+shortened(h.twice)+" more than once")
	}
	found := map[string]any{}
	if h.content != "" {
		found["datacontenttype"] = h.content
	}
	for _, name := range slices.Sorted(maps.Keys(h.attributes)) {
		value := unescape(h.attributes[name])
		if !utf8.ValidString(value) {
			return nil, malformed("", "has a header "+shortened(name)+" that is not UTF-8")
		}
		found[strings.TrimPrefix(name, attributePrefix)] = value
	}
	return found, nil
}

// unescape undoes what the binding to HTTP does to a value (3.1.3.2): quotes around it and percent-encoding, each once. A '%' that encodes nothing stays:
// several SDKs do not encode at all.
func unescape(value string) string {
	value = strings.Trim(value, " \t")
	if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
		value = unquote(value[1 : len(value)-1])
	}
	var b strings.Builder
	for i := 0; i < len(value); i++ {
		if value[i] == '%' && i+2 < len(value) {
			if decoded, err := hex.DecodeString(value[i+1 : i+3]); err == nil {
				b.Write(decoded)
				i += 2
				continue
			}
		}
		b.WriteByte(value[i])
	}
	return b.String()
}

// unquote undoes the backslashes of a quoted-string (RFC 9110, 5.6.4).
func unquote(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+1 < len(text) {
			i++
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

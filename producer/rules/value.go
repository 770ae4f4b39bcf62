package rules

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/producer/events"
)

// Codes of a [RenderError].
const (
	CodeMissingValue  = "missing_value" // the event does not tell it, or tells an empty text
	CodeEscapes       = "escapes"       // the value would lead out of the place that the template gives it
	CodeUnknownSecret = "unknown_secret"
	CodeTooLong       = "too_long"
	CodeInvalidValue  = "invalid_value" // not a text, a number, true or false; or not UTF-8
)

// value returns what a placeholder stands for. It is never "".
func (p *placeholder) value(e *events.Event) (value, code, message string) {
	if p.path != nil {
		return p.field(e.Fields)
	}
	switch p.name {
	case "type":
		value = e.Type
	case "time":
		if !e.Time.IsZero() {
			value = e.Time.UTC().Format(time.RFC3339Nano)
		}
	case "bucket":
		value = e.Bucket
	case "size":
		if e.Size >= 0 {
			value = strconv.FormatInt(e.Size, 10)
		}
	case "etag":
		value = e.ETag
	case "version":
		value = e.Version
	case "sequencer":
		value = e.Sequencer
	default:
		value = ofKey(p.name, e.Key)
	}
	if value == "" {
		return "", CodeMissingValue, "The event has no value for {{" + p.name + "}}."
	}
	return value, "", ""
}

// ofKey returns a part of a key. A dot at either end of its last segment begins no extension: ".profile" is a name, and so is "a.".
func ofKey(name, key string) string {
	slash := strings.LastIndexByte(key, '/')
	base := key[slash+1:]
	dot := strings.LastIndexByte(base, '.')
	if dot == len(base)-1 {
		dot = 0 // nothing behind it
	}
	switch name {
	case "key":
		return key
	case "key.base":
		return base
	case "key.dir":
		return key[:max(slash, 0)]
	case "key.name":
		if dot > 0 {
			return base[:dot]
		}
		return base
	case "key.ext":
		if dot > 0 {
			return base[dot+1:]
		}
	}
	return ""
}

// field follows a path into the event.
func (p *placeholder) field(fields map[string]any) (value, code, message string) {
	var at any = fields
	for _, s := range p.path {
		at = s.in(at)
	}
	value, ok := scalar(at)
	switch {
	case !ok:
		return "", CodeInvalidValue, "{{" + p.name + "}} is a list or an object in this event, and a placeholder takes one text or number."
	case value == "":
		return "", CodeMissingValue, "The event has no value for {{" + p.name + "}}."
	}
	return value, "", ""
}

// in returns what a step leads to, nil if there is nothing.
func (s step) in(value any) any {
	switch in := value.(type) {
	case map[string]any:
		if !s.list {
			return in[s.name]
		}
	case []any:
		if s.list && s.index < len(in) {
			return in[s.index]
		}
	}
	return nil
}

// scalar returns the text of a value of JSON that is neither a list nor an object; "" for null.
func scalar(value any) (string, bool) {
	switch v := value.(type) {
	case nil:
		return "", true
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case json.Number:
		return v.String(), true
	}
	return "", false
}

package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// The limits of a text beside its length. A value of two bytes takes up to some hundred in memory: the number of them bounds what an event costs.
const (
	maxDepth  = 64
	maxValues = 100_000
)

var (
	errDepth = errors.New("is nested deeper than 64 levels")
	errMany  = errors.New("has more than 100000 values")
)

// decoder reads the JSON of one notification: its body, and data within it that are JSON themselves.
type decoder struct {
	values int // read so far
}

// decode reads one JSON value. Objects are map[string]any, lists []any, and numbers [json.Number], so that none loses a digit.
func (d *decoder) decode(at string, text []byte) (any, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, malformed(at, "is empty")
	}
	in := jsontext.NewDecoder(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(false), jsontext.AllowInvalidUTF8(false))
	v, err := d.value(in)
	if err != nil {
		return nil, syntax(at, err)
	}
	if _, err := in.ReadToken(); !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, malformed(at, "has more behind the JSON value")
	}
	return v, nil
}

func (d *decoder) value(in *jsontext.Decoder) (any, error) {
	tok, err := in.ReadToken()
	if err != nil {
		return nil, err
	}
	if in.StackDepth() > maxDepth {
		return nil, errDepth
	}
	if d.values++; d.values > maxValues {
		return nil, errMany
	}
	switch tok.Kind() {
	case jsontext.KindString:
		return tok.String(), nil
	case jsontext.KindNumber:
		return json.Number(tok.String()), nil
	case jsontext.KindTrue, jsontext.KindFalse:
		return tok.Bool(), nil
	case jsontext.KindBeginObject:
		return d.members(in)
	case jsontext.KindBeginArray:
		return d.elements(in)
	default:
		return nil, nil //nolint:nilnil // a null; the decoder lets no end of a list or object through to here
	}
}

func (d *decoder) members(in *jsontext.Decoder) (any, error) {
	m := map[string]any{}
	for in.PeekKind() != jsontext.KindEndObject {
		tok, err := in.ReadToken()
		if err != nil {
			return nil, err
		}
		name := tok.String() // before the next token overwrites it
		if m[name], err = d.value(in); err != nil {
			return nil, err
		}
	}
	_, err := in.ReadToken()
	return m, err
}

func (d *decoder) elements(in *jsontext.Decoder) (any, error) {
	list := []any{}
	for in.PeekKind() != jsontext.KindEndArray {
		v, err := d.value(in)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := in.ReadToken()
	return list, err
}

// syntax says what is wrong with a text that is no JSON, and nothing of what was in it.
func syntax(at string, err error) error {
	switch {
	case errors.Is(err, errDepth), errors.Is(err, errMany):
		return malformed(at, err.Error())
	case errors.Is(err, jsontext.ErrDuplicateName):
		return malformed(at, "is no valid JSON: a member name occurs twice in one object")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return malformed(at, "is no valid JSON: it ends in the middle of a value")
	}
	return malformed(at, "is no valid JSON, or not UTF-8")
}

// members takes values out of a decoded object. What is wrong is kept, the first thing only.
type members struct {
	at   string // JSON pointer of the object
	in   map[string]any
	kept *error
}

func (m members) fail(name, reason string) {
	if *m.kept == nil {
		*m.kept = malformed(m.at+"/"+name, reason)
	}
}

// object returns a member that must be an object.
func (m members) object(name string) members {
	inner, ok := m.in[name].(map[string]any)
	if !ok {
		m.fail(name, "must be an object")
	}
	return members{at: m.at + "/" + name, in: inner, kept: m.kept}
}

// text returns a member that must be a string of at most so many bytes, or "" if there is none. A null says the same.
func (m members) text(name string, most int) string {
	v, there := m.in[name]
	if !there || v == nil {
		return ""
	}
	s, ok := v.(string)
	switch {
	case !ok:
		m.fail(name, "must be a string")
	case len(s) > most:
		m.fail(name, "is longer than it may be")
	case strings.ContainsFunc(s, isControl):
		m.fail(name, "has control characters")
	}
	return s
}

// isControl reports what no attribute may have in it: CloudEvents 1.0.2, 3.1.
func isControl(r rune) bool { return r < ' ' || r >= 0x7f && r <= 0x9f }

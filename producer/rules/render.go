package rules

import (
	"strings"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/copyfleet/copyfleet/producer/events"
)

// Limits of what is rendered, in bytes.
const (
	maxValue = 64 << 10  // of one text
	maxItem  = 512 << 10 // of an item
	maxURL   = 8 << 10
	maxPath  = 4 << 10
)

// member is a part of an item: a text, or an object.
type member struct {
	name    string
	text    *template // nil: an object
	members []member
}

// source gives placeholders their values.
type source func(t *template, p *placeholder) (value, code, message string)

// Render returns the copy that the rule makes of an event: an item as POST /v1/batches takes it, in JSON, which may hold secrets. secret returns a named
// secret of the org. The error is a [*RenderError]. The same event and secrets make the same bytes.
func (r *Rule) Render(e *events.Event, secret func(name string) (string, error)) ([]byte, error) {
	return r.render(func(_ *template, p *placeholder) (value, code, message string) {
		if p.secret == "" {
			return p.value(e)
		}
		value, err := secret(p.secret)
		if err != nil || value == "" {
			return "", CodeUnknownSecret, `There is no secret "` + p.secret + `".`
		}
		return value, "", ""
	})
}

func (r *Rule) render(from source) ([]byte, error) {
	out, err := r.copy.appendTo(nil, from)
	if err != nil {
		return nil, err
	}
	if len(out) > maxItem {
		return nil, &RenderError{CodeTooLong, "copy", "The copy is longer than an item may be."}
	}
	return out, nil
}

// appendTo writes a part of an item.
func (m *member) appendTo(out []byte, from source) ([]byte, error) {
	if m.text != nil {
		text, err := m.text.render(from)
		if err != nil {
			return nil, err
		}
		if m.text.place == aSize {
			return append(out, text...), nil
		}
		return appendText(out, text, m.text.field)
	}
	out = append(out, '{')
	for i := range m.members {
		if i > 0 {
			out = append(out, ',')
		}
		var err error
		if out, err = appendText(out, m.members[i].name, "copy"); err != nil {
			return nil, err
		}
		if out, err = m.members[i].appendTo(append(out, ':'), from); err != nil {
			return nil, err
		}
		if len(out) > maxItem {
			return nil, &RenderError{CodeTooLong, "copy", "The copy is longer than an item may be."}
		}
	}
	return append(out, '}'), nil
}

// appendText writes a string of JSON. What is not UTF-8 is refused: it would be replaced, and another object be copied.
func appendText(out []byte, text, field string) ([]byte, error) {
	out, err := jsontext.AppendQuote(out, text)
	if err != nil {
		return nil, &RenderError{CodeInvalidValue, field, "The value is not UTF-8."}
	}
	return out, nil
}

// render puts values into a text, as its place asks for.
func (t *template) render(from source) (string, error) {
	values := make([]string, len(t.parts))
	length := 0
	for i, p := range t.parts {
		if p.holder == nil {
			length += len(p.literal)
			continue
		}
		value, code, message := from(t, p.holder)
		if code != "" {
			return "", &RenderError{code, t.field, message}
		}
		values[i] = value
		if length += len(value); length > maxValue {
			return "", &RenderError{CodeTooLong, t.field, "The text is too long."}
		}
	}
	text, code, message := t.placed(values)
	if code != "" {
		return "", &RenderError{code, t.field, message}
	}
	return text, nil
}

// placed joins literals and values.
func (t *template) placed(values []string) (text, code, message string) {
	if t.place == anURL && !t.raw() {
		return t.url(values)
	}
	var b strings.Builder
	for i, p := range t.parts {
		b.WriteString(p.literal)
		b.WriteString(values[i])
	}
	text = b.String()
	switch t.place {
	case anURL:
		if len(text) > maxURL {
			return "", CodeTooLong, "The URL is longer than 8192 bytes."
		}
	case aPath:
		code, message = pathFault(text)
	case destKey:
		code, message = keyFault(text)
	case aHeader:
		if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }) {
			code, message = CodeEscapes, "The value of a header must not hold control characters."
		}
	case aSize:
		code, message = sizeFault(text)
	case plain, aForm:
	}
	return text, code, message
}

// pathFault refuses what would be another file than the one that the template names, or one above its literal directory: with no segment
// that climbs or vanishes, all that is put behind the directory stays below it.
func pathFault(path string) (code, message string) {
	if len(path) > maxPath {
		return CodeTooLong, "The path is longer than 4096 bytes."
	}
	if strings.ContainsFunc(path, unicode.IsControl) {
		return CodeEscapes, "A path must not hold control characters."
	}
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return CodeEscapes, "A path must begin with '/'."
	}
	for segment := range strings.SplitSeq(rest, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return CodeEscapes, `A path must not have a segment that is empty, "." or "..".`
		}
	}
	return "", ""
}

// keyFault refuses a key with a segment that some server resolves to another key, above the literal prefix.
func keyFault(key string) (code, message string) {
	if len(key) > maxKey {
		return CodeTooLong, "The key is longer than 1024 bytes."
	}
	if strings.ContainsFunc(key, unicode.IsControl) {
		return CodeEscapes, "The key of a destination must not hold control characters."
	}
	for segment := range strings.SplitSeq(key, "/") {
		if segment == "." || segment == ".." {
			return CodeEscapes, `The key of a destination must not have a segment "." or "..".`
		}
	}
	return "", ""
}

func sizeFault(text string) (code, message string) {
	if len(text) > 18 || strings.Trim(text, "0123456789") != "" || text != "0" && text[0] == '0' {
		return CodeInvalidValue, "The size is not a whole number of bytes."
	}
	return "", ""
}

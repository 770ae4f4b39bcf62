package producer

import (
	"bytes"
	"errors"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxDepth bounds the nesting of a body, the outermost value included.
	maxDepth = 32
	// maxMembers bounds the members of one object that are looked at; the rest is counted only. It is above
	// every limit on headers and form fields, so that these are told by their own name.
	maxMembers = 128
)

var (
	errDepth    = errors.New("nested deeper than 32 levels")
	errTrailing = errors.New("data after the JSON value")
	errEmpty    = errors.New("the body is empty")
)

// value is a JSON value as far as validation looks into it.
type value struct {
	kind    jsontext.Kind // KindInvalid: the member was absent
	text    string        // of a string, or the literal of a number
	members []member      // of an object, in order
	extra   int           // members of the object beyond maxMembers
}

type member struct {
	name  string
	value value
}

// absent reports whether there is no value. A null says the same, in every optional place.
func (v value) absent() bool {
	return v.kind == jsontext.KindInvalid || v.kind == jsontext.KindNull
}

// get returns a member, or an absent value. Names are unique: the decoder saw to it.
func (v value) get(name string) value {
	for i := range v.members {
		if v.members[i].name == name {
			return v.members[i].value
		}
	}
	return value{}
}

// kindName names a kind in messages.
func (v value) kindName() string {
	switch v.kind {
	case jsontext.KindString:
		return "a string"
	case jsontext.KindNumber:
		return "a number"
	case jsontext.KindTrue, jsontext.KindFalse:
		return "a boolean"
	case jsontext.KindBeginObject:
		return "an object"
	case jsontext.KindBeginArray:
		return "an array"
	case jsontext.KindNull:
		return "null"
	default:
		return "absent"
	}
}

// decoder reads one JSON value from memory, once. It refuses duplicate names and invalid UTF-8
// (RFC 7493), more than maxDepth levels and trailing data. Its errors become problems in [syntaxProblem].
type decoder struct{ *jsontext.Decoder }

func newDecoder(body []byte) *decoder {
	// A bytes.Buffer is the form that jsontext reads without copying.
	return &decoder{jsontext.NewDecoder(bytes.NewBuffer(body),
		jsontext.AllowDuplicateNames(false), jsontext.AllowInvalidUTF8(false))}
}

// token reads the next token, checking the depth.
func (d *decoder) token() (jsontext.Token, error) {
	tok, err := d.ReadToken()
	if err != nil {
		return tok, err
	}
	if d.StackDepth() > maxDepth {
		return tok, &jsontext.SyntacticError{ByteOffset: d.InputOffset(), JSONPointer: d.StackPointer(), Err: errDepth}
	}
	return tok, nil
}

// value reads a whole value and keeps objects down to the given number of levels.
func (d *decoder) value(levels int) (value, error) {
	tok, err := d.token()
	if err != nil {
		return value{}, err
	}
	v := value{kind: tok.Kind()}
	switch v.kind {
	case jsontext.KindString, jsontext.KindNumber:
		v.text = tok.String()
	case jsontext.KindBeginObject:
		if levels > 0 {
			return d.members(levels)
		}
		return v, d.leave(d.StackDepth() - 1)
	case jsontext.KindBeginArray:
		return v, d.leave(d.StackDepth() - 1)
	}
	return v, nil
}

// members reads the rest of an object whose brace has been read.
func (d *decoder) members(levels int) (value, error) {
	v := value{kind: jsontext.KindBeginObject}
	for {
		tok, err := d.token()
		if err != nil || tok.Kind() == jsontext.KindEndObject {
			return v, err
		}
		name, keep := "", len(v.members) < maxMembers
		if keep {
			name = tok.String() // before the next token overwrites it
		}
		inner, err := d.value(levels - 1)
		if err != nil {
			return v, err
		}
		if keep {
			v.members = append(v.members, member{name, inner})
		} else {
			v.extra++
		}
	}
}

// leave reads until the depth is that, without keeping anything.
func (d *decoder) leave(depth int) error {
	for d.StackDepth() > depth {
		if _, err := d.token(); err != nil {
			return err
		}
	}
	return nil
}

// end makes sure that nothing follows the value.
func (d *decoder) end() error {
	_, err := d.token()
	if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return &jsontext.SyntacticError{ByteOffset: d.InputOffset(), Err: errTrailing}
}

// decodeObject decodes a body that is one flat object.
func decodeObject(body []byte, levels int) (value, *Problem) {
	d := newDecoder(body)
	v, err := d.value(levels)
	if err == nil {
		err = d.end()
	}
	if err != nil {
		return v, syntaxProblem(err)
	}
	if v.kind != jsontext.KindBeginObject {
		var p problems
		p.add("", "wrong_type", "The body must be an object, it is "+v.kindName()+".")
		return v, p.problem(CodeInvalidRequest)
	}
	return v, nil
}

// syntaxProblem tells what is wrong with the JSON and where, and nothing of what was in it.
func syntaxProblem(err error) *Problem {
	path, at, reason := syntaxFault(err)
	var p problems
	p.add(path, "syntax", "The body is not valid JSON at "+at+": "+reason+".")
	return p.problem(CodeInvalidJSON)
}

// syntaxFault returns the JSON pointer of what is wrong, its place in bytes, and what it is.
func syntaxFault(err error) (path, at, reason string) {
	at, reason = "the start", "malformed, or not UTF-8"
	if s, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		at = "byte " + strconv.FormatInt(s.ByteOffset, 10)
		for name := range s.JSONPointer.Tokens() {
			path = pointer(path, name)
		}
	}
	switch {
	case errors.Is(err, errDepth):
		reason = errDepth.Error()
	case errors.Is(err, errTrailing):
		reason = errTrailing.Error()
	case errors.Is(err, jsontext.ErrDuplicateName):
		reason = "a member name occurs twice in one object"
	case errors.Is(err, io.ErrUnexpectedEOF):
		reason = "it ends in the middle of a value"
	case errors.Is(err, io.EOF):
		reason = errEmpty.Error()
	}
	return path, at, reason
}

package producer

import (
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/copyfleet/copyfleet/protocol"
)

// itemLevels are the levels of an item that validation looks into: the item, its locations, their headers and forms.
const itemLevels = 3

// ndjsonRows reads an item a line.
type ndjsonRows struct {
	lines *lineReader
	line  bytes.Buffer
	d     *decoder
}

func newNDJSONRows(lines *lineReader) *ndjsonRows {
	n := &ndjsonRows{lines: lines}
	n.d = &decoder{Decoder: new(jsontext.Decoder)}
	return n
}

// next implements rows.
func (n *ndjsonRows) next(c *itemCheck) (protocol.ManifestItem, error) {
	line, err := n.lines.line(c)
	if line == nil {
		return protocol.ManifestItem{}, err
	}
	n.line = *bytes.NewBuffer(line) // the form that jsontext reads without copying
	n.d.Reset(&n.line, jsontext.AllowDuplicateNames(false), jsontext.AllowInvalidUTF8(false))
	v, err := n.d.value(itemLevels)
	if err == nil {
		err = n.d.end()
	}
	switch {
	case err == nil:
		return c.item(v, n.lines.at()), nil
	case n.lines.cut && errors.Is(err, io.ErrUnexpectedEOF):
		n.lines.tellCut(c)
	default:
		path, at, reason := syntaxFault(err)
		c.problems.add(n.lines.at()+path, "syntax", "The line is not valid JSON at "+at+" of it: "+reason+".")
	}
	return protocol.ManifestItem{}, nil
}

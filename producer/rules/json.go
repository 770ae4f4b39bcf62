package rules

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v4"
)

// jsonNodes reads values of JSON, one behind the other, as the nodes that YAML has. The Value of each on top is its text.
func jsonNodes(text []byte) ([]*yaml.Node, error) {
	// What occurs twice is told with its line, as in YAML.
	j := jsonReader{text: text, d: jsontext.NewDecoder(bytes.NewReader(text), jsontext.AllowDuplicateNames(true)), line: 1}
	var nodes []*yaml.Node
	for j.d.PeekKind() != jsontext.KindInvalid && len(nodes) <= MaxDocuments {
		node, err := j.value(1)
		if err != nil {
			return nil, err
		}
		node.Value = string(text[j.from:int(j.d.InputOffset())])
		nodes = append(nodes, node)
	}
	if _, err := j.d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	return nodes, nil
}

type jsonReader struct {
	text []byte
	d    *jsontext.Decoder
	line int // of at
	at   int
	from int // where the value on top begins
}

// here is the line of the token that was read last.
func (j *jsonReader) here() int {
	end := int(j.d.InputOffset())
	j.line += bytes.Count(j.text[j.at:end], []byte("\n"))
	j.at = end
	return j.line
}

func (j *jsonReader) value(depth int) (*yaml.Node, error) {
	if depth > maxDepth {
		return nil, errDeep
	}
	tok, err := j.d.ReadToken()
	if err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	if depth == 1 {
		j.from = int(j.d.InputOffset()) - 1
	}
	node := &yaml.Node{Kind: yaml.ScalarNode, Line: j.here()}
	switch kind := tok.Kind(); kind {
	case jsontext.KindBeginObject, jsontext.KindBeginArray:
		node.Kind, node.Tag = yaml.MappingNode, "!!map"
		if kind == jsontext.KindBeginArray {
			node.Kind, node.Tag = yaml.SequenceNode, "!!seq"
		}
		for {
			if next := j.d.PeekKind(); next == jsontext.KindEndObject || next == jsontext.KindEndArray {
				break
			}
			part, err := j.value(depth + 1)
			if err != nil {
				return nil, err
			}
			node.Content = append(node.Content, part)
		}
		if _, err := j.d.ReadToken(); err != nil {
			return nil, fmt.Errorf("read JSON: %w", err)
		}
	case jsontext.KindString:
		node.Tag, node.Value = "!!str", tok.String()
	case jsontext.KindNumber:
		node.Tag, node.Value = "!!int", tok.String()
	case jsontext.KindNull:
		node.Tag = "!!null"
	default:
		node.Tag, node.Value = "!!bool", tok.String()
	}
	return node, nil
}

package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// maxText bounds a text in a rule, in bytes.
const maxText = 8 << 10

// add tells of a problem. line is that of the document.
func (p *parser) add(line int, field, format string, args ...any) {
	if line > 0 {
		line += p.before
	}
	p.problems = append(p.problems, Problem{Document: max(p.number, 1), Line: line, Field: field, Message: fmt.Sprintf(format, args...)})
}

// short is a text that others wrote, fit for a message.
func short(s string) string {
	s = strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s), "?")
	if len(s) <= 300 {
		return s
	}
	cut := 300
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// named is a field of an object.
type named struct {
	name string
	node *yaml.Node
	line int // of the name
}

// object returns the fields of an object, those that are null left out. It is nil, false if there is no object.
func (p *parser) object(n *yaml.Node, field string, known ...string) (map[string]named, bool) {
	list, ok := p.pairs(n, field)
	if !ok {
		return nil, false
	}
	fields := make(map[string]named, len(list))
	for _, f := range list {
		switch {
		case !slices.Contains(known, f.name):
			p.add(f.line, join(field, short(f.name)), "There is no such field here; known are %s.", strings.Join(known, ", "))
		case !null(f.node):
			fields[f.name] = f
		}
	}
	return fields, true
}

// pairs returns the fields of an object as they stand, without those that are given twice.
func (p *parser) pairs(n *yaml.Node, field string) ([]named, bool) {
	if n.Kind != yaml.MappingNode || n.ShortTag() != "!!map" {
		p.add(n.Line, field, "This must be an object, it is %s.", kindOf(n))
		return nil, false
	}
	names := map[string]bool{}
	var list []named
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			p.add(key.Line, field, "The name of a field must be a text, it is %s.", kindOf(key))
			continue
		}
		if names[key.Value] {
			p.add(key.Line, join(field, short(key.Value)), "This field is given twice.")
			continue
		}
		names[key.Value] = true
		list = append(list, named{key.Value, value, key.Line})
	}
	return list, true
}

func join(field, name string) string {
	if field == "" {
		return name
	}
	return field + "." + name
}

func null(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// kindOf names what a node is, for messages.
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		if len(n.Content) > 0 && n.Content[0].Kind == yaml.MappingNode {
			return `an object: a placeholder must stand in quotes, as "{{bucket}}"`
		}
		return "an object"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias, and aliases are not taken"
	case yaml.ScalarNode:
	default:
		return "something else"
	}
	switch n.ShortTag() {
	case "!!str":
		return "a text"
	case "!!null":
		return "null"
	case "!!bool":
		return "true or false; put it in quotes"
	case "!!int", "!!float":
		return "a number; put it in quotes"
	case "!!timestamp":
		return "a date; put it in quotes"
	}
	return "of the tag " + short(n.Tag)
}

// text returns a text that is not empty.
func (p *parser) text(n *yaml.Node, field string) (string, bool) {
	switch {
	case n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str":
		p.add(n.Line, field, "This must be a text, it is %s.", kindOf(n))
	case n.Value == "":
		p.add(n.Line, field, "This must not be empty.")
	case len(n.Value) > maxText:
		p.add(n.Line, field, "This may have %d bytes at most.", maxText)
	default:
		return n.Value, true
	}
	return "", false
}

// texts returns a list of texts, one at least.
func (p *parser) texts(n *yaml.Node, field string, most int) []named {
	if n.Kind != yaml.SequenceNode {
		p.add(n.Line, field, "This must be a list of texts, it is %s.", kindOf(n))
		return nil
	}
	if len(n.Content) == 0 || len(n.Content) > most {
		p.add(n.Line, field, "This list must have 1 to %d entries.", most)
		return nil
	}
	var list []named
	for i, node := range n.Content {
		if text, ok := p.text(node, field+"["+strconv.Itoa(i)+"]"); ok {
			list = append(list, named{text, node, node.Line})
		}
	}
	return list
}

// whole returns a whole number within bounds.
func (p *parser) whole(n *yaml.Node, field string, least, most int64) int64 {
	number, err := strconv.ParseInt(n.Value, 10, 64)
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || err != nil || number < least || number > most {
		p.add(n.Line, field, "This must be a whole number from %d to %d.", least, most)
		return 0
	}
	return number
}

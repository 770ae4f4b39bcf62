package rules

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// Limits of a file.
const (
	MaxFile      = 256 << 10 // bytes
	MaxDocuments = 100
	maxDepth     = 20  // levels of a document
	maxProblems  = 100 // told of a file
)

var (
	errDeep  = errors.New("it is nested too deeply")
	errAlias = errors.New("aliases are not taken")
)

// bounds keeps the reader of YAML from work that a file of [MaxFile] bytes cannot be worth.
type bounds struct{}

// CheckDepth implements [yaml.LoaderLimitsPlugin].
func (bounds) CheckDepth(depth int, _ *yaml.DepthContext) error {
	if depth > maxDepth {
		return errDeep
	}
	return nil
}

// CheckAlias implements [yaml.LoaderLimitsPlugin]. Nodes keep aliases as they are; whoever comes upon one refuses it, with its line.
func (bounds) CheckAlias(aliases, _ int) error {
	if aliases > maxProblems {
		return errAlias
	}
	return nil
}

// document is one of those in a file.
type document struct {
	text []byte // as it was written
	line int    // of the file, on which it begins; from 1
}

// split divides a file at its markers. A line that begins with "---" is one wherever it stands, also inside a quoted text or a block (YAML 1.2.2,
// 9.1.4: c-forbidden), so documents can be told apart without being read, and what is wrong with one hides nothing of the next.
func split(file []byte) []document {
	var documents []document
	start, from := 0, 1
	line := 0
	cut := func(end int) {
		if text := file[start:end]; !blank(text) {
			documents = append(documents, document{text, from})
		}
	}
	for at := 0; at < len(file); {
		line++
		next := len(file)
		if i := bytes.IndexByte(file[at:], '\n'); i >= 0 {
			next = at + i + 1
		}
		switch rest, marker := markerOf(file[at:next]); marker {
		case "---": // what stands behind the marker belongs to the document
			cut(at)
			start, from = at+rest, line
		case "...":
			cut(at)
			start, from = next, line+1
		}
		at = next
	}
	cut(len(file))
	return documents
}

// markerOf returns the marker that a line is, and its length.
func markerOf(line []byte) (int, string) {
	for _, marker := range []string{"---", "..."} {
		if rest, ok := bytes.CutPrefix(line, []byte(marker)); ok && (len(rest) == 0 || strings.IndexByte(" \t\r\n", rest[0]) >= 0) {
			return len(marker), marker
		}
	}
	return 0, ""
}

// blank reports whether nothing but comments and directives stands there.
func blank(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' && line[0] != '%' {
			return false
		}
	}
	return true
}

// nodes reads a document. JSON is read as such: not all of it is YAML, such as pairs of surrogates, and there may be several values in a row.
func (d document) nodes() ([]*yaml.Node, error) {
	if text := bytes.TrimSpace(d.text); len(text) > 0 && text[0] == '{' {
		if nodes, err := jsonNodes(d.text); err == nil {
			return nodes, nil
		}
	}
	loader, err := yaml.NewLoader(bytes.NewReader(d.text), yaml.WithPlugin(bounds{}))
	if err != nil {
		return nil, err
	}
	var root yaml.Node
	if err := loader.Load(&root); err != nil {
		return nil, err
	}
	if err := loader.Load(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something behind its end")
	}
	if root.Kind != yaml.DocumentNode || len(root.Content) != 1 {
		return nil, errors.New("it is empty")
	}
	return root.Content, nil
}

// Parse reads a file of one or more documents, YAML or JSON. Either all of them are valid, or the problems say all that is wrong.
func Parse(file []byte) ([]*Rule, []Problem) {
	file = bytes.TrimPrefix(file, []byte("\ufeff"))
	if len(file) > MaxFile {
		return nil, []Problem{{Document: 1, Message: "A file of rules may have " + strconv.Itoa(MaxFile) + " bytes at most."}}
	}
	if !utf8.Valid(file) {
		line := 1
		for text := range bytes.Lines(file) {
			if !utf8.Valid(text) {
				break
			}
			line++
		}
		return nil, []Problem{{Document: 1, Line: line, Message: "The file must be UTF-8, and is not on this line."}}
	}
	var p parser
	for _, d := range split(file) {
		if p.number >= MaxDocuments {
			p.add(d.line, "", "A file may have %d documents at most.", MaxDocuments)
			break
		}
		p.document(d)
		if len(p.problems) >= maxProblems {
			break
		}
	}
	if p.number == 0 {
		p.add(0, "", "There is no rule in the file.")
	}
	if len(p.problems) > 0 {
		return nil, p.problems[:min(len(p.problems), maxProblems)]
	}
	return p.rules, nil
}

// parser reads a file.
type parser struct {
	rules    []*Rule
	problems []Problem
	number   int             // of the document
	before   int             // lines of the file in front of it
	names    map[string]bool // of the rules so far
}

// document reads one document.
func (p *parser) document(d document) {
	p.number++
	p.before = d.line - 1
	nodes, err := d.nodes()
	if err != nil {
		p.syntax(err, d.text)
		return
	}
	for i, node := range nodes {
		if i > 0 {
			p.number++
		}
		if p.number > MaxDocuments {
			p.add(node.Line, "", "A file may have %d documents at most.", MaxDocuments)
			return
		}
		text := d.text
		if len(nodes) > 1 {
			text = []byte(node.Value) // see jsonNodes
		}
		p.rule(node, bytes.TrimSpace(text))
	}
}

// syntax tells of a document that cannot be read.
func (p *parser) syntax(err error, text []byte) {
	line, why := 1, err.Error()
	if e, ok := errors.AsType[*yaml.LoadError](err); ok {
		why = e.Message
		if line = max(e.Mark.Line, 1); e.ContextMsg != "" {
			why = e.ContextMsg + ": " + why
		}
	}
	switch {
	case errors.Is(err, errDeep):
		why = errDeep.Error()
	case errors.Is(err, errAlias):
		why = errAlias.Error()
	}
	hint := ""
	if near(text, line, "{{") { // within braces it begins an object, and the reader stumbles later
		hint = ` A text with a placeholder must stand in quotes, as "/in/{{key.base}}".`
	}
	p.add(line, "", "The document cannot be read: %s.%s", short(why), hint)
}

// near reports whether a line or the one before it has a text.
func near(text []byte, line int, what string) bool {
	lines := bytes.SplitN(text, []byte("\n"), line+1)
	lines = lines[:min(line, len(lines))]
	for _, one := range lines[max(len(lines)-2, 0):] {
		if bytes.Contains(one, []byte(what)) {
			return true
		}
	}
	return false
}

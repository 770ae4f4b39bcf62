package rules

import (
	"regexp"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"

	"github.com/copyfleet/copyfleet/producer/events"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	maxAttempts = 20  // as of any batch
	maxLabel    = 256 // bytes; as of any batch
	maxPatterns = 50  // of a list
	maxKey      = 1024
)

// reservedName would be the path of its trials below /v1/rules.
const reservedName = "test"

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// rule reads a document.
func (p *parser) rule(n *yaml.Node, text []byte) {
	before := len(p.problems)
	fields, ok := p.object(n, "", "name", "match", "copy", "options")
	if !ok {
		return
	}
	r := &Rule{Text: text, document: p.number, before: p.before, lines: map[string]int{}}
	if f, ok := p.required(n, fields, "", "name"); ok {
		r.Name, r.lines["name"] = p.name(f), f.line
	}
	if f, ok := p.required(n, fields, "", "match"); ok {
		p.match(r, f)
	}
	if f, ok := p.required(n, fields, "", "copy"); ok {
		r.lines["copy"] = f.line
		p.copy(r, f)
	}
	if f, ok := fields["options"]; ok {
		p.options(r, f)
	}
	if len(p.problems) == before {
		p.rehearse(r)
	}
	p.rules = append(p.rules, r)
}

// required returns a field that must be there.
func (p *parser) required(n *yaml.Node, fields map[string]named, field, name string) (named, bool) {
	f, ok := fields[name]
	if !ok {
		p.add(n.Line, join(field, name), "This field is required.")
	}
	return f, ok
}

func (p *parser) name(f named) string {
	name, ok := p.text(f.node, "name")
	switch {
	case !ok:
		return ""
	case !ValidName(name):
		p.add(f.node.Line, "name", "A name has 1 to 63 lowercase letters, digits and '-', and begins with a letter or digit.")
		return ""
	}
	if name == reservedName {
		p.add(f.node.Line, "name", "The name %s is taken by the API.", name)
	}
	if p.names == nil {
		p.names = map[string]bool{}
	}
	if p.names[name] {
		p.add(f.node.Line, "name", "A rule above has the same name, %s.", name)
	}
	p.names[name] = true
	return name
}

// Fields of a match, by source.
var (
	matchS3    = []string{"source", "when", "events", "bucket", "prefix", "suffix", "glob"}
	matchCloud = []string{"source", "when", "types", "origins"}
	matchAll   = []string{"source", "when", "events", "bucket", "prefix", "suffix", "glob", "types", "origins"}
)

func (p *parser) match(r *Rule, f named) {
	fields, ok := p.object(f.node, "match", matchAll...)
	if !ok {
		return
	}
	source, ok := p.required(f.node, fields, "match", "source")
	if !ok {
		return
	}
	name, ok := p.text(source.node, "match.source")
	if !ok {
		return
	}
	switch r.Match.Source = events.Source(name); r.Match.Source {
	case events.S3:
		p.foreign(fields, matchS3, "s3")
		p.matchS3(r, f.node, fields)
	case events.CloudEvents:
		p.foreign(fields, matchCloud, "cloudevents")
		p.matchCloud(r, fields)
	default: // a sweep is no source of rules
		p.add(source.node.Line, "match.source", "The source is s3 or cloudevents.")
		return
	}
	if when, ok := fields["when"]; ok {
		p.when(r, when)
	}
}

// foreign tells of fields that belong to another source.
func (p *parser) foreign(fields map[string]named, own []string, source string) {
	for _, name := range matchAll {
		f, given := fields[name]
		if !given {
			continue
		}
		if !slices.Contains(own, name) {
			p.add(f.line, "match."+name, "A rule on %s has no such field; it has %s.", source, strings.Join(own, ", "))
		}
	}
}

func (p *parser) matchS3(r *Rule, n *yaml.Node, fields map[string]named) {
	if f, ok := p.required(n, fields, "match", "bucket"); ok {
		if r.Match.Bucket, ok = p.text(f.node, "match.bucket"); ok {
			if fault := protocol.BucketFault(r.Match.Bucket); fault != "" {
				p.add(f.node.Line, "match.bucket", "%s The bucket of a match is literal.", fault)
			}
		}
	}
	r.Match.Prefix = p.keyPart(fields, "prefix")
	r.suffix = p.keyPart(fields, "suffix")
	if f, ok := fields["glob"]; ok {
		if pattern, ok := p.text(f.node, "match.glob"); ok {
			var fault string
			if r.glob, fault = compileGlob(pattern); fault != "" {
				p.add(f.node.Line, "match.glob", "%s", fault)
			}
		}
	}
	f, ok := fields["events"]
	if !ok {
		return // creations
	}
	for _, event := range p.texts(f.node, "match.events", maxPatterns) {
		if fault := eventFault(event.name); fault != "" {
			p.add(event.line, "match.events", "%s", fault)
		}
		r.types = append(r.types, event.name)
	}
}

// keyPart reads a prefix or a suffix; "" is none.
func (p *parser) keyPart(fields map[string]named, name string) string {
	f, ok := fields[name]
	if !ok || f.node.Kind == yaml.ScalarNode && f.node.ShortTag() == "!!str" && f.node.Value == "" {
		return ""
	}
	text, ok := p.text(f.node, "match."+name)
	switch {
	case !ok:
	case len(text) > maxKey:
		p.add(f.node.Line, "match."+name, "A key has %d bytes at most.", maxKey)
	case strings.ContainsFunc(text, unicode.IsControl):
		p.add(f.node.Line, "match."+name, "This must not hold control characters.")
	case strings.Contains(text, "{{"):
		p.add(f.node.Line, "match."+name, "This is literal, and takes no placeholders.")
	}
	return text
}

func (p *parser) matchCloud(r *Rule, fields map[string]named) {
	for _, list := range []struct {
		name string
		into *[]string
	}{{"types", &r.types}, {"origins", &r.origins}} {
		f, ok := fields[list.name]
		if !ok {
			continue
		}
		for _, pattern := range p.texts(f.node, "match."+list.name, maxPatterns) {
			if i := strings.IndexByte(pattern.name, '*'); list.name == "types" && i >= 0 && i < len(pattern.name)-1 {
				p.add(pattern.line, "match.types", "A '*' may stand at the end only.")
			}
			*list.into = append(*list.into, pattern.name)
		}
	}
}

func (p *parser) when(r *Rule, f named) {
	text, ok := p.text(f.node, "match.when")
	if !ok {
		return
	}
	program, faults := compileExpression(text, r.Match.Source)
	for _, fault := range faults {
		line := f.node.Line
		if f.node.Style&(yaml.LiteralStyle) != 0 {
			line += fault.line // the text begins behind the line of its sign
		}
		p.add(line, "match.when", "The expression is not valid: %s.", short(fault.message))
	}
	r.when = program
}

func (p *parser) options(r *Rule, f named) {
	fields, ok := p.object(f.node, "options", "lane", "attempts", "label")
	if !ok {
		return
	}
	if f, ok := fields["lane"]; ok {
		if lane, ok := p.text(f.node, "options.lane"); ok {
			if r.Options.Lane = protocol.Lane(lane); r.Options.Lane != protocol.Interactive && r.Options.Lane != protocol.Bulk {
				p.add(f.node.Line, "options.lane", "The lane is interactive or bulk.")
			}
		}
	}
	if f, ok := fields["attempts"]; ok {
		r.Options.Attempts = int(p.whole(f.node, "options.attempts", 1, maxAttempts))
	}
	if f, ok := fields["label"]; ok {
		if label, ok := p.text(f.node, "options.label"); ok {
			if r.Options.Label = label; len(label) > maxLabel || strings.ContainsFunc(label, unicode.IsControl) {
				p.add(f.node.Line, "options.label", "A label has %d bytes at most, and no control characters.", maxLabel)
			}
		}
	}
}

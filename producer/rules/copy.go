package rules

import (
	"encoding/hex"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/copyfleet/copyfleet/protocol"
)

var (
	conflictPolicies = []string{"overwrite", "skip", "fail", "if_different"}
	digestsKnown     = []string{"sha256", "none"}
)

// copy reads what copies a rule makes.
func (p *parser) copy(r *Rule, f named) {
	fields, ok := p.object(f.node, "copy", "id", "src", "dest", "size", "sha256", "md5", "conflict", "digest")
	if !ok {
		return
	}
	c := copies{parser: p, rule: r}
	var members []member
	if id, ok := fields["id"]; ok {
		m := c.member("id", "copy.id", id.node, plain)
		if len(m.text.parts) > 0 && m.text.fixed() {
			p.add(id.node.Line, "copy.id", "An id needs a placeholder: all copies of the rule would have the same.")
		}
		members = append(members, m)
	}
	for _, end := range []string{"src", "dest"} {
		if loc, ok := p.required(f.node, fields, "copy", end); ok {
			members = append(members, c.location(end, loc.node))
		}
	}
	if size, ok := fields["size"]; ok {
		members = append(members, c.size(size.node))
	}
	members = append(members, c.sums(fields)...)
	for _, choice := range []struct {
		name  string
		known []string
	}{{"conflict", conflictPolicies}, {"digest", digestsKnown}} {
		if f, ok := fields[choice.name]; ok {
			members = append(members, c.choice(choice.name, f.node, choice.known))
		}
	}
	r.copy = member{members: members}
	slices.Sort(r.secrets)
	r.secrets = slices.Compact(r.secrets)
}

// copies reads the copy of one rule.
type copies struct {
	*parser

	rule *Rule
}

// member reads a text with placeholders.
func (c *copies) member(name, field string, n *yaml.Node, at place) member {
	c.rule.lines[field] = n.Line
	t := &template{field: field, place: at}
	m := member{name: name, text: t}
	text, ok := c.text(n, field)
	if !ok && (n.Kind != yaml.ScalarNode || n.Value != "" || at != aHeader && at != aForm) {
		return m
	}
	parts, fault := parseTemplate(text)
	t.parts = parts
	if fault == "" && at == anURL {
		fault = t.urlFault()
	}
	if fault == "" && at == aPath && !strings.HasPrefix(t.literal(), "/") {
		fault = "A path begins with a literal '/', the root of the sandbox."
	}
	if fault != "" {
		c.add(n.Line, field, "%s", fault)
		return m
	}
	for _, part := range parts {
		if part.holder != nil {
			c.holder(n, t, part.holder)
		}
	}
	return m
}

// holder checks that a placeholder may stand where it stands.
func (c *copies) holder(n *yaml.Node, t *template, h *placeholder) {
	switch {
	case h.secret != "" && t.place != aHeader && t.place != aForm:
		c.add(n.Line, t.field, "A secret may stand in the values of headers and forms only.")
	case h.secret != "":
		c.rule.secrets = append(c.rule.secrets, h.secret)
	case ofObjects[h.name] && c.rule.Match.Source == "cloudevents":
		c.add(n.Line, t.field, `The placeholder "{{%s}}" belongs to events of S3; a CloudEvent has type, time and event.….`, h.name)
	}
}

// sums reads the digests that the bytes are to have.
func (c *copies) sums(fields map[string]named) (members []member) {
	for _, sum := range []struct {
		name   string
		length int
	}{{"sha256", 32}, {"md5", 16}} {
		f, ok := fields[sum.name]
		if !ok {
			continue
		}
		m := c.member(sum.name, "copy."+sum.name, f.node, plain)
		if m.text != nil && m.text.fixed() {
			if raw, err := hex.DecodeString(m.text.literal()); err != nil || len(raw) != sum.length {
				c.add(f.node.Line, "copy."+sum.name, "This digest has %d hexadecimal digits.", 2*sum.length)
			}
		}
		members = append(members, m)
	}
	return members
}

// size reads a number, or a placeholder for one.
func (c *copies) size(n *yaml.Node) member {
	const field = "copy.size"
	c.rule.lines[field] = n.Line
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!int" {
		c.whole(n, field, 0, 1<<59)
		return member{name: "size", text: &template{field: field, place: aSize, parts: []part{{literal: n.Value}}}}
	}
	m := c.member("size", field, n, aSize)
	if len(m.text.parts) > 0 && !m.text.raw() {
		c.add(n.Line, field, `The size is a whole number, or one placeholder such as "{{size}}".`)
	}
	return m
}

// choice reads a member that is one of several words.
func (c *copies) choice(name string, n *yaml.Node, known []string) member {
	field := "copy." + name
	c.rule.lines[field] = n.Line
	m := member{name: name, text: &template{field: field, place: plain}}
	if text, ok := c.text(n, field); ok {
		if !slices.Contains(known, text) {
			c.add(n.Line, field, "This is one of %s.", strings.Join(known, ", "))
		}
		m.text.parts = []part{{literal: text}}
	}
	return m
}

// ownMembers are the members of a location beside its type, those that are required first, and how many these are.
var ownMembers = map[protocol.LocationType]struct {
	names    []string
	required int
}{
	protocol.SandboxFile:  {[]string{"sandbox", "path"}, 2},
	protocol.HTTPGet:      {[]string{"url", "headers"}, 1},
	protocol.HTTPPut:      {[]string{"url", "headers"}, 1},
	protocol.HTTPPostForm: {[]string{"url", "form", "fileField", "headers"}, 2},
	protocol.Object:       {[]string{"bucket", "key"}, 2},
}

// location reads one end of the copy.
func (c *copies) location(end string, n *yaml.Node) member {
	field := "copy." + end
	m := member{name: end}
	fields, ok := c.object(n, field, "type", "sandbox", "path", "url", "headers", "form", "fileField", "bucket", "key")
	if !ok {
		return m
	}
	c.rule.lines[field], c.rule.lines[field+".type"] = n.Line, n.Line
	t, ok := c.locationType(end, field, n, fields)
	if !ok {
		return m
	}
	if end == "dest" {
		c.rule.writes = t == protocol.Object
	}
	m.members = append(m.members, member{name: "type", text: &template{field: field + ".type", parts: []part{{literal: string(t)}}}})
	own := ownMembers[t]
	for i, name := range own.names {
		f, ok := fields[name]
		if !ok {
			if i < own.required {
				c.add(n.Line, join(field, name), "A %s needs this field.", t)
			}
			continue
		}
		delete(fields, name)
		m.members = append(m.members, c.part(end, field, name, f.node))
	}
	delete(fields, "type")
	for name, f := range fields {
		c.add(f.line, join(field, name), "A %s has no such field; it has type, %s.", t, strings.Join(own.names, ", "))
	}
	return m
}

// part reads a member of a location.
func (c *copies) part(end, field, name string, n *yaml.Node) member {
	at := map[string]place{"path": aPath, "url": anURL}[name]
	switch {
	case name == "headers":
		return c.values(name, join(field, name), n, aHeader)
	case name == "form":
		return c.values(name, join(field, name), n, aForm)
	case name == "key" && end == "dest":
		at = destKey
	}
	return c.member(name, join(field, name), n, at)
}

// values reads an object of texts.
func (c *copies) values(name, field string, n *yaml.Node, at place) member {
	m := member{name: name}
	list, ok := c.pairs(n, field)
	if !ok {
		return m
	}
	for _, f := range list {
		if strings.Contains(f.name, "{{") {
			c.add(f.line, field, "A name is literal, and takes no placeholders.")
			continue
		}
		m.members = append(m.members, c.member(f.name, join(field, short(f.name)), f.node, at))
	}
	slices.SortFunc(m.members, func(a, b member) int { return strings.Compare(a.name, b.name) })
	return m
}

// locationType returns the type if it exists and belongs on this end.
func (c *copies) locationType(end, field string, n *yaml.Node, fields map[string]named) (protocol.LocationType, bool) {
	f, ok := c.required(n, fields, field, "type")
	if !ok {
		return "", false
	}
	text, ok := c.text(f.node, field+".type")
	if !ok {
		return "", false
	}
	t := protocol.LocationType(text)
	fits, types := t.Source(), "sandboxFileLocation, httpGetLocation, objectLocation"
	if end == "dest" {
		fits, types = t.Destination(), "sandboxFileLocation, httpPutLocation, httpPostFormLocation, objectLocation"
	}
	switch {
	case !t.Known():
		c.add(f.node.Line, field+".type", "There is no such location type; allowed here are %s.", types)
	case !fits:
		c.add(f.node.Line, field+".type", "A %s cannot stand here; allowed are %s.", t, types)
	default:
		return t, true
	}
	return "", false
}

package rules

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/producer/events"
	"github.com/copyfleet/copyfleet/protocol"
)

// rehearse renders a rule with made-up values, to find what no event could make right.
func (p *parser) rehearse(r *Rule) {
	_, err := r.render(r.sample("a"))
	if fault, ok := errors.AsType[*RenderError](err); ok {
		p.add(r.lines[fault.Field], fault.Field, "No event can make this valid: %s", fault.Message)
		return
	}
	for i := range r.copy.members {
		end := &r.copy.members[i]
		if end.name != "src" && end.name != "dest" {
			continue
		}
		for _, check := range []struct {
			name  string
			fault func(string) string
		}{{"url", urlFault}, {"bucket", protocol.BucketFault}, {"sandbox", sandboxFault}} {
			text, ok := end.renderedText(check.name, r.sample("a"))
			if fault := check.fault(text); ok && fault != "" {
				field := "copy." + end.name + "." + check.name
				p.add(r.lines[field], field, "%s", fault)
			}
		}
	}
	if r.ontoItself("a") && r.ontoItself("b") {
		p.add(r.lines["copy.dest.type"], "copy.dest", "The copy writes onto itself: source and destination are the same.")
	}
}

// Sample is the copy that the rule makes of an event that is made up, for checks that are done before there is one. It holds no secrets. What is wrong with it
// is wrong with all copies of the rule, except for what depends on the value of a field that is not [Rule.Settled], such as its length.
func (r *Rule) Sample() ([]byte, error) { return r.render(r.sample("a")) }

// Settled reports whether no placeholder stands in a field of the copy, such as copy.src.headers, or in those within it.
func (r *Rule) Settled(field string) bool { return r.copy.settled(field) }

func (m *member) settled(field string) bool {
	if m.text != nil {
		return m.text.fixed() || m.text.field != field && !strings.HasPrefix(m.text.field, field+".")
	}
	return !slices.ContainsFunc(m.members, func(inner member) bool { return !inner.settled(field) })
}

// Problem is something wrong with a field of the rule that others found, with the line of the file that it was read from.
func (r *Rule) Problem(field, message string) Problem {
	p := Problem{Document: r.document, Field: field, Message: message}
	for at := field; p.Line == 0 && at != ""; {
		if line := r.lines[at]; line > 0 {
			p.Line = line + r.before
		}
		at = at[:max(strings.LastIndexByte(at, '.'), 0)]
	}
	return p
}

// ontoItself reports whether source and destination are one, for one made-up event.
func (r *Rule) ontoItself(word string) bool {
	var ends [2]string
	for i := range r.copy.members {
		at := 0
		switch r.copy.members[i].name {
		case "src":
		case "dest":
			at = 1
		default:
			continue
		}
		for _, name := range []string{"type", "bucket", "key", "sandbox", "path"} {
			text, _ := r.copy.members[i].renderedText(name, r.sample(word))
			ends[at] += text + "\x00"
		}
		if typ, _ := r.copy.members[i].renderedText("type", nil); typ != string(protocol.Object) && typ != string(protocol.SandboxFile) {
			return false // one URL may well answer a GET and take a PUT
		}
	}
	return ends[0] == ends[1]
}

// renderedText returns a member of a location.
func (m *member) renderedText(name string, from source) (string, bool) {
	for i := range m.members {
		if t := m.members[i].text; m.members[i].name == name && t != nil {
			text, err := t.render(from)
			return text, err == nil
		}
	}
	return "", false
}

// sample gives placeholders values of the right form.
func (r *Rule) sample(word string) source {
	middle := "sample/" + word + ".txt"
	if room := maxKey - len(r.Match.Prefix) - len(r.suffix); room < len(middle) { // all keys of the rule are nearly as long as keys can be
		middle = word[:max(min(len(word), room), 0)]
	}
	e := events.Event{
		Type: "sample", Time: time.Unix(1, 0), Bucket: r.Match.Bucket, Key: r.Match.Prefix + middle + r.suffix,
		Version: "sample", Sequencer: "01", ETag: "sample", Size: 1,
	}
	return func(t *template, h *placeholder) (value, code, message string) {
		switch {
		case h.secret != "":
			return "sample", "", ""
		case t.field == "copy.sha256" && t.raw():
			return strings.Repeat("0", 64), "", ""
		case t.field == "copy.md5" && t.raw():
			return strings.Repeat("0", 32), "", ""
		case t.place == aSize:
			return "1", "", ""
		case h.path == nil:
			return h.value(&e)
		case t.place == anURL && t.raw():
			return "https://example.com/" + word, "", ""
		case t.raw() && (strings.HasSuffix(t.field, ".bucket") || strings.HasSuffix(t.field, ".sandbox")):
			return "sample-" + word, "", ""
		}
		return word, "", ""
	}
}

// urlFault says what is wrong with a URL before anybody dials it.
func urlFault(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil: // its text repeats the URL
		return "This is not a valid URL."
	case u.Scheme != "http" && u.Scheme != "https":
		return "A URL must begin with http:// or https://."
	case u.User != nil:
		return "A URL must not hold a user or password; use an Authorization header."
	case u.Host == "":
		return "A URL must name a host."
	}
	return ""
}

func sandboxFault(id string) string {
	if protocol.ValidID(id) {
		return ""
	}
	return "There can be no such sandbox: an id has 1 to 128 letters, digits, '.', '_' and '-', and begins with a letter or digit."
}

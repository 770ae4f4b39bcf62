package rules

import (
	"regexp"
	"strconv"
	"strings"
)

// place says where in an item a text stands, which decides how values are put into it.
type place int

const (
	plain   place = iota
	anURL         // of a location
	aPath         // in a sandbox
	destKey       // of an object that is written
	aHeader       // a value
	aForm         // a value
	aSize         // a number of bytes
)

const numberOf = 64 // most parts of a text

// template is a text with placeholders.
type template struct {
	field string // such as copy.dest.path
	place place
	parts []part
}

// part is a literal, or a placeholder.
type part struct {
	literal string
	holder  *placeholder
	inQuery bool // of a URL
}

// placeholder names a value.
type placeholder struct {
	name   string // as it was written
	secret string // its name
	path   []step // behind "event"
}

// step leads from a value to one inside it.
type step struct {
	name  string
	index int
	list  bool
}

// raw reports whether the template is one placeholder and nothing else.
func (t *template) raw() bool { return len(t.parts) == 1 && t.parts[0].holder != nil }

// literal is what stands in front of the first placeholder.
func (t *template) literal() string {
	if len(t.parts) == 0 || t.parts[0].holder != nil {
		return ""
	}
	return t.parts[0].literal
}

// fixed reports whether there is no placeholder.
func (t *template) fixed() bool {
	return len(t.parts) == 0 || len(t.parts) == 1 && t.parts[0].holder == nil
}

// parseTemplate takes a text apart, or says what is wrong with it.
func parseTemplate(text string) (parts []part, fault string) {
	for text != "" {
		open := strings.Index(text, "{{")
		if open < 0 {
			return append(parts, part{literal: text}), ""
		}
		end := strings.Index(text[open:], "}}")
		if end < 0 {
			return nil, `A "{{" is not closed.`
		}
		if open > 0 {
			parts = append(parts, part{literal: text[:open]})
		}
		holder, fault := parsePlaceholder(strings.Trim(text[open+2:open+end], " "))
		if fault != "" {
			return nil, fault
		}
		if parts = append(parts, part{holder: holder}); len(parts) > numberOf {
			return nil, "There are more than " + strconv.Itoa(numberOf) + " parts in this text."
		}
		text = text[open+end+2:]
	}
	return parts, ""
}

var (
	secretForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	pathForm   = regexp.MustCompile(`^(?:\.[A-Za-z0-9_-]+|\[(?:0|[1-9]\d{0,5})\])+$`)
	stepForm   = regexp.MustCompile(`\.[A-Za-z0-9_-]+|\[\d+\]`)
)

const knownHolders = "bucket, key, key.base, key.dir, key.name, key.ext, size, etag, version, sequencer, type, time, event.… and secret.NAME"

// ofObjects are the placeholders that only events of S3 have.
var ofObjects = map[string]bool{
	"bucket": true, "key": true, "key.base": true, "key.dir": true, "key.name": true, "key.ext": true,
	"size": true, "etag": true, "version": true, "sequencer": true,
}

func parsePlaceholder(name string) (*placeholder, string) {
	if ofObjects[name] || name == "type" || name == "time" {
		return &placeholder{name: name}, ""
	}
	if secret, ok := strings.CutPrefix(name, "secret."); ok {
		if !ValidSecret(secret) {
			return nil, "The name of a secret has 1 to 63 letters, digits, '.', '_' and '-', and begins with a letter or digit."
		}
		return &placeholder{name: name, secret: secret}, ""
	}
	if rest, ok := strings.CutPrefix(name, "event"); ok && pathForm.MatchString(rest) {
		p := &placeholder{name: name}
		for _, s := range stepForm.FindAllString(rest, -1) {
			if s[0] == '.' {
				p.path = append(p.path, step{name: s[1:]})
				continue
			}
			index, err := strconv.Atoi(s[1 : len(s)-1])
			if err != nil {
				return nil, "The number in brackets is too large."
			}
			p.path = append(p.path, step{index: index, list: true})
		}
		if !p.path[0].list && len(p.path) <= maxDepth {
			return p, ""
		}
	}
	return nil, `There is no placeholder "{{` + short(name) + `}}"; known are ` + knownHolders + "."
}

package rules

import (
	"regexp"
	"slices"

	"github.com/copyfleet/copyfleet/producer/events"
	"github.com/copyfleet/copyfleet/protocol"
)

// Rule is a valid rule, ready to be used. It may be used by several goroutines at once.
type Rule struct {
	Name    string // [a-z0-9]([a-z0-9-]{0,62})
	Match   Match
	Options Options
	Text    []byte // the document as it was written, YAML or JSON

	types   []string // patterns of names of events; none: creations of S3, or all CloudEvents
	origins []string // patterns of the attribute source
	suffix  string
	glob    *regexp.Regexp
	when    *expression
	copy    member
	secrets []string
	writes  bool

	document int            // of the file that it was read from
	before   int            // lines of the file in front of the document
	lines    map[string]int // of fields, within the document
}

// ValidName reports whether a rule may have this name.
func ValidName(name string) bool { return nameForm.MatchString(name) }

// ValidSecret reports whether a secret may have this name: whether a rule can name it.
func ValidSecret(name string) bool { return secretForm.MatchString(name) }

// Match says which events a rule is about.
type Match struct {
	Source events.Source // S3 or CloudEvents
	Bucket string        // of S3; literal, and required
	Prefix string        // of keys; literal
}

// Options are how the batches of a rule are run.
type Options struct {
	Lane     protocol.Lane `json:"lane,omitempty"`     // "": bulk
	Attempts int           `json:"attempts,omitempty"` // 0: [protocol.DefaultMaxAttempts]
	Label    string        `json:"label,omitempty"`    // of the batches; "": "rule " and the name
}

// Problem is something wrong with a rule document.
type Problem struct {
	Document int    `json:"document"`        // from 1, within the file
	Line     int    `json:"line,omitempty"`  // from 1, within the file; 0: not known
	Field    string `json:"field,omitempty"` // such as copy.dest.path
	Message  string `json:"message"`
}

// Secrets are the names of the secrets that the rule uses, sorted.
func (r *Rule) Secrets() []string { return slices.Clone(r.secrets) }

// WritesObjects reports whether the copies of the rule go to a bucket: only those can trigger rules again.
func (r *Rule) WritesObjects() bool { return r.writes }

// RenderError says why a rule cannot make a copy of an event.
type RenderError struct {
	Code    string // CodeMissingValue and so on
	Field   string // such as copy.dest.path
	Message string // a sentence, without secrets
}

// Error implements error.
func (e *RenderError) Error() string { return e.Field + ": " + e.Message }

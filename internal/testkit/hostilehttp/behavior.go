package hostilehttp

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/storage"
)

// Side is what a behavior is met by.
type Side int

// The sides.
const (
	Source Side = iota // a GET
	Ranges             // a GET that breaks off after [Broken], and then a GET of the rest
	Target             // a PUT of [Upload] bytes, or of Size
)

const (
	// Content is what sources have, unless they say otherwise.
	Content = "0123456789"
	// Broken is how many bytes of it sources of [Ranges] send before they break off.
	Broken = 4
	// Upload is the bytes of a small PUT, Bulk of one that no buffer of a connection holds.
	Upload, Bulk = 5000, 32 << 20
)

// Mark is the state of the sources of [Ranges].
var Mark = storage.Mark{ETag: `"v1"`, Modified: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Size: int64(len(Content))}

// Want is what must come of a call. The zero Code means success.
type Want struct {
	Class   storage.Class
	Code    string // "source_reset|source_closed": either, for the system decides which is seen
	Message string // how it begins
	Status  int

	RetryAfter time.Duration
}

// Behavior is a way not to keep the rules.
type Behavior struct {
	Name string
	Side Side
	Want Want   // of a call of the driver
	Item *Want  // of an item, where it is another one than Want
	Body string // of a source that succeeds: what is read
	Size int64  // of what is put; 0: Upload

	// Unsized says that nothing tells how long the source is: that it was whole is not verified.
	Unsized bool

	Waits  bool // it ends by a limit on time, which the test sets
	TLS    bool // its URL begins with https
	Alone  bool // only for calls of the driver: an item would take too long, or for ever
	script func(p *Peer)
}

// All are the behaviors, in the order of their names.
func All() []Behavior {
	all := slices.Concat(connections(), lengths(), chunks(), statuses(), redirects(), ranges(), handshakes(), targets())
	slices.SortStableFunc(all, func(a, b Behavior) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// URL starts a server that behaves so, and returns the URL that meets it.
func (b *Behavior) URL(t testing.TB) string {
	t.Helper()
	scheme := "http://"
	if b.TLS {
		scheme = "https://"
	}
	return scheme + Serve(t, b.script) + "/" + b.Name
}

// InItem is what must come of an item.
func (b *Behavior) InItem() Want {
	if b.Item != nil {
		return *b.Item
	}
	return b.Want
}

// Bytes is how much is put.
func (b *Behavior) Bytes() int64 { return cmp.Or(b.Size, Upload) }

// get is a source that is met by a GET, and answers each request with text.
func get(name string, want Want, text string) Behavior {
	return Behavior{Name: name, Want: want, script: func(p *Peer) { p.Request(); p.Say("%s", text) }}
}

// fine is a source that succeeds all the same.
func fine(name, text, body string) Behavior {
	b := get(name, Want{}, text)
	b.Body = body
	return b
}

// unsized is a source that succeeds although it does not say how long it is.
func unsized(name, text, body string) Behavior {
	b := fine(name, text, body)
	b.Unsized = true
	return b
}

// acts is a source that does what script says once it has the request.
func acts(name string, want Want, script func(p *Peer)) Behavior {
	return Behavior{Name: name, Want: want, script: func(p *Peer) { p.Request(); script(p) }}
}

// waits marks a behavior that ends by a limit on time.
func waits(b Behavior) Behavior {
	b.Waits = true
	return b
}

var (
	badAnswer = Want{Class: storage.Unavailable, Code: "source_bad_answer", Message: "the answer is not valid HTTP/1.1, or its headers are larger"}
	noAnswer  = Want{Class: storage.Timeout, Code: "source_header_timeout", Message: "Network timeout: no answer within"}
	dropped   = Want{Class: storage.Unavailable, Code: "source_reset|source_closed", Message: "the connection was"}
	shortBody = Want{Class: storage.Interrupted, Code: "source_short", Message: "the body ended after"}
	broken    = Want{Class: storage.Interrupted, Code: "source_broken", Message: "the body could not be decoded"}
)

const ok = "HTTP/1.1 200 OK\r\n"

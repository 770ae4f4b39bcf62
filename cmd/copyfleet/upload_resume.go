package main

import (
	"os"
	"path/filepath"
	"strconv"

	"github.com/copyfleet/copyfleet/protocol"
)

// defaultURL and defaultConcurrency are those of the flags.
const (
	defaultURL         = "http://127.0.0.1:7400"
	defaultConcurrency = 4
)

// command is the one that goes on with the upload, from any directory. Without a session it is the one that began, with its key: should the session
// have been made and only the answer been lost, it is found.
func (r *uploadRun) command() string {
	words := []string{"copyfleet", "upload"}
	if r.URL != defaultURL && r.URL != os.Getenv("COPYFLEET_URL") {
		words = append(words, "--url", r.api.shown())
	}
	source, target := r.again(), r.path
	switch {
	case r.session != nil:
		words = append(words, "--resume", r.session.ID)
		target = r.session.TargetPath
	case source == r.source.path && r.source.spool: // the stream is a file now, which is another request
		words = append(words, r.given()...)
	default:
		words = append(words, "--idempotency-key", r.key)
		words = append(words, r.given()...)
	}
	if r.Concurrency != defaultConcurrency {
		words = append(words, "--concurrency", strconv.Itoa(r.Concurrency))
	}
	if r.env.json {
		words = append(words, "--json")
	}
	return shellCommand(append(words, source, r.sandbox+":"+target)...)
}

// again is what the same bytes can be read from once more.
func (r *uploadRun) again() string {
	if r.source.spool && (r.session != nil || r.source.from == protocol.UploadSpooled) {
		return r.source.path
	}
	if full, err := filepath.Abs(r.Source); err == nil {
		return full
	}
	return r.Source
}

// given are the flags that make the session what it is.
func (r *uploadRun) given() []string {
	var words []string
	for _, f := range [][2]string{{"--conflict", r.Conflict}, {"--user", r.User}} {
		if f[1] != "" {
			words = append(words, f[0], f[1])
		}
	}
	if r.Checksum {
		words = append(words, "--checksum")
	}
	for _, glob := range r.Exclude {
		words = append(words, "--exclude", glob)
	}
	return words
}

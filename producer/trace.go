package producer

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"regexp"

	"github.com/copyfleet/copyfleet/internal/observe"
)

// traceparentForm is a traceparent of version 00 (W3C Trace Context), whose ids are not all zero.
var traceparentForm = regexp.MustCompile(`^00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$`)

const (
	noTrace = "00000000000000000000000000000000"
	noSpan  = "0000000000000000"
)

// traceOf returns the traceparent under which the work of a call travels: that of the call's own span, where spans are made.
func traceOf(r *http.Request) string {
	if own := observe.Parent(r.Context()); own != "" {
		return own
	}
	return traceparent(r.Header.Get("Traceparent"))
}

// traceparent continues the trace that a caller sent, or begins one: each receipt has a trace id.
func traceparent(sent string) string {
	if m := traceparentForm.FindStringSubmatch(sent); len(m) == 3 && m[1] != noTrace && m[2] != noSpan {
		return sent
	}
	var id [16 + 8]byte
	_, _ = rand.Read(id[:]) // never fails: crypto/rand aborts the process instead
	return "00-" + hex.EncodeToString(id[:16]) + "-" + hex.EncodeToString(id[16:]) + "-00"
}

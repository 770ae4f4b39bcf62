package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// What net/http quotes of a peer is not logged, and the rest only for those who want to know.
func TestLibrariesQuoteNoPeer(t *testing.T) {
	t.Parallel()
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo} {
		var out bytes.Buffer
		handler := libraries{slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level})}
		slog.NewLogLogger(handler, slog.LevelInfo).Printf("Unsolicited response received on idle HTTP channel starting with %q; err=%v", "the peer's words", nil)
		if text := out.String(); strings.Contains(text, "the peer's words") || strings.Contains(text, "Unsolicited") != (level == slog.LevelDebug) {
			t.Errorf("at %s: %q", level, text)
		}
	}
}

package main

import (
	"context"
	"log/slog"
	"strings"
)

// libraries is the handler of what libraries log by themselves, for want of a logger of ours: net/http above all, which quotes up to
// 32 KiB of what a peer sent unasked. That belongs in no log, and the rest is for those who look for it.
type libraries struct{ slog.Handler }

// Handle logs the text without what is quoted in it.
func (l libraries) Handle(ctx context.Context, r slog.Record) error {
	if !l.Enabled(ctx, slog.LevelDebug) {
		return nil
	}
	text, _, _ := strings.Cut(r.Message, " starting with ")
	told := slog.NewRecord(r.Time, slog.LevelDebug, "a library logged", r.PC)
	told.AddAttrs(slog.String("text", text))
	return l.Handler.Handle(ctx, told)
}

package main

import (
	"strconv"
	"time"

	"github.com/copyfleet/copyfleet/internal/display"
)

// Short names for what nearly every line that is printed needs.
func clean(text string) string    { return display.Clean(text) }
func harmful(r rune) bool         { return display.Harmful(r) }
func width(text string) int       { return display.Width(text) }
func size(bytes int64) string     { return display.Size(bytes) }
func number(n int) string         { return display.Number(n) }
func span(d time.Duration) string { return display.Span(d) }

// table is for lists.
type table = display.Table

// rate writes a number a second.
func rate(perSecond float64) string {
	if perSecond < 10 {
		return strconv.FormatFloat(perSecond, 'f', 1, 64) + "/s"
	}
	return number(int(perSecond)) + "/s"
}

// ago tells a moment both ways: how long ago, and when by the local clock.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	when := localTime(t)
	if d := now.Sub(t); d >= 0 && d < time.Second {
		return "just now (" + when + ")"
	} else if d >= 0 {
		return seconds(d) + " ago (" + when + ")"
	}
	return "in " + seconds(t.Sub(now)) + " (" + when + ")"
}

// seconds is span without parts of a second.
func seconds(d time.Duration) string {
	if d < time.Minute {
		return strconv.Itoa(int(d.Seconds())) + " s"
	}
	return span(d)
}

// several counts things: "1 item", "2,000 items".
func several(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + more
}

// localTime writes a moment as the reader's clock shows it.
func localTime(t time.Time) string {
	return t.Local().Format("2006-01-02 15:04:05") //nolint:gosmopolitan // it is for the reader's eyes
}

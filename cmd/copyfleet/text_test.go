package main

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestClean(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain":             "plain",
		"grüße, 世界 🙂":       "grüße, 世界 🙂",
		"\x1b[2J\x07":       `\x1b[2J\x07`,
		"a\nb\tc\rd":        `a\x0ab\x09c\x0dd`,
		"\u009b31m":         `\u009b31m`,
		"\xff\xfe":          `\xff\xfe`,
		"evil\u202Etxt.exe": `evil\u202etxt.exe`,
		"a\u2028b":          `a\u2028b`,
		"\x7f":              `\x7f`,
		"\U000E0041":        `\U000e0041`,
	} {
		if got := clean(text); got != want {
			t.Errorf("clean(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestCleanAlways(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(r, "text")
		got := clean(text)
		if strings.ContainsFunc(got, unicode.IsControl) || !utf8.ValidString(got) {
			r.Fatalf("clean(%q) = %q", text, got)
		}
		if clean(got) != got {
			r.Fatalf("clean is not stable for %q", text)
		}
	})
}

func TestFigures(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		size(0): "0 B", size(1023): "1023 B", size(1024): "1.0 KiB", size(1536): "1.5 KiB", size(5 << 30): "5.0 GiB", size(1 << 62): "4.0 EiB",
		number(0): "0", number(999): "999", number(1000): "1,000", number(1234567): "1,234,567", number(-1000): "-1,000",
		rate(0.25): "0.2/s", rate(12345.6): "12,345/s",
		span(20 * time.Millisecond): "20 ms", span(1500 * time.Millisecond): "1.5 s", span(59 * time.Second): "59 s",
		span(61 * time.Second): "1 min 01 s", span(3661 * time.Second): "1 h 01 min", span(49 * time.Hour): "2 d 1 h", span(-time.Second): "0 ms",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestAgo(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)
	for _, row := range []struct {
		at   time.Time
		want string
	}{
		{time.Time{}, "-"},
		{now, "just now (2026-03-01 12:00:00)"},
		{now.Add(-90 * time.Second), "1 min 30 s ago (2026-03-01 11:58:30)"},
		{now.Add(30 * time.Second), "in 30 s (2026-03-01 12:00:30)"},
	} {
		if got := ago(row.at, now); got != row.want {
			t.Errorf("ago(%s) = %q, want %q", row.at, got, row.want)
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	tab := &table{header: []string{"NAME", "N", "TEXT"}, right: map[int]bool{1: true}}
	tab.add("世界", "5", "x\x1b[0m")
	tab.add("ab", "1,000", "")
	var b strings.Builder
	if err := tab.write(&b); err != nil {
		t.Fatal(err)
	}
	want := "NAME      N  TEXT\n世界      5  x\\x1b[0m\nab    1,000\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestBlock(t *testing.T) {
	t.Parallel()
	line, w := cutPainted("\x1b[31mabcdef\x1b[0mghi", 4)
	if line != "\x1b[31mabcd\x1b[0m" || w != 4 {
		t.Errorf("got %q of width %d", line, w)
	}
	if line, w := cutPainted("世界x", 3); line != "世" || w != 2 {
		t.Errorf("got %q of width %d", line, w)
	}
	if got := cut("abcdef", 4); got != "abc…" {
		t.Errorf("got %q", got)
	}
}

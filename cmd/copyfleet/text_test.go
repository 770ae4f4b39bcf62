package main

import (
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{rate(0.25): "0.2/s", rate(12345.6): "12,345/s"} {
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

func TestBlock(t *testing.T) {
	t.Parallel()
	line, w := cutPainted("\x1b[31mabcdef\x1b[0mghi", 4)
	if line != "\x1b[31mabcd\x1b[0m" || w != 4 {
		t.Errorf("got %q of width %d", line, w)
	}
	if line, w := cutPainted("世界x", 3); line != "世" || w != 2 {
		t.Errorf("got %q of width %d", line, w)
	}
}

// TestASCIIOnly is for locales that name another set of characters, and not where none is set.
func TestASCIIOnly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		all, ctype, lang string
		want             bool
	}{
		{"", "", "", false},
		{"", "", "en_US.UTF-8", false},
		{"", "", "C.utf8", false},
		{"", "", "C", true},
		{"", "", "de_DE.ISO-8859-1", true},
		{"POSIX", "", "en_US.UTF-8", true},
		{"", "C", "en_US.UTF-8", true},
		{"en_US.UTF-8", "C", "C", false},
	} {
		env := map[string]string{"LC_ALL": c.all, "LC_CTYPE": c.ctype, "LANG": c.lang}
		if got := asciiOnly(func(name string) string { return env[name] }); got != c.want {
			t.Errorf("%v: %v", env, got)
		}
	}
}

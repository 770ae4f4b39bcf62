package display

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
		if got := Clean(text); got != want {
			t.Errorf("Clean(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestCleanAlways(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(r, "text")
		got := Clean(text)
		if strings.ContainsFunc(got, unicode.IsControl) || !utf8.ValidString(got) {
			r.Fatalf("Clean(%q) = %q", text, got)
		}
		if Clean(got) != got {
			r.Fatalf("clean is not stable for %q", text)
		}
	})
}

func TestFigures(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		Size(0): "0 B", Size(1023): "1023 B", Size(1024): "1.0 KiB", Size(1536): "1.5 KiB", Size(5 << 30): "5.0 GiB", Size(1 << 62): "4.0 EiB",
		Number(0): "0", Number(999): "999", Number(1000): "1,000", Number(1234567): "1,234,567", Number(-1000): "-1,000",
		Span(20 * time.Millisecond): "20 ms", Span(1500 * time.Millisecond): "1.5 s", Span(59 * time.Second): "59 s",
		Span(61 * time.Second): "1 min 01 s", Span(3661 * time.Second): "1 h 01 min", Span(49 * time.Hour): "2 d 1 h", Span(-time.Second): "0 ms",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	tab := &Table{Header: []string{"NAME", "N", "TEXT"}, Right: map[int]bool{1: true}}
	tab.Add("世界", "5", "x\x1b[0m")
	tab.Add("ab", "1,000", "")
	var b strings.Builder
	if err := tab.Write(&b); err != nil {
		t.Fatal(err)
	}
	want := "NAME      N  TEXT\n世界      5  x\\x1b[0m\nab    1,000\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	for columns, want := range map[int]string{4: "abc…", 6: "abcdef", 7: "abcdef"} {
		if got := Cut("abcdef", columns); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := Cut("世界世界", 4); got != "世…" || Width(got) > 4 {
		t.Errorf("got %q", got)
	}
}

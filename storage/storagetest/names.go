package storagetest

import (
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

// Limits of the names that [Names] draws, in bytes. 255 is the limit of a component on every common file
// system; 1024 is that of a whole S3 key, of which a prefix takes its share.
const (
	maxComponent = 255
	maxName      = 900
)

// Names draws names of every kind that is legal for a destination: one to four components, joined by slashes, of
// letters, spaces, quotes, percent signs, dots, any other printable runes, up to the longest.
func Names() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		components := rapid.SliceOfN(component(), 1, 4).Draw(t, "components")
		name := strings.Join(components, "/")
		for len(name) > maxName {
			components = components[1:]
			name = strings.Join(components, "/")
		}
		return name
	})
}

func component() *rapid.Generator[string] {
	printable := rapid.RuneFrom(nil, unicode.L, unicode.N, unicode.P, unicode.S, unicode.M, unicode.Zs)
	awkward := rapid.RuneFrom([]rune(" .%+&?#=;:\\\"'`$*<>|~!@^{}[]()-_,éß漢🙂\u202e\ufeff"))
	return rapid.OneOf(
		rapid.StringOfN(printable, 1, 40, maxComponent),
		rapid.StringOfN(awkward, 1, 20, maxComponent),
		rapid.StringMatching(`[a-zA-Z0-9._-]{1,255}`),
		rapid.StringMatching(`[a-z]{255}`),
		rapid.SampledFrom([]string{"...", "..a", "a..", ".hidden", " ", "%2e%2e", "CON", "a\\b", "-rf", "~", "con.txt.", "café", "cafe\u0301"}),
	).Filter(func(s string) bool {
		return s != "." && s != ".." && !strings.ContainsRune(s, '/') && !strings.HasPrefix(strings.ToLower(s), ".copyfleet-")
	})
}

func putNames(t *testing.T, h Harness) {
	rapid.Check(t, func(rt *rapid.T) {
		name := Names().Draw(rt, "name")
		data := Data(rapid.IntRange(0, 3000).Draw(rt, "size"), 1)
		target := h.NamedTarget(t, name)
		var r ready
		if _, err := put(t.Context(), target.Destination(), &body{data: data}, int64(len(data)), &r); err != nil {
			rt.Fatalf("Put to %q: %v", name, err)
		}
		got, ok := target.Read(t)
		if !ok || string(got) != string(data) {
			rt.Fatalf("%q shows %d bytes (there: %t), want the %d put", name, len(got), ok, len(data))
		}
		if target.Leftovers == nil {
			return
		}
		if left := target.Leftovers(t); len(left) > 0 {
			rt.Fatalf("%q left behind %q", name, left)
		}
	})
}

package aggregator

import (
	"cmp"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/copyfleet/copyfleet/protocol"
)

// dumbUpload looks at all words on all parts at once.
func dumbUpload(multipart string, words []protocol.UploadPart) protocol.UploadPage {
	page := protocol.UploadPage{Version: protocol.UploadVersion, Multipart: multipart}
	of := map[int][]protocol.UploadPart{}
	for _, w := range words {
		of[w.Number] = append(of[w.Number], w)
	}
	for _, all := range of {
		latest := slices.MaxFunc(all, func(a, b protocol.UploadPart) int { return a.Stored.Compare(b.Stored) }).Stored
		all = slices.DeleteFunc(all, func(w protocol.UploadPart) bool { return w.Stored.Before(latest) })
		page.Parts = append(page.Parts, slices.MaxFunc(all, func(a, b protocol.UploadPart) int {
			return cmp.Or(cmp.Compare(a.ETag, b.ETag), compareBools(a.Lost, b.Lost), compareStored(&a, &b))
		}))
	}
	slices.SortFunc(page.Parts, func(a, b protocol.UploadPart) int { return cmp.Compare(a.Number, b.Number) })
	return page
}

var day = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)

func uploadWords() *rapid.Generator[protocol.UploadPart] {
	return rapid.Custom(func(t *rapid.T) protocol.UploadPart {
		n := rapid.IntRange(0, 5).Draw(t, "number")
		content := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "content")
		p := protocol.UploadPart{
			Number: n, Size: 5, ETag: "e" + content, SHA256: content, Checksum: "c" + content,
			Stored: day.Add(time.Duration(rapid.IntRange(0, 4).Draw(t, "stored"))),
		}
		if rapid.IntRange(0, 4).Draw(t, "lost") == 0 {
			p.Lost = true
		}
		return p
	})
}

func TestFoldOfUploadsAgreesWithTheDumbOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(uploadWords(), 1, 40).Draw(t, "words")
		want := dumbUpload("m", words)
		page := protocol.UploadPage{Multipart: "before", Parts: []protocol.UploadPart{{Number: 3}}}
		progress := protocol.UploadProgress{Have: []byte{0xFF}}
		for _, w := range append(rapid.Permutation(words).Draw(t, "order"), rapid.SliceOf(rapid.SampledFrom(words)).Draw(t, "repeated")...) {
			before := protocol.UploadPage{Version: page.Version, Multipart: page.Multipart, Parts: slices.Clone(page.Parts)}
			var changed, moved bool
			page, changed, moved = foldUpload(page, "m", &w)
			if changed == gocmp.Equal(before, page) {
				t.Fatalf("changed is %v, but the page is %+v and was %+v", changed, page, before)
			}
			if moved && !changed {
				t.Fatalf("%+v moved what did not change", w)
			}
			show(&progress, 0, &page, 6)
			for n := range 8 {
				there := slices.ContainsFunc(page.Parts, func(p protocol.UploadPart) bool { return p.Number == n && !p.Lost })
				if progress.Has(n) != (there || n >= 6) { // bits that are no part's are not touched
					t.Fatalf("part %d is there: %v, but the page is %+v", n, progress.Has(n), page)
				}
			}
		}
		if diff := gocmp.Diff(want, page); diff != "" {
			t.Fatalf("the fold differs from the dumb one (-dumb +fold):\n%s", diff)
		}
	})
}

func TestTheLaterWordOnAPartCounts(t *testing.T) {
	t.Parallel()
	word := func(at int, content string, lost bool) protocol.UploadPart {
		return protocol.UploadPart{Size: 5, ETag: content, SHA256: content, Stored: day.Add(time.Duration(at)), Lost: lost}
	}
	tests := []struct {
		name    string
		words   []protocol.UploadPart
		want    protocol.UploadPart
		changed bool // by the last word
		moved   bool
	}{
		{"other bytes later", []protocol.UploadPart{word(1, "a", false), word(2, "b", false)}, word(2, "b", false), true, true},
		{"other bytes earlier", []protocol.UploadPart{word(2, "b", false), word(1, "a", false)}, word(2, "b", false), false, false},
		{"other bytes at the same time", []protocol.UploadPart{word(1, "b", false), word(1, "a", false)}, word(1, "b", false), false, false},
		{"the same word", []protocol.UploadPart{word(1, "a", false), word(1, "a", false)}, word(1, "a", false), false, false},
		{"the same bytes later", []protocol.UploadPart{word(1, "a", false), word(2, "a", false)}, word(2, "a", false), true, false},
		{"the same bytes before and after others", []protocol.UploadPart{word(1, "a", false), word(3, "a", false), word(2, "b", false)}, word(3, "a", false), false, false},
		{"a loss of just that", []protocol.UploadPart{word(1, "a", false), word(1, "a", true)}, word(1, "a", true), true, true},
		{"a loss of what was replaced", []protocol.UploadPart{word(1, "a", false), word(2, "b", false), word(1, "a", true)}, word(2, "b", false), false, false},
		{"stored again after a loss", []protocol.UploadPart{word(1, "a", true), word(2, "a", false)}, word(2, "a", false), true, true},
		{"lost again", []protocol.UploadPart{word(1, "a", true), word(2, "a", true)}, word(2, "a", true), true, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var page protocol.UploadPage
			var changed, moved bool
			for i := range test.words {
				page, changed, moved = foldUpload(page, "m", &test.words[i])
			}
			if diff := gocmp.Diff([]protocol.UploadPart{test.want}, page.Parts); diff != "" || changed != test.changed || moved != test.moved {
				t.Errorf("changed %v, moved %v, and (-want +got):\n%s", changed, moved, diff)
			}
		})
	}
}

func TestPartsThatDoNotFitTheirSession(t *testing.T) {
	t.Parallel()
	session := &protocol.Upload{Length: 12, PartSize: 5, PartCount: 3}
	tests := []struct {
		part protocol.UploadPart
		want bool
	}{
		{protocol.UploadPart{Number: 0, Size: 5}, true},
		{protocol.UploadPart{Number: 2, Size: 2}, true},
		{protocol.UploadPart{Number: 2, Lost: true}, true},
		{protocol.UploadPart{Number: 2, Size: 5}, false},
		{protocol.UploadPart{Number: 1, Size: 4}, false},
		{protocol.UploadPart{Number: 1, Size: 0}, false},
		{protocol.UploadPart{Number: 3, Size: 5}, false},
		{protocol.UploadPart{Number: -1, Size: 5}, false},
		{protocol.UploadPart{Number: -1, Lost: true}, false},
		{protocol.UploadPart{Number: 1 << 40, Lost: true}, false},
	}
	for _, test := range tests {
		if got := fits(session, &test.part); got != test.want {
			t.Errorf("part %+v fits: %v, want %v", test.part, got, test.want)
		}
	}
}

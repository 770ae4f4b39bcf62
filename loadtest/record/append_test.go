package record

import (
	"bytes"
	"testing"
)

// TestAppendedFilesAreWhatTheyWere each for itself, one that broke off too.
func TestAppendedFilesAreWhatTheyWere(t *testing.T) {
	t.Parallel()
	whole, broken, last := written(t, run(1, 900), ""), written(t, run(2, 12_000), ""), written(t, run(3, 900), "it was interrupted")
	broken = broken[:len(broken)*2/3]
	for name, order := range map[string][][]byte{"a broken one first": {broken, whole, last}, "in the middle": {whole, broken, last}, "last": {whole, last, broken}} {
		var file bytes.Buffer
		var want *Run
		for _, content := range order {
			reader, err := NewReader(bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			if err := Append(&file, reader); err != nil {
				t.Fatal(err)
			}
			reader.Close()
			one, err := Sum(opener(content), Cut{})
			if err != nil {
				t.Fatal(err)
			}
			if want == nil {
				want = one
			} else {
				want.Merge(one)
			}
		}
		got, err := Sum(opener(file.Bytes()), Cut{})
		if err != nil {
			t.Fatal(err)
		}
		if text(t, got) != text(t, want) {
			t.Errorf("%s: the sums differ:\n%.600s\n%.600s", name, text(t, got), text(t, want))
		}
		if len(got.Headers) != 3 || len(got.Partial) != 2 {
			t.Errorf("%s: %d sections, partial %q", name, len(got.Headers), got.Partial)
		}
		// Put together once more it stays the same.
		reader, err := NewReader(bytes.NewReader(file.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		var again bytes.Buffer
		if err := Append(&again, reader); err != nil {
			t.Fatal(err)
		}
		reader.Close()
		if twice, err := Sum(opener(again.Bytes()), Cut{}); err != nil || text(t, twice) != text(t, want) {
			t.Errorf("%s: put together once more the sums differ, %v", name, err)
		}
		windows, err := Windows(opener(file.Bytes()), Cut{}, 3)
		if err != nil {
			t.Fatal(err)
		}
		ops := int64(0)
		for _, w := range windows {
			for _, g := range w.Groups {
				ops += g.Ops
			}
		}
		all := int64(0)
		for _, g := range want.Totals.Groups {
			all += g.Ops
		}
		if ops < all*9/10 || ops > all { // what is due in the last fraction of a nanosecond belongs to none
			t.Errorf("%s: %d operations in the windows, %d in all", name, ops, all)
		}
	}
}

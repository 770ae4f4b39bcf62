package storagetest

import (
	"bytes"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
)

// oddTrail has what a header can hold, and all that there is room for.
var oddTrail = `ORG-1/a rule,"o'r=g"; %41+/~` + strings.Repeat(",ORG/rule", 200)

func runTrails(t *testing.T, h Harness) {
	t.Run("Whole", func(t *testing.T) { trailWhole(t, h) })
	t.Run("OnlyNew", func(t *testing.T) { trailOnlyNew(t, h) })
	if h.Parts {
		t.Run("Parts", func(t *testing.T) { trailParts(t, h) })
	}
	t.Run("Refused", func(t *testing.T) { trailRefused(t, h) })
}

// putTrail writes as Put does; the source need not tell its size.
func (g Target) putTrail(t *testing.T, data []byte, size int64, trail string, onlyNew bool) error {
	t.Helper()
	_, err := g.Destination().Put(t.Context(), storage.Content{Body: bytes.NewReader(data), Size: size, Trail: trail, OnlyNew: onlyNew})
	return err //nolint:wrapcheck // what the driver said is what is looked at
}

func (g Target) expectTrail(t *testing.T, data []byte, trail string) {
	t.Helper()
	g.expect(t, data)
	if got := g.Trail(t); got != trail {
		t.Errorf("the trail of %d bytes is %q, want %q", len(data), got, trail)
	}
}

// trailWhole gives a place one trail after the other, the last one none.
func trailWhole(t *testing.T, h Harness) {
	for _, size := range []int{0, 1, BufferSize + 1, 17 << 20} {
		for _, known := range []bool{true, false} {
			told := int64(size)
			if !known {
				if h.NeedsSize {
					continue
				}
				told = storage.UnknownSize
			}
			target := h.NewTarget(t)
			for i, trail := range []string{"ORG/one", oddTrail, ""} {
				data := Data(size, byte(i))
				if err := target.putTrail(t, data, told, trail, false); err != nil {
					t.Fatalf("Put of %d bytes (told: %t) with the trail %q: %v", size, known, trail, err)
				}
				target.expectTrail(t, data, trail)
			}
		}
	}
}

func trailOnlyNew(t *testing.T, h Harness) {
	if !h.Features.OnlyNew {
		return
	}
	for _, size := range []int{0, 1, BufferSize + 1} {
		target, data := h.NewTarget(t), Data(size, 1)
		if err := target.putTrail(t, data, int64(size), "ORG/one", true); err != nil {
			t.Fatal(err)
		}
		target.expectTrail(t, data, "ORG/one")
	}
}

// trailParts begins with a trail; those who go on do not know it.
func trailParts(t *testing.T, h Harness) {
	for _, trail := range []string{oddTrail, ""} {
		p := &partly{h: h, target: h.NewTarget(t)}
		p.content = storage.PartContent{Size: h.partSize() + 9, PartSize: h.partSize(), Trail: trail}
		p.data = Data(int(p.content.Size), 1)
		p.begin(t)
		p.content.Trail = ""
		p.finish(t, p.put(t, p.all()...))
		p.target.expectTrail(t, p.data, trail)
	}
}

// trailRefused gives what no header can hold. Nothing may change.
func trailRefused(t *testing.T, h Harness) {
	for _, trail := range []string{"ORG/ä", "a\nb", "a\x00", " a", "a ", strings.Repeat("x", storage.MaxTrail+1)} {
		target, old := h.NewTarget(t), Data(9, 1)
		if err := target.putTrail(t, old, 9, "ORG/one", false); err != nil {
			t.Fatal(err)
		}
		err := target.putTrail(t, Data(9, 2), 9, trail, false)
		if storage.ClassOf(err) != storage.Invalid {
			t.Errorf("the trail %q became %v, want a refusal of class Invalid", trail, err)
		}
		target.expectTrail(t, old, "ORG/one")
	}
}

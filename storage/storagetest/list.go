package storagetest

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
)

func runListParts(t *testing.T, h Harness) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, p *partly)
	}{
		{"Listed", listParts},
		{"BrokenOff", listBrokenOff},
		{"Gone", listGone},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, old := range [][]byte{nil, Data(3000, 1)} {
				c.run(t, begin(t, h, old, 2*h.partSize()+9))
			}
		})
	}
}

// list asks another writer of the place what is there.
func (p *partly) list(t *testing.T) ([]storage.PartStored, error) {
	t.Helper()
	lister, ok := p.parts(t).(storage.PartLister)
	if !ok {
		t.Fatal("the harness declares ListsParts, the destination does not tell its parts")
	}
	return lister.ListParts(t.Context(), p.upload) //nolint:wrapcheck // what the driver said is what is looked at
}

// expectList looks for exactly the parts that were stored, in order. A checksum need not be told.
func (p *partly) expectList(t *testing.T, want ...storage.PartStored) {
	t.Helper()
	got, err := p.list(t)
	if err != nil {
		t.Fatalf("ListParts: %v", err)
	}
	want = slices.Clone(want)
	slices.SortFunc(want, func(a, b storage.PartStored) int { return a.Number - b.Number })
	for i := range min(len(got), len(want)) {
		if got[i].Checksum == "" {
			want[i].Checksum = ""
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the parts are told as %+v, want %+v", got, want)
	}
}

// listParts follows an upload to its end, which is made of what was listed.
func listParts(t *testing.T, p *partly) {
	p.expectList(t)
	stored := p.put(t, 3, 1)
	p.expectList(t, stored...)
	other := p.part(2)
	other.Body = bytes.NewReader(Data(int(other.Size), 9))
	former, err := p.parts(t).PutPart(t.Context(), p.upload, other)
	if err != nil {
		t.Fatal(err)
	}
	p.expectList(t, append(stored, former)...)
	p.expectList(t, append(stored, p.put(t, 2)...)...)
	listed, err := p.list(t)
	if err != nil {
		t.Fatal(err)
	}
	p.finish(t, listed)
}

// listBrokenOff begins to replace a part, by a body that fails and by a writer that ends in the middle of it: the former part stays.
func listBrokenOff(t *testing.T, p *partly) {
	stored := p.put(t, p.all()...)
	other := Data(int(p.part(1).Size), 9)
	for _, n := range []int64{0, 1, p.content.PartSize / 2, p.content.PartSize - 1} {
		part := p.part(1)
		part.Body = &body{data: other[:n], fail: storage.Errorf(storage.Interrupted, "suite_body", "read", "the suite", "the body fails after %d bytes", n)}
		_, err := p.parts(t).PutPart(t.Context(), p.upload, part)
		p.refused(t, err)
		p.expectList(t, stored...)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	part := p.part(1)
	part.Body = &body{data: other, step: 1000, after: func(n int) {
		if int64(n) > part.Size/2 {
			cancel()
		}
	}}
	_, err := p.parts(t).PutPart(ctx, p.upload, part)
	p.refused(t, err)
	p.expectList(t, stored...)
	p.finish(t, stored)
}

// listGone asks for what is not there any more, or never was.
func listGone(t *testing.T, p *partly) {
	p.put(t, 1)
	p.abort(t)
	_, err := p.list(t)
	expectGone(t, err)
	p.begin(t)
	p.finish(t, p.put(t, p.all()...))
	_, err = p.list(t)
	expectGone(t, err)
	p.upload = "never begun"
	_, err = p.list(t)
	expectGone(t, err)
}

func runRemove(t *testing.T, h Harness) {
	target := h.NewTarget(t)
	remove := func() {
		t.Helper()
		remover, ok := target.Destination().(storage.Remover)
		if !ok {
			t.Fatal("the harness declares Removes, the destination cannot remove")
		}
		if err := remover.Remove(t.Context()); err != nil {
			t.Errorf("Remove: %v", err)
		}
		target.expectUnchanged(t, nil)
	}
	remove()
	for _, size := range []int{0, 3000} {
		target.seed(t, Data(size, 1))
		remove()
		remove()
	}
	target.expectClean(t)
}

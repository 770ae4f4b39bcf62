package storagetest

import (
	"bytes"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
)

func runOnlyNew(t *testing.T, h Harness) {
	t.Run("Whole", func(t *testing.T) { onlyNewWhole(t, h) })
	t.Run("WholeOvertaken", func(t *testing.T) { onlyNewOvertaken(t, h) })
	t.Run("WholeAtOnce", func(t *testing.T) { onlyNewAtOnce(t, h) })
	if h.Parts {
		t.Run("Parts", func(t *testing.T) { onlyNewParts(t, h) })
	}
}

func putNew(t *testing.T, target Target, data []byte, ready func() error) error {
	t.Helper()
	content := storage.Content{Body: bytes.NewReader(data), Size: int64(len(data)), OnlyNew: true, Ready: ready}
	_, err := target.Destination().Put(t.Context(), content)
	return err
}

func (g Target) expectExists(t *testing.T, err error, old []byte) {
	t.Helper()
	if e := g.expectRefused(t, err, old); e.Code != storage.CodeDestinationExists || e.Class != storage.Conflict {
		t.Errorf("class %d, code %s, want %s", e.Class, e.Code, storage.CodeDestinationExists)
	}
}

func onlyNewWhole(t *testing.T, h Harness) {
	for _, size := range []int{0, 1, BufferSize + 1} {
		target, data := h.NewTarget(t), Data(size, 1)
		if err := putNew(t, target, data, nil); err != nil {
			t.Fatalf("Put where nothing is: %v", err)
		}
		target.expect(t, data)
		target.expectExists(t, putNew(t, target, Data(size+1, 2), nil), data)
	}
}

// onlyNewOvertaken lets another writer come first in the last moment in which that is possible.
func onlyNewOvertaken(t *testing.T, h Harness) {
	for _, size := range []int{0, 1, BufferSize + 1} {
		target, other := h.NewTarget(t), Data(3000, 1)
		err := putNew(t, target, Data(size, 2), func() error {
			target.seed(t, other)
			return nil
		})
		target.expectExists(t, err, other)
	}
}

// onlyNewAtOnce lets many writers race, of whom one wins.
func onlyNewAtOnce(t *testing.T, h Harness) {
	const writers = 8
	target := h.NewTarget(t)
	var won atomic.Int64
	var winner atomic.Pointer[[]byte]
	var start, all sync.WaitGroup
	start.Add(writers)
	for i := range writers {
		all.Go(func() {
			data := Data(1000+i, byte(i))
			var once sync.Once
			defer once.Do(start.Done)
			err := putNew(t, target, data, func() error {
				once.Do(start.Done)
				start.Wait()
				return nil
			})
			if err == nil {
				won.Add(1)
				winner.Store(&data)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Fatalf("%d of %d writers that may not replace anything are told that they wrote, want 1", won.Load(), writers)
	}
	target.expect(t, *winner.Load())
}

// onlyNewParts does the same in parts: what is there is noticed at the beginning or at the end.
func onlyNewParts(t *testing.T, h Harness) {
	p := &partly{h: h, target: h.NewTarget(t), content: storage.PartContent{Size: h.partSize() + 1, PartSize: h.partSize(), OnlyNew: true}}
	p.data = Data(int(p.content.Size), 2)
	p.begin(t)
	other := Data(3000, 1)
	stored := p.put(t, p.all()...)
	_, err := p.complete(t, stored, func() error {
		p.target.seed(t, other)
		return nil
	})
	p.old = other
	if e := p.refused(t, err); e.Code != storage.CodeDestinationExists {
		t.Errorf("code %s, want %s", e.Code, storage.CodeDestinationExists)
	}
	p.abort(t)
	p.upload, err = p.parts(t).Begin(t.Context(), p.content)
	if err == nil {
		_, err = p.complete(t, p.put(t, p.all()...), nil)
		p.abort(t)
	}
	p.target.expectExists(t, err, other)

	p = &partly{h: h, target: h.NewTarget(t), data: p.data, content: p.content}
	p.begin(t)
	p.finish(t, p.put(t, p.all()...))
}

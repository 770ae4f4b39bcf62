package object_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/archive"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

// TestTreeRepeated unpacks once more what an attempt that died has shown in part, after its successor has cleaned up. Where anything is that
// the archive does not have in its place, nothing is changed.
func TestTreeRepeated(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		large := string(storagetest.Data(300<<10, 1))
		body := tarOf(t, [2]string{"a", "new"}, [2]string{"b", large}, [2]string{"c", ""}, [2]string{"s/d", "=>a"})
		whole := map[string]string{"d/a": "new", "d/b": large, "d/c": "", "d/s/d": "new"}
		for name, c := range map[string]struct {
			before [][2]string
			taken  bool
		}{
			"nothing": {nil, false},
			"part":    {[][2]string{{"d/a", "new"}, {"d/b", large}, {"d/c", ""}}, false},
			"all":     {[][2]string{{"d/a", "new"}, {"d/b", large}, {"d/c", ""}, {"d/s/d", "new"}}, false},
			"other":   {[][2]string{{"d/a", "neW"}}, true},
			"longer":  {[][2]string{{"d/a", "new"}, {"d/c", "x"}}, true},
			"more":    {[][2]string{{"d/a", "new"}, {"d/x", "new"}}, true},
			"file":    {[][2]string{{"d", "new"}}, true},
		} {
			t.Run(name, func(t *testing.T) {
				left := [][2]string{{".copyfleet-dead/a", "new"}, {".copyfleet-dead.shows", ""}}
				b := newTrees(t, e, append(left, c.before...)...)
				if err := b.at(storage.ReplaceTree, "two", "dead").(interface{ Discard() error }).Discard(); err != nil {
					t.Fatal(err)
				}
				want := map[string]string{}
				for _, f := range c.before {
					want[f[0]] = f[1]
				}
				_, err := b.at(storage.RepeatedTree, "two", "dead").Put(t.Context(), storage.Content{Body: bytes.NewReader(body), Size: -1, OnlyNew: true})
				if c.taken {
					refused{storage.Conflict, storage.CodeDestinationExists}.check(t, err, "", "")
				} else if want = whole; err != nil {
					t.Error(err)
				}
				b.expect(t, want)
				_, err = b.at(storage.NewTree, "three").Put(t.Context(), storage.Content{Body: bytes.NewReader(body), Size: -1, OnlyNew: true})
				refused{storage.Conflict, storage.CodeDestinationExists}.check(t, err, "", "")
			})
		}
	})
}

// TestTreeOfSlowWorker takes the item from a worker that is removing what its archive lacks. It must not take what its successor shows for that,
// though what it has hidden is gone.
func TestTreeOfSlowWorker(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		var before, files [][2]string
		want := map[string]string{}
		for i := range 40 {
			before = append(before, [2]string{fmt.Sprintf("d/a%d", i), "goes"})
			files = append(files, [2]string{fmt.Sprintf("z%d", i), "new"})
			want[fmt.Sprintf("d/z%d", i)] = "new"
		}
		b := newTrees(t, e, before...)
		var once sync.Once
		via := e.between(t, func(r *http.Request) {
			if r.Method != http.MethodDelete || !strings.Contains(r.URL.Path, "/d/a") {
				return
			}
			once.Do(func() {
				if err := b.at(storage.ReplaceTree, "two", "one").(interface{ Discard() error }).Discard(); err != nil {
					t.Error(err)
				}
			})
		}, nil)
		boxes, err := via.store(t, nil).Sandboxes(b.bucket, "boxes")
		if err != nil {
			t.Fatal(err)
		}
		slow := trees{via, boxes, b.bucket}
		_, _ = slow.at(storage.ReplaceTree, "one").Put(t.Context(), storage.Content{Body: bytes.NewReader(tarOf(t, files...)), Size: -1})
		b.expect(t, want)
	})
}

// TestTreeOfManyLinks: each hard link is an object of its own, so a small archive of many would fill the store.
func TestTreeOfManyLinks(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		b := newTrees(t, e)
		files := [][2]string{{"f", string(storagetest.Data(100<<10, 1))}}
		for i := range 20 {
			files = append(files, [2]string{fmt.Sprintf("l%d", i), "=>f"})
		}
		_, err := b.at(storage.MergeTree, "one").Put(t.Context(), storage.Content{Body: bytes.NewReader(tarOf(t, files...)), Size: -1})
		refused{storage.Invalid, archive.CodeTooLarge}.check(t, err, "", "")
		b.expect(t, nil)
	})
}

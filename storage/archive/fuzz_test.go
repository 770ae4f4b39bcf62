package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/archive"
)

// FuzzWalk holds what Walk tells of any bytes against a model of a file system.
func FuzzWalk(f *testing.F) {
	for _, c := range hostile(f) {
		if len(c.body) < 64<<10 {
			f.Add(c.body)
		}
	}
	f.Add(pack(f, dir("d"), regular("d/f", "x"), symlink("d/up", "../d/f"), symlink("l", "d/up"), link("g", "d/f")))
	f.Add(join(long('L', strings.Repeat("n", 200)), block("f", tar.TypeReg, octal(3), ""), padded("abc"), end))
	f.Fuzz(func(t *testing.T, body []byte) {
		m := model{}
		err := archive.Walk(bytes.NewReader(body), limits, func(e archive.Entry) error { m.add(t, e); return nil })
		if _, classified := errors.AsType[*storage.Error](err); err != nil && !classified {
			t.Errorf("an error without a class: %v", err)
		}
		for p, e := range m {
			if e.Kind == archive.Symlink {
				m.follow(t, p)
			}
		}
	})
}

// model is a directory that was unpacked, by path.
type model map[string]archive.Entry

func (m model) add(t *testing.T, e archive.Entry) {
	if !fs.ValidPath(e.Path) || e.Path == "." || strings.Count(e.Path, "/") >= limits.Depth {
		t.Fatalf("%q is no path", e.Path)
	}
	if above := path.Dir(e.Path); above != "." {
		if d, ok := m[above]; !ok || d.Kind != archive.Dir {
			t.Fatalf("%q is below %+v", e.Path, d)
		}
	}
	if before, ok := m[e.Path]; ok && (before.Kind != archive.Dir || e.Kind != archive.Dir) {
		t.Fatalf("%q is there twice", e.Path)
	}
	if to, ok := m[e.Target]; e.Kind == archive.Link && (!ok || to.Kind != archive.File && to.Kind != archive.Link) {
		t.Fatalf("%q is a hard link to %+v", e.Path, to)
	}
	if e.Mode&^fs.ModePerm != 0 || e.Kind != archive.File && e.Size != 0 {
		t.Fatalf("entry %+v", e)
	}
	m[e.Path] = e
}

// follow goes the way of a link as a file system does, element by element, and fails where it is above the tree.
func (m model) follow(t *testing.T, link string) {
	var at []string
	todo := strings.Split(link, "/")
	for hops := 0; len(todo) > 0 && hops < 100; {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			if len(at) == 0 {
				t.Fatalf("the link %q -> %q leaves the tree", link, m[link].Target)
			}
			at = at[:len(at)-1]
			continue
		}
		here := path.Join(append(append([]string{}, at...), name)...)
		e, ok := m[here]
		if ok && e.Kind == archive.Symlink {
			if path.IsAbs(e.Target) {
				t.Fatalf("the link %q is absolute", here)
			}
			hops++
			todo = append(strings.Split(e.Target, "/"), todo...)
			continue
		}
		at = append(at, name)
	}
}

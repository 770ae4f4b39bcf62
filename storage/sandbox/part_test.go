package sandbox_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

// partwise is content on its way to /x/f in parts.
type partwise struct {
	*bench

	storage.PartDestination

	data    []byte
	content storage.PartContent
	upload  string
}

const partSize = 64 << 10

// inParts begins content of two parts and a bit.
func inParts(t *testing.T, b *bench, path string) *partwise {
	t.Helper()
	p := &partwise{bench: b, data: storagetest.Data(2*partSize+100, 1)}
	p.content = storage.PartContent{Size: int64(len(p.data)), PartSize: partSize}
	p.PartDestination = p.writer(t, path)
	var err error
	if p.upload, err = p.Begin(t.Context(), p.content); err != nil {
		t.Fatal(err)
	}
	return p
}

func (b *bench) writer(t *testing.T, path string, stale ...string) storage.PartDestination {
	t.Helper()
	d, ok := b.store.Destination(org, box, path, fmt.Sprint("t", b.temps.Add(1)), stale).(storage.PartDestination)
	if !ok {
		t.Fatal("a file cannot be written in parts")
	}
	return d
}

func (p *partwise) put(t *testing.T, number int, body io.Reader) (storage.PartStored, error) {
	t.Helper()
	offset, size := p.content.Span(number)
	if body == nil {
		body = bytes.NewReader(p.data[offset : offset+size])
	}
	return p.PutPart(t.Context(), p.upload, storage.Part{Number: number, Offset: offset, Size: size, Body: body})
}

func (p *partwise) putAll(t *testing.T) []storage.PartStored {
	t.Helper()
	var parts []storage.PartStored
	for number := range p.content.Count() {
		part, err := p.put(t, number+1, nil)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, part)
	}
	return parts
}

// all names what is stored, be it so or not.
func (p *partwise) all() (parts []storage.PartStored) {
	for number := range p.content.Count() {
		_, size := p.content.Span(number + 1)
		parts = append(parts, storage.PartStored{Number: number + 1, Size: size})
	}
	return parts
}

func (p *partwise) complete(t *testing.T, ready func() error) error {
	t.Helper()
	_, err := p.Complete(t.Context(), p.upload, p.content, p.all(), ready)
	return err
}

// hiddenFile is the file that parts are written to.
func (p *partwise) hiddenFile(t *testing.T) string {
	t.Helper()
	names := p.hidden(t)
	if len(names) != 1 {
		t.Fatalf("hidden files are %q, want one", names)
	}
	return names[0]
}

func (p *partwise) expectFile(t *testing.T, path string, want []byte) {
	t.Helper()
	if got, err := os.ReadFile(p.file(path)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s holds %d bytes, %v, want %d others", path, len(got), err, len(want))
	}
}

// TestBeginObstacles shows that what cannot be written is refused before the first byte, and changes nothing.
func TestBeginObstacles(t *testing.T) {
	for _, o := range []obstacle{
		{"FIFO", fifo, storage.Conflict, "destination_not_regular"},
		{"FIFOAsParent", fifoAsParent, storage.Conflict, "parent_not_directory"},
		{"Socket", socket, storage.Conflict, "destination_not_regular"},
		{"Directory", dir("/x/f"), storage.Conflict, "destination_is_directory"},
		{"Link", linkTo("g", regular("/x/g"), "/x/f"), storage.Conflict, "destination_not_regular"},
		{"ParentLoop", symlink("x", "/x"), storage.Invalid, "symlink_loop"},
		{"ParentDotDot", symlink("../outside", "/x"), storage.Denied, "path_escapes"},
	} {
		t.Run(o.name, func(t *testing.T) {
			b := newObstacle(t, o)
			before := snapshot(t, b.root)
			_, err := b.writer(t, "/x/f").Begin(t.Context(), storage.PartContent{Size: 100, PartSize: 10})
			expectCode(t, err, o.class, o.code)
			expectNoPath(t, err, b.root)
			if after := snapshot(t, b.root); after != before {
				t.Errorf("a refused Begin changed the tree from\n%s\nto\n%s", before, after)
			}
		})
	}
}

// TestPartOutside writes where the content is not.
func TestPartOutside(t *testing.T) {
	t.Parallel()
	p := inParts(t, newBench(t, sandbox.Options{}), "/x/f")
	for _, part := range []storage.Part{{Offset: -1, Size: 1}, {Offset: 0, Size: p.content.Size + 1}, {Offset: p.content.Size, Size: 1}, {Size: -1}} {
		part.Body = strings.NewReader("x")
		_, err := p.PutPart(t.Context(), p.upload, part)
		expectCode(t, err, storage.Invalid, "part_outside")
	}
	if info, err := os.Stat(p.hiddenFile(t)); err != nil || info.Size() != p.content.Size {
		t.Errorf("the file is %v, %v", info, err)
	}
	for _, content := range []storage.PartContent{{Size: -1, PartSize: 1}, {Size: 1}, {Size: 1, PartSize: -1}} {
		_, err := p.Begin(t.Context(), content)
		expectCode(t, err, storage.Invalid, "part_size_invalid")
	}
	p.content.Size++ // not what was begun
	expectCode(t, p.complete(t, nil), storage.Invalid, "part_size_invalid")
}

// TestAbortedMidway removes the file while a part is written to it: that it was stored must not be said.
func TestAbortedMidway(t *testing.T) {
	t.Parallel()
	p := inParts(t, newBench(t, sandbox.Options{}), "/x/f")
	body := &acting{Reader: bytes.NewReader(p.data[:partSize]), act: func() error { return p.Abort(t.Context(), p.upload) }}
	_, err := p.put(t, 1, body)
	expectCode(t, err, storage.Conflict, storage.CodeUploadGone)
	if left := p.hidden(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// acting does something once, in the middle.
type acting struct {
	io.Reader

	act func() error
}

func (a *acting) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p[:min(len(p), 1000)])
	if act := a.act; act != nil && n > 0 {
		a.act = nil
		if acted := act(); acted != nil {
			return n, acted
		}
	}
	return n, err
}

// TestPartFollowsItsDirectory moves the directory away and puts a link to the outside in its place.
func TestPartFollowsItsDirectory(t *testing.T) {
	t.Parallel()
	p := inParts(t, newObstacle(t, obstacle{make: dir("/x")}), "/x/f")
	swap := func() error {
		if err := os.Rename(p.file("/x"), p.file("/moved")); err != nil {
			return err
		}
		return os.Symlink("../outside", p.file("/x"))
	}
	if _, err := p.put(t, 1, &acting{Reader: bytes.NewReader(p.data[:partSize]), act: swap}); err != nil {
		t.Fatal(err)
	}
	_, err := p.put(t, 2, nil)
	expectCode(t, err, storage.Denied, "path_escapes")
	expectCode(t, p.complete(t, nil), storage.Denied, "path_escapes")
	if entries, err := os.ReadDir(filepath.Join(p.root, org, "outside")); err != nil || len(entries) != 1 {
		t.Errorf("outside there are %v, %v, want the one file", entries, err)
	}
}

// TestDirectoryRemovedBetweenParts shows that nothing is made again for an upload whose directory is gone.
func TestDirectoryRemovedBetweenParts(t *testing.T) {
	t.Parallel()
	p := inParts(t, newBench(t, sandbox.Options{}), "/x/f")
	if err := os.RemoveAll(p.file("/x")); err != nil {
		t.Fatal(err)
	}
	_, err := p.put(t, 1, nil)
	expectCode(t, err, storage.Conflict, storage.CodeUploadGone)
	expectCode(t, p.complete(t, nil), storage.Conflict, storage.CodeUploadGone)
	if err := p.Abort(t.Context(), p.upload); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(p.file("/x")); err == nil {
		t.Error("the directory was made again")
	}
}

// TestCompletedByAnotherFile shows that a file of the same length at the destination is not taken for a completion, be it that it
// has the number of an inode that was freed.
func TestCompletedByAnotherFile(t *testing.T) {
	t.Parallel()
	for range 5 {
		p := inParts(t, newBench(t, sandbox.Options{}), "/x/f")
		p.putAll(t)
		if err := p.Abort(t.Context(), p.upload); err != nil {
			t.Fatal(err)
		}
		other := storagetest.Data(len(p.data), 2)
		if err := put(t, p.destination("/x/f"), other); err != nil {
			t.Fatal(err)
		}
		expectCode(t, p.complete(t, nil), storage.Conflict, storage.CodeUploadGone)
		p.expectFile(t, "/x/f", other)
	}
}

// TestCompletedAndReplaced repeats a completion after another writer has replaced the file.
func TestCompletedAndReplaced(t *testing.T) {
	t.Parallel()
	p := inParts(t, newBench(t, sandbox.Options{Sync: true}), "/x/f")
	p.putAll(t)
	if err := p.complete(t, nil); err != nil {
		t.Fatal(err)
	}
	refused := func() error { return io.ErrUnexpectedEOF }
	if err := p.complete(t, refused); err != nil { // it is visible; nobody is asked any more
		t.Errorf("a completion whose answer was lost: %v", err)
	}
	if err := put(t, p.destination("/x/f"), []byte("other")); err != nil {
		t.Fatal(err)
	}
	expectCode(t, p.complete(t, nil), storage.Conflict, storage.CodeUploadGone)
	p.expectFile(t, "/x/f", []byte("other"))
}

// TestFreshIsOutOfReach lets a stale writer write on through the descriptor that it has, with wrong bytes.
func TestFreshIsOutOfReach(t *testing.T) {
	t.Parallel()
	for _, shown := range []bool{false, true} { // by an owner who feared nobody, and did not live to tell
		p := inParts(t, newBench(t, sandbox.Options{}), "/x/f")
		p.putAll(t)
		wrong := storagetest.Data(partSize, 9)
		_, _ = p.put(t, 1, &acting{Reader: bytes.NewReader(wrong), act: func() error {
			if shown {
				if err := p.complete(t, nil); err != nil {
					return err
				}
			}
			p.content.Fresh = true
			return p.complete(t, nil)
		}})
		p.expectFile(t, "/x/f", p.data)
		if left := p.hidden(t); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
}

// TestFreshRefused shows that a copy that may not become visible is removed, and what it is of stays.
func TestFreshRefused(t *testing.T) {
	t.Parallel()
	p := inParts(t, newBench(t, sandbox.Options{}), "/x/f")
	p.putAll(t)
	p.content.Fresh = true
	refused := storage.Errorf(storage.Interrupted, "test", "commit", "the test", "no")
	expectCode(t, p.complete(t, func() error { return refused }), storage.Interrupted, "test")
	p.hiddenFile(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.Complete(ctx, p.upload, p.content, p.all(), nil)
	expectCode(t, err, storage.Interrupted, "interrupted")
	if err := p.complete(t, nil); err != nil {
		t.Error(err)
	}
	p.expectFile(t, "/x/f", p.data)
	expectCode(t, p.complete(t, nil), storage.Conflict, storage.CodeUploadGone)
}

// TestWhatIsInTheWayAtTheEnd puts something at the destination in the last moment.
func TestWhatIsInTheWayAtTheEnd(t *testing.T) {
	t.Parallel()
	p := inParts(t, newBench(t, sandbox.Options{}), "/x/f")
	p.putAll(t)
	expectCode(t, p.complete(t, func() error { return os.MkdirAll(p.file("/x/f/g"), 0o755) }), storage.Conflict, "destination_is_directory")
	if err := os.RemoveAll(p.file("/x/f")); err != nil {
		t.Fatal(err)
	}
	if err := p.complete(t, nil); err != nil {
		t.Error(err)
	}
	p.expectFile(t, "/x/f", p.data)
}

// TestNamesInParts writes files of every legal name.
func TestNamesInParts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		path := "/" + storagetest.Names().Draw(rt, "name")
		b := newBench(t, sandbox.Options{})
		token := rapid.SampledFrom([]string{"t", "a_b-C", strings.Repeat("t", 200)}).Draw(rt, "token")
		d, _ := b.store.Destination(org, box, path, token, nil).(storage.PartDestination)
		p := &partwise{bench: b, PartDestination: d, data: storagetest.Data(partSize+1, 1)}
		p.content = storage.PartContent{Size: partSize + 1, PartSize: partSize, Fresh: rapid.Bool().Draw(rt, "fresh"), OnlyNew: rapid.Bool().Draw(rt, "new")}
		var err error
		if p.upload, err = d.Begin(t.Context(), p.content); err != nil {
			rt.Fatalf("Begin of %q: %v", path, err)
		}
		p.putAll(t)
		if err := p.complete(t, nil); err != nil {
			rt.Fatalf("Complete of %q: %v", path, err)
		}
		p.expectFile(t, path, p.data)
	})
}

// TestFullDiskInParts begins what does not fit: that is told before a byte is copied.
func TestFullDiskInParts(t *testing.T) {
	root := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := mountSmall(t, root, 512<<10); err != nil {
		t.Logf("no file system can be mounted here (%v): TestFullDisk shows that its error is understood", err)
		return
	}
	for _, sync := range []bool{true, false} {
		b := newBenchAt(t, root, sandbox.Options{Sync: sync})
		d := b.writer(t, "/x/big")
		_, err := d.Begin(t.Context(), storage.PartContent{Size: 1 << 20, PartSize: partSize})
		expectCode(t, err, storage.NoSpace, "no_space")
		if left := b.hidden(t); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
		_, err = d.Begin(t.Context(), storage.PartContent{Size: 1 << 50, PartSize: partSize})
		if err == nil {
			t.Error("a petabyte fits")
		}
		p := &partwise{bench: b, PartDestination: d, data: storagetest.Data(300<<10, 1)}
		p.content = storage.PartContent{Size: 300 << 10, PartSize: partSize}
		if p.upload, err = d.Begin(t.Context(), p.content); err != nil {
			t.Fatalf("the space of the refused file was not freed: %v", err)
		}
		p.putAll(t)
		p.content.Fresh = true // which needs the space twice
		expectCode(t, p.complete(t, nil), storage.NoSpace, "no_space")
		p.hiddenFile(t)
		p.content.Fresh = false
		if err := p.complete(t, nil); err != nil {
			t.Error(err)
		}
		p.expectFile(t, "/x/big", p.data)
		if err := os.Remove(b.file("/x/big")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPartsOnAMount writes to a file system of its own in the sandbox.
func TestPartsOnAMount(t *testing.T) {
	b := newBench(t, sandbox.Options{Sync: true})
	if err := os.Mkdir(b.file("/x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := mountSmall(t, b.file("/x"), 1<<20); err != nil {
		t.Logf("no file system can be mounted here: %v", err)
	}
	p := inParts(t, b, "/x/f")
	p.putAll(t)
	p.content.OnlyNew = true
	if err := p.complete(t, nil); err != nil {
		t.Fatal(err)
	}
	p.expectFile(t, "/x/f", p.data)
}

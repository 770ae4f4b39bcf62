package sandbox_test

import (
	"bytes"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

// island is data that stands in the middle of nothing.
type island struct{ at, size int }

// sparse writes a file with holes, and returns its content.
func (b *bench) sparse(t *testing.T, path string, size int, islands ...island) []byte {
	t.Helper()
	b.write(t, path, nil)
	file, err := os.OpenFile(b.file(path), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	content := make([]byte, size)
	for i, one := range islands {
		copy(content[one.at:], storagetest.Data(one.size, byte(i+1)))
		if _, err := file.WriteAt(content[one.at:one.at+one.size], int64(one.at)); err != nil {
			t.Fatal(err)
		}
	}
	if err := file.Truncate(int64(size)); err != nil {
		t.Fatal(err)
	}
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
	return content
}

// space is what a file takes, in bytes.
func (b *bench) space(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(b.file(path), &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// sameHoles expects a copy to have the content, and about the space, of a file. Where that one got no holes there is nothing to keep.
func (b *bench) sameHoles(t *testing.T, from, to string, content []byte) {
	t.Helper()
	if got, err := os.ReadFile(b.file(to)); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the copy has %d bytes, %v, or other ones; want %d", len(got), err, len(content))
	}
	if has, got := b.space(t, from), b.space(t, to); got > 2*has+64<<10 {
		t.Errorf("the copy takes %d bytes of space, its source %d", got, has)
	}
}

var sparseFiles = map[string]struct {
	size    int
	islands []island
}{
	"Nothing":   {size: 9 << 20},
	"Beginning": {size: 9<<20 + 7, islands: []island{{0, 4096}}},
	"End":       {size: 9<<20 + 7, islands: []island{{9<<20 - 5, 12}}},
	"Middle":    {size: 40 << 20, islands: []island{{5<<20 + 3, 10}, {17 << 20, 300_001}}},
	"Small":     {size: 10_000, islands: []island{{8192, 1}}},
}

// TestSparse keeps the holes of a file, whether the system copies it or somebody digests its bytes.
func TestSparse(t *testing.T) {
	t.Parallel()
	for name, c := range sparseFiles {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, sandbox.Options{Sync: true})
			data := b.sparse(t, "/from", c.size, c.islands...)
			for _, read := range []bool{false, true} {
				object, err := b.source("/from").Open(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				var body io.Reader = object.Body
				if read {
					body = struct{ io.Reader }{body}
				}
				content := storage.Content{Body: body, Size: object.Size, Sparse: object.Sparse}
				stored, err := b.destination("/to").Put(t.Context(), content)
				_ = object.Body.Close()
				if err != nil || stored.Bytes != int64(c.size) {
					t.Fatalf("read %t: %+v, %v", read, stored, err)
				}
				b.sameHoles(t, "/from", "/to", data)
			}
		})
	}
}

// TestSparseParts keeps holes in what comes in parts, also in the copy that no late writer reaches.
func TestSparseParts(t *testing.T) {
	t.Parallel()
	for name, c := range sparseFiles {
		for _, fresh := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				b := newBench(t, sandbox.Options{})
				p := &partwise{bench: b, PartDestination: b.writer(t, "/to"), data: b.sparse(t, "/from", c.size, c.islands...)}
				p.content = storage.PartContent{Size: int64(c.size), PartSize: 1 << 20, Sparse: true, Fresh: fresh}
				var err error
				if p.upload, err = p.Begin(t.Context(), p.content); err != nil {
					t.Fatal(err)
				}
				if _, err := p.Complete(t.Context(), p.upload, p.content, p.putAll(t), nil); err != nil {
					t.Fatal(err)
				}
				b.sameHoles(t, "/from", "/to", p.data)
			})
		}
	}
}

// TestSparsePartAgain stores a part once more, with zeros where something else came the first time.
func TestSparsePartAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, sandbox.Options{})
	p := &partwise{bench: b, PartDestination: b.writer(t, "/to"), data: make([]byte, 3<<20)}
	p.content = storage.PartContent{Size: int64(len(p.data)), PartSize: 1 << 20, Sparse: true}
	var err error
	if p.upload, err = p.Begin(t.Context(), p.content); err != nil {
		t.Fatal(err)
	}
	if _, err := p.put(t, 2, bytes.NewReader(storagetest.Data(1<<20, 1))); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Complete(t.Context(), p.upload, p.content, p.putAll(t), nil); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(b.file("/to")); err != nil || !bytes.Equal(got, p.data) {
		t.Errorf("the file has %d bytes, %v, or what came first", len(got), err)
	}
}

// TestSparseTold tells of holes, and of none.
func TestSparseTold(t *testing.T) {
	t.Parallel()
	b := newBench(t, sandbox.Options{})
	b.write(t, "/full", storagetest.Data(1<<20, 1))
	b.sparse(t, "/holes", 1<<20)
	for path, want := range map[string]bool{"/full": false, "/holes": true} {
		object, err := b.source(path).Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if object.Sparse != want {
			t.Errorf("%s: sparse is %t", path, object.Sparse)
		}
		_ = object.Body.Close()
	}
}

// TestSparseChanged cuts a file with holes while it is sent.
func TestSparseChanged(t *testing.T) {
	t.Parallel()
	b := newBench(t, sandbox.Options{})
	b.sparse(t, "/from", 1<<20, island{500_000, 10})
	body, size := openSending(t, b, "/from")
	body.before = func() error {
		if body.sent == 100_000 {
			return os.Truncate(b.file("/from"), 150_000)
		}
		return nil
	}
	_, err := b.destination("/to").Put(t.Context(), storage.Content{Body: body, Size: size})
	expectCode(t, err, storage.Corrupt, "source_short")
}

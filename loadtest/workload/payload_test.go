package workload

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
)

func TestContentIsTheSameEachTime(t *testing.T) {
	t.Parallel()
	object := Object{Number: 5, Version: 2, Size: 1<<20 + 17}
	once, err := io.ReadAll(NewPayload(9, 0).Content(object))
	if err != nil || int64(len(once)) != object.Size {
		t.Fatalf("%d bytes, %v", len(once), err)
	}
	c := NewPayload(9, 0).Content(Object{Number: 1, Size: 10})
	c.Reset(object)
	if err := iotest.TestReader(c, once); err != nil { // pieces of every size, and seeks
		t.Error(err)
	}
	if _, err := c.Seek(-1, io.SeekStart); err == nil {
		t.Error("one can seek before the beginning")
	}
	c.Reset(object)
	var all bytes.Buffer
	if n, err := c.WriteTo(&all); err != nil || n != object.Size || !bytes.Equal(all.Bytes(), once) {
		t.Errorf("written at once it is something else: %d bytes, %v", n, err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF { //nolint:errorlint // readers return it as it is
		t.Errorf("after the end come %d bytes, %v", n, err)
	}
}

func TestContentNeitherCompressesNorRepeats(t *testing.T) {
	t.Parallel()
	var all []byte
	p := NewPayload(1, 0)
	for _, object := range []Object{
		{Number: 0, Size: 2<<20 + 9}, {Number: 1, Size: 300_000}, {Number: 1, Version: 1, Size: 300_000}, {Number: 2, Size: 100_000}, {Number: 1 << 40, Size: 300_000},
	} {
		content, err := io.ReadAll(p.Content(object))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, content...)
	}
	other, err := io.ReadAll(NewPayload(2, 0).Content(Object{Size: 300_000}))
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, other...)
	enc, err := zstd.NewWriter(nil, zstd.WithWindowSize(8<<20), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	if small := enc.EncodeAll(all, nil); len(small) < len(all) {
		t.Errorf("%d bytes are compressed to %d", len(all), len(small))
	}
	seen := map[[16]byte]bool{}
	for at := 0; at+16 <= len(all); at += 16 {
		if key := [16]byte(all[at:]); seen[key] {
			t.Fatalf("the 16 bytes at %d came before", at)
		} else {
			seen[key] = true
		}
	}
}

func BenchmarkContent(b *testing.B) {
	p := NewPayload(1, 0)
	c := p.Content(Object{Size: 1 << 30})
	buf := make([]byte, 64<<10)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for n := uint64(0); b.Loop(); n++ {
		if _, err := c.Read(buf); err != nil {
			c.Reset(Object{Number: n, Size: 1 << 30})
		}
	}
}

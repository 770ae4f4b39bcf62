package digest

import (
	"bytes"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestAsTheStandardOne writes streams of every length in pieces of every length, asks and goes on in between, and compares.
func TestAsTheStandardOne(t *testing.T) {
	t.Parallel()
	data := make([]byte, 4*Least)
	for i := range data {
		data[i] = byte(i * 7 / 3)
	}
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{0, 1, bufferSize, Least - 1, Least, Least + 1, Least + bufferSize, 4 * Least}).Draw(t, "size")
		step := rapid.SampledFrom([]int{17_001, 32 << 10, bufferSize - 1, bufferSize, bufferSize + 1, depth*bufferSize + 1, 3 * Least}).Draw(t, "step")
		if rapid.Bool().Draw(t, "crowded") { // others have the places
			crowd := int64(1000)
			beside.Add(crowd)
			defer beside.Add(-crowd)
		}
		have, want := NewSHA256(), sha256.New()
		for rest := data[:size]; len(rest) > 0; {
			n := min(step, len(rest))
			piece := bytes.Clone(rest[:n])
			_, _ = want.Write(piece)
			if m, err := have.Write(piece); m != n || err != nil {
				t.Fatalf("Write of %d bytes: %d, %v", n, m, err)
			}
			clear(piece) // what was written is its writer's again
			rest = rest[n:]
			switch rapid.IntRange(0, 19).Draw(t, "then") {
			case 0:
				compare(t, have, want.Sum(nil))
			case 1:
				have = resumed(t, have)
			}
		}
		compare(t, have, want.Sum(nil))
		have.Reset()
		compare(t, have, sha256.New().Sum(nil))
	})
}

func compare(t *rapid.T, have *SHA256, want []byte) {
	for range 2 {
		if got := have.Sum([]byte{1}); !bytes.Equal(got[1:], want) || got[0] != 1 {
			t.Fatalf("the sum is %x, want %x", got[1:], want)
		}
	}
}

func resumed(t *rapid.T, from *SHA256) *SHA256 {
	state, err := from.State()
	if err != nil {
		t.Fatal(err)
	}
	if rapid.Bool().Draw(t, "same") { // in place, after something else
		_, _ = from.Write(make([]byte, 3*Least/2))
		if err := from.UnmarshalBinary(state); err != nil {
			t.Fatal(err)
		}
		return from
	}
	to, err := ResumeSHA256(state)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// TestPlaces shows that no more streams than there are places are digested beside, and that all places come back, also those of
// streams that nobody asks for their sum.
func TestPlaces(t *testing.T) {
	t.Parallel()
	data := make([]byte, bufferSize)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			s := NewSHA256()
			for range 40 {
				_, _ = s.Write(data)
			}
		})
	}
	all.Wait()
	s := NewSHA256()
	_, _ = s.Write(make([]byte, 3*Least))
	if got, want := s.Sum(nil), sha256.Sum256(make([]byte, 3*Least)); !bytes.Equal(got, want[:]) {
		t.Errorf("the sum is %x, want %x", got, want)
	}
}

func TestResumeRefusesNonsense(t *testing.T) {
	t.Parallel()
	for _, state := range [][]byte{nil, {1}, bytes.Repeat([]byte{0}, 108)} {
		if _, err := ResumeSHA256(state); err == nil {
			t.Errorf("%x was taken for a state", state)
		}
	}
}

// BenchmarkStream reads a file, digests it, and writes another one, as a copy does.
func BenchmarkStream(b *testing.B) {
	dir := b.TempDir()
	from := filepath.Join(dir, "from")
	if err := os.WriteFile(from, make([]byte, 64<<20), 0o600); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		hash func() io.Writer
	}{
		{"beside", func() io.Writer { return NewSHA256() }},
		{"inline", func() io.Writer { return sha256.New() }},
		{"none", func() io.Writer { return io.Discard }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(64 << 20)
			for b.Loop() {
				stream(b, from, filepath.Join(dir, "to"), c.hash())
			}
		})
	}
}

func stream(b *testing.B, from, to string, h io.Writer) {
	b.Helper()
	src, err := os.Open(from)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = src.Close() }()
	dst, err := os.Create(to)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = dst.Close() }()
	body := struct{ io.Reader }{io.TeeReader(struct{ io.Reader }{src}, h)}
	if _, err := io.CopyBuffer(struct{ io.Writer }{dst}, body, make([]byte, 256<<10)); err != nil {
		b.Fatal(err)
	}
	if s, ok := h.(*SHA256); ok {
		s.Sum(nil)
	}
}

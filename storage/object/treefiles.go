package object

import (
	"crypto/sha256"
	"sync"
)

// files are names in a tree, with the bytes of each. It keeps a digest of a name and not the name, so that its memory depends on their number
// only. The zero value is empty. It is safe for concurrent use.
type files struct {
	mu    sync.Mutex
	sizes map[[16]byte]int64
}

func (f *files) add(name string, size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sizes == nil {
		f.sizes = map[[16]byte]int64{}
	}
	f.sizes[nameDigest(name)] = size
}

// size reports whether a name is among them.
func (f *files) size(name string) (int64, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	size, ok := f.sizes[nameDigest(name)]
	return size, ok
}

func (f *files) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.sizes)
}

func nameDigest(name string) [16]byte {
	sum := sha256.Sum256([]byte(name))
	return [16]byte(sum[:16])
}

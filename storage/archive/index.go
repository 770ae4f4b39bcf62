package archive

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
)

// index knows what the archive has made so far. It keeps a digest of each name and not the name, so that its size depends on their number
// only; the digest is one that nobody finds two names for.
type index struct {
	nodes map[digest]node
}

type digest [16]byte

// node is what bears a path.
type node struct {
	id   uint32 // its number, from 1; 0 is the tree itself
	kind Kind
}

// child returns what is known by a name in the directory with the number parent.
func child(parent uint32, name string) digest {
	var buffer [4 + maxElement]byte
	binary.BigEndian.PutUint32(buffer[:4], parent)
	sum := sha256.Sum256(buffer[:4+copy(buffer[4:], name)])
	return digest(sum[:len(digest{})])
}

// lookup finds what bears a clean path.
func (x *index) lookup(path string) (node, bool) {
	at := node{kind: Dir}
	for name := range strings.SplitSeq(path, "/") {
		next, ok := x.nodes[child(at.id, name)]
		if !ok {
			return node{}, false
		}
		at = next
	}
	return at, true
}

// add notes that a directory has got an entry.
func (x *index) add(at digest, kind Kind) node {
	n := node{id: uint32(len(x.nodes)) + 1, kind: kind} //nolint:gosec // bounded by limits.Entries, which is checked to fit
	x.nodes[at] = n
	return n
}

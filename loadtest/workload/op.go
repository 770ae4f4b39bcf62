package workload

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Kind is what an operation does.
type Kind uint8

// The kinds of operations. The zero Kind is none.
const (
	Put       Kind = iota + 1 // writes an object in one request
	Get                       // reads an object whole
	Stat                      // asks for an object's size and digest
	List                      // lists a page of objects
	Delete                    // removes an object
	Multipart                 // writes an object in parts
	Copy                      // has the fleet copy an object

	kinds = int(Copy) + 1
)

var kindNames = [kinds]string{"none", "put", "get", "stat", "list", "delete", "multipart", "copy"}

// Kinds are all kinds, in order.
func Kinds() []Kind { return []Kind{Put, Get, Stat, List, Delete, Multipart, Copy} }

// String is the name of the kind on the command line and in reports.
func (k Kind) String() string {
	if int(k) >= kinds {
		return kindNames[0]
	}
	return kindNames[k]
}

// ParseKind returns the kind of a name.
func ParseKind(name string) (Kind, error) {
	if at := slices.Index(kindNames[1:], name); at >= 0 {
		return Kind(at + 1), nil //nolint:gosec // there are eight
	}
	return 0, fmt.Errorf("%q is no operation; there are put, get, stat, list, delete, multipart and copy", name)
}

// MarshalText implements encoding.TextMarshaler.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *Kind) UnmarshalText(text []byte) error {
	var err error
	*k, err = ParseKind(string(text))
	return err
}

// Object is an object of a load test.
type Object struct {
	Number  uint64 // names its key
	Version uint32 // how often it was written again; with the number it names its content
	Size    int64  // bytes
}

// Op is one operation.
type Op struct {
	N      uint64 // of its generator, from 0
	Kind   Kind
	Object Object        // what it is about; of a List, where the page begins
	Due    time.Duration // since the start of the run, when it is to begin; in a closed loop 0
	slot   *slot         // of the population; nil: the object is in none
}

// Moves tells whether the content of an object is written or read.
func (k Kind) Moves() bool { return k == Put || k == Get || k == Multipart || k == Copy }

// bytes is what the operation moves to or from the store.
func (o *Op) bytes() int64 {
	if o.Kind.Moves() {
		return o.Object.Size
	}
	return 0
}

// source makes numbers that follow from a seed, a generator and an operation: the same ones each time.
func source(seed uint64, generator int, n uint64, use uint64) *rand.Rand {
	// Seeds that differ in few bits must not make streams that are alike: the golden ratio spreads them.
	const golden = 0x9e3779b97f4a7c15
	return rand.New(rand.NewPCG(seed^(uint64(generator)+1)*golden, (n<<3|use)*golden)) //nolint:gosec // a load needs no secrecy, and generators count from 0
}

// Uses of [source], so that the sizes of a load do not follow its kinds.
const (
	useKind uint64 = iota
	useSize
	usePick
	useArrival
)

package workload

import (
	"cmp"
	"math/rand/v2"
	"sync"
	"time"
)

// Load is the row of operations of one generator. Many goroutines may take from it.
type Load struct {
	mu         sync.Mutex
	cfg        Config
	population *Population
	replay     *replay // nil: it replays nothing
	n          uint64
	bytes      int64
	spent      bool // the bytes are
}

// Config says what a load is made of.
type Config struct {
	Seed      uint64
	Generator int // from 0: loads of one run differ by it
	Mix       Mix
	Sizes     Sizes    // of what is written
	Objects   int      // most that there are to read, write again and delete; 0: what is written is written once, and is not read
	Arrivals  Arrivals // nil: a closed loop

	Count    uint64 // of operations; 0: without end
	MaxBytes int64  // written and read together, with what is written first; 0: without end

	// Schedule is replayed: operation i of the load has the size of item i, and its last item ends the load. Sizes and Arrivals mean nothing then. Puts write
	// an object for each item. Gets and copies are of objects that are written before, one for each size that occurs; where there are more sizes
	// than Objects, an item's object is the one of the nearest size. nil: nothing is replayed.
	Schedule   *Schedule
	Speed      float64 // 1: an item is due as long after the first one as it was; 2: after half of that time; 0: a closed loop. See [ParseSpeed].
	Generators int     // that share the items, one after another; 0: one
}

// NewLoad returns a load. Its population is empty: [Load.Prepare] says what to write first.
func NewLoad(cfg Config) *Load {
	l := &Load{cfg: cfg, replay: newReplay(&cfg)}
	if l.replay != nil {
		l.cfg.Arrivals = nil
		l.cfg.Objects = cmp.Or(len(l.replay.shelf), cfg.Objects)
	}
	l.population = NewPopulation(l.cfg.Objects)
	return l
}

// Prepare returns the next object that has to be there before the load begins, to be written as a Put and taken back by [Load.End]; ok is false when there
// are enough, or when no more bytes may be moved. These operations count as none of the load.
func (l *Load) Prepare() (op Op, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.population.next >= uint64(l.cfg.Objects) { //nolint:gosec // not negative
		return Op{}, false
	}
	n := l.population.next
	r := source(l.cfg.Seed, l.cfg.Generator, n, useSize)
	size := l.size(n, r)
	shelf := l.shelf()
	if shelf != nil {
		size = shelf[n].size
	}
	if l.spend(size) {
		return Op{}, false
	}
	op = Op{N: n, Kind: Put}
	op.Object, op.slot = l.population.write(r, size)
	if shelf != nil {
		shelf[n].slot = op.slot
	}
	return op, true
}

// Next returns the next operation; ok is false when there is none. Each is given back by [Load.End]. An operation for which there is no object, because
// all were deleted or are in use, becomes a Put.
func (l *Load) Next() (op Op, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.spent || l.cfg.Count > 0 && l.n >= l.cfg.Count {
		return Op{}, false
	}
	due, ok := l.due()
	if !ok {
		return Op{}, false
	}
	op = Op{N: l.n, Due: due, Kind: l.cfg.Mix.at(source(l.cfg.Seed, l.cfg.Generator, l.n, useKind).Float64())}
	l.choose(&op)
	if l.spend(op.bytes()) {
		l.population.end(&op, false)
		return Op{}, false
	}
	l.n++
	if l.cfg.Arrivals != nil {
		op.Due = l.cfg.Arrivals.next()
	}
	return op, true
}

// due is when the next operation of a replay is due; ok is false if there is none.
func (l *Load) due() (due time.Duration, ok bool) {
	if l.replay == nil {
		return 0, true
	}
	due, _, ok = l.replay.of(l.n)
	return due, ok
}

// size is the size of what operation n writes.
func (l *Load) size(n uint64, r *rand.Rand) int64 {
	if l.replay == nil {
		return l.cfg.Sizes.at(r)
	}
	_, size, _ := l.replay.of(n)
	return size
}

// shelf are the objects that a replay reads; nil: it reads none.
func (l *Load) shelf() []shelved {
	if l.replay == nil {
		return nil
	}
	return l.replay.shelf
}

// spend takes bytes off what may be moved; it tells whether that is spent.
func (l *Load) spend(bytes int64) bool {
	if l.cfg.MaxBytes > 0 && l.bytes+bytes > l.cfg.MaxBytes {
		l.spent = true
	} else {
		l.bytes += bytes
	}
	return l.spent
}

// Spent says that no more bytes may be moved.
func (l *Load) Spent() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.spent
}

// choose chooses the object.
func (l *Load) choose(op *Op) {
	r := source(l.cfg.Seed, l.cfg.Generator, op.N, usePick)
	switch op.Kind {
	case Get, Stat, List, Copy:
		if l.shelf() != nil {
			op.Object, op.slot = l.population.readAt(l.replay.nearest(l.size(op.N, r)))
			break
		}
		op.Object, op.slot = l.population.read(r)
	case Delete:
		op.Object, op.slot = l.population.remove(r)
	case Put, Multipart:
	}
	if op.slot != nil || op.Kind == List {
		return
	}
	if op.Kind != Multipart {
		op.Kind = Put
	}
	size := l.size(op.N, source(l.cfg.Seed, l.cfg.Generator, op.N, useSize))
	if l.cfg.Objects == 0 {
		op.Object = Object{Number: op.N, Size: size}
		return
	}
	op.Object, op.slot = l.population.write(r, size)
}

// Open says that operations are due at times of their own.
func (l *Load) Open() bool { return l.cfg.Arrivals != nil || l.replay != nil && l.replay.speed > 0 }

// DueBefore takes all operations that are due before a time out of an open loop, unmade, and returns how many they were; it counts to a million.
func (l *Load) DueBefore(at time.Duration) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	const most = 1_000_000
	n := 0
	for l.Open() && !l.spent && n < most && (l.cfg.Count == 0 || l.n < l.cfg.Count) && l.dueBefore(at) {
		n++
		l.n++
	}
	return n
}

// dueBefore tells whether the next operation of an open loop is due before a time. Arrivals go on to the one after it.
func (l *Load) dueBefore(at time.Duration) bool {
	if l.cfg.Arrivals != nil {
		return l.cfg.Arrivals.next() < at
	}
	due, ok := l.due()
	return ok && due < at
}

// End takes an operation back, which went well or not.
func (l *Load) End(op *Op, ok bool) { l.population.end(op, ok) }

// Objects is how many objects there are that can be read.
func (l *Load) Objects() int { return l.population.Len() }

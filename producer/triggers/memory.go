package triggers

import (
	"crypto/rand"
	"maps"
	"slices"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// mostProblems are kept of each rule.
const mostProblems = 10

// memory is what the journal of an org says, as far as decisions need it. It belongs to the goroutine of the org.
type memory struct {
	journal   string // its name
	seq       uint64 // of the last record in its stream
	n         uint64 // of the last record
	through   uint64
	partial   *partial
	submitted uint64

	seen   map[hash]struct{} // fingerprints of what was decided on
	newest map[hash]newest   // by destination: the last copy
	known  map[hash]known    // by source: the last copy

	entries []entry // what the maps hold, the oldest first; those before head were forgotten
	head    int
	marks   []mark // the records of the journal, the oldest first

	counts   map[string]*Counts
	problems map[string][]Trouble // the newest first
	batch    map[string]protocol.BatchID
	sweeps   map[string]*sweepState
	most     int // entries
}

// newest is the last copy to a destination.
type newest struct {
	source    hash
	sequencer string
	n         uint64 // its record
	batch     int32
	index     int32
	rule      string
	ended     bool
}

// known is the last copy of a source.
type known struct {
	etag      hash
	time      int64
	swept     int64
	n         uint64
	dest      hash
	sequencer string
}

// entry is one decision that is remembered.
type entry struct {
	mark, dest, source hash // mark: the fingerprint
	n                  uint64
}

// mark is a record of the journal.
type mark struct {
	seq, n uint64
	at     time.Time
}

func newMemory() *memory {
	return &memory{
		journal: rand.Text(), // unless there is one already
		seen:    map[hash]struct{}{}, newest: map[hash]newest{}, known: map[hash]known{},
		counts: map[string]*Counts{}, problems: map[string][]Trouble{}, batch: map[string]protocol.BatchID{}, sweeps: map[string]*sweepState{},
		most: MostRemembered,
	}
}

// apply takes in a record of the journal, as it is read at the start. While the org runs, its rounds change the memory themselves.
func (m *memory) apply(seq uint64, r *record) {
	for i := range r.Copies {
		m.copied(r, &r.Copies[i])
	}
	for i := range r.Refused {
		m.refused(r, &r.Refused[i])
	}
	for _, seen := range r.Superseded {
		m.saw(entry{mark: seen, n: r.N})
	}
	for _, b := range r.Batches {
		m.batch[b.Rule] = b.ID
	}
	for rule, c := range r.Counts {
		m.counts[rule] = &c
	}
	maps.Copy(m.problems, r.Problems)
	maps.Copy(m.batch, r.Newest)
	if m.sweeps = r.Sweeps; m.sweeps == nil {
		m.sweeps = map[string]*sweepState{}
	}
	m.recorded(seq, r)
}

// recorded says that a record is durable.
func (m *memory) recorded(seq uint64, r *record) {
	m.journal, m.seq, m.n, m.through, m.partial, m.submitted = r.Journal, seq, r.N, r.Through, r.Partial, r.Submitted
	m.marks = append(m.marks, mark{seq: seq, n: r.N, at: r.At})
}

func (m *memory) copied(r *record, c *copied) {
	m.newest[c.Dest] = newest{
		source: c.Source, sequencer: c.Sequencer, n: r.N, rule: r.Rules[c.Rule],
		batch: int32(c.Batch), index: int32(c.Index), //nolint:gosec // below the number of items of a record
	}
	if c.Source != (hash{}) {
		m.known[c.Source] = known{etag: c.ETag, time: c.Time, swept: c.Swept, n: r.N, dest: c.Dest, sequencer: c.Sequencer}
	}
	m.saw(entry{mark: c.Print, dest: c.Dest, source: c.Source, n: r.N})
}

func (m *memory) refused(r *record, f *refused) {
	m.saw(entry{mark: f.Print, n: r.N})
	rule := r.Rules[f.Rule]
	list := slices.Insert(slices.Clone(m.problems[rule]), 0, f.trouble())
	m.problems[rule] = list[:min(len(list), mostProblems)]
}

// saw remembers a decision, and forgets the oldest one if there are too many.
func (m *memory) saw(e entry) {
	m.seen[e.mark] = struct{}{}
	m.entries = append(m.entries, e)
	for len(m.entries)-m.head > m.most {
		m.forget()
	}
}

// forget drops the oldest decision.
func (m *memory) forget() {
	e := m.entries[m.head]
	m.head++
	delete(m.seen, e.mark)
	if e.dest != (hash{}) && m.newest[e.dest].n == e.n {
		delete(m.newest, e.dest)
	}
	if e.source != (hash{}) && m.known[e.source].n == e.n {
		delete(m.known, e.source)
	}
	if m.head > 1024 && m.head > len(m.entries)/2 {
		m.entries = slices.Clone(m.entries[m.head:])
		m.head = 0
	}
}

// expire forgets what was recorded before a moment. It returns the sequence before which no record is needed any more, and how many there are.
func (m *memory) expire(before time.Time) (keep uint64, old int) {
	for old < len(m.marks)-1 && m.marks[old].n <= m.submitted && (m.marks[old].at.Before(before) || m.marks[old].n < m.first()) {
		old++
	}
	if old == 0 {
		return 0, 0
	}
	next := m.marks[old]
	for m.head < len(m.entries) && m.entries[m.head].n < next.n {
		m.forget()
	}
	return next.seq, old
}

// first is the record of the oldest decision that is remembered.
func (m *memory) first() uint64 {
	if m.head == len(m.entries) {
		return 0
	}
	return m.entries[m.head].n
}

func (m *memory) count(rule string) *Counts {
	c := m.counts[rule]
	if c == nil {
		c = &Counts{}
		m.counts[rule] = c
	}
	return c
}

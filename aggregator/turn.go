package aggregator

import (
	"slices"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// line is who stands in line for one shard: its tenants take turns, and the batches of a tenant do, the oldest first.
type line struct {
	shard broker.Shard
	orgs  []*tenant
	next  int
	size  int // batches
}

type tenant struct {
	org  protocol.OrgID
	rows []*row
	next int
}

// join puts a batch into the line of its shard.
func (f *feeder) join(r *row) {
	if r.line != nil {
		return
	}
	shard := r.record.shard(r.key.org)
	l := f.lines[shard]
	if l == nil {
		l = &line{shard: shard}
		f.lines[shard] = l
	}
	l.add(r)
}

// leave takes a batch out of its line.
func (f *feeder) leave(r *row) {
	if l := r.line; l != nil {
		l.drop(r)
		if l.size == 0 {
			delete(f.lines, l.shard)
		}
	}
}

func (l *line) add(r *row) {
	i := slices.IndexFunc(l.orgs, func(t *tenant) bool { return t.org == r.key.org })
	if i < 0 {
		i = len(l.orgs)
		l.orgs = append(l.orgs, &tenant{org: r.key.org})
	}
	t := l.orgs[i]
	at, _ := slices.BinarySearchFunc(t.rows, r, func(a, b *row) int {
		if c := a.feed.Created.Compare(b.feed.Created); c != 0 {
			return c
		}
		return compare(a.name, b.name)
	})
	t.rows = slices.Insert(t.rows, at, r)
	if at < t.next {
		t.next++
	}
	l.size++
	r.line = l
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (l *line) drop(r *row) {
	i := slices.IndexFunc(l.orgs, func(t *tenant) bool { return t.org == r.key.org })
	t := l.orgs[i]
	at := slices.Index(t.rows, r)
	t.rows = slices.Delete(t.rows, at, at+1)
	if at < t.next {
		t.next--
	}
	if len(t.rows) == 0 {
		l.orgs = slices.Delete(l.orgs, i, i+1)
		if i < l.next {
			l.next--
		}
	}
	l.size--
	r.line = nil
}

// turn returns the batch whose turn it is.
func (l *line) turn() *row {
	if l.next >= len(l.orgs) {
		l.next = 0
	}
	t := l.orgs[l.next]
	l.next++
	if t.next >= len(t.rows) {
		t.next = 0
	}
	r := t.rows[t.next]
	t.next++
	return r
}

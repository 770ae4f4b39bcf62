package aggregator

import (
	"container/heap"
	"slices"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// row is a batch that has a feed record, as the feeder knows it.
type row struct {
	key      batchKey
	name     string // its protocol.ControlKey
	feed     protocol.Feed
	revision uint64
	seen     time.Time // when the record last changed, by the local clock
	fresh    bool      // the record appeared while this feeder was watching
	mine     bool      // it was this feeder that wrote it last

	record   *brief // nil until the acceptance is known to be complete
	rechecks int    // items below this index may be in the queue already
	allow    allowance
	confirm  time.Time // when this feeder last knew for certain how far the batch was

	wished     time.Time // when its control last changed
	recalled   uint64    // revision of the control for which the queue was purged
	recalledAt time.Time
	mark       uint64    // the report that must be folded before the batch is settled
	marked     time.Time // when no worker held anything any more; zero: not yet
	folded     uint64    // the report up to which all were folded then, or since
	moved      time.Time // when that last changed
	spared     []int     // items that a pass leaves with the workers that run them, in order
	unsure     []int     // items that dead workers held when it was stopped, in order
	cleaned    bool      // what dead workers left of it, being stopped, is in the queue to be removed

	seenSummary uint64    // revision of the summary when it was last looked at
	stirred     time.Time // when that changed
	waits       int       // reconciling passes so far, without news in between

	looked   time.Time
	patience time.Duration // grows while there is nothing to see
	due      time.Time
	place    int // in the agenda; -1: not in it
	line     *line
}

// brief is what the feeder keeps of an accept record.
type brief struct {
	lane       protocol.Lane
	pool       string
	total      int
	generation int  // as works name it
	direct     bool // the front published the items
	empty      bool // there is no manifest to feed from
	options    protocol.Options
	trace      string
}

func briefly(a *protocol.Acceptance) *brief {
	b := &brief{
		lane: a.Lane, pool: a.Pool, total: a.Total, generation: a.Generation, direct: !a.Fed(),
		options: a.Options, trace: a.Trace,
	}
	if len(a.Manifest) > 0 {
		b.generation = 0 // it stands in the accept record
	}
	b.empty = b.direct && len(a.Manifest) == 0
	return b
}

func (b *brief) shard(org protocol.OrgID) broker.Shard {
	return broker.Shard{Lane: b.lane, Pool: b.pool, Index: protocol.ShardOf(org)}
}

// end is how far the batch may be fed now.
func (r *row) end(w wish) int {
	if canary := r.record.options.Canary; canary > 0 && canary < r.record.total && !w.CanaryDone {
		return canary
	}
	return r.record.total
}

// hungry reports whether there is something to feed.
func (r *row) hungry(w wish) bool {
	return r.record != nil && (r.feed.Redo < r.feed.RedoEnd || r.feed.Next < r.end(w))
}

// spares reports whether an item is left with the worker that runs it.
func (r *row) spares(index int) bool {
	_, spared := slices.BinarySearch(r.spared, index)
	return spared
}

// watchful reports whether every change of the summary matters.
func (r *row) watchful() bool {
	return r.record != nil && (r.record.options.Canary > 0 || r.record.options.MaxFailed.Given)
}

// later returns how long to wait for the next look at a row at which nothing was to be seen: from least on, each time twice as long.
func (r *row) later(least, most time.Duration) time.Duration {
	r.patience = min(max(2*r.patience, least), most)
	return r.patience
}

// agenda orders rows by when they are to be looked at.
type agenda struct{ rows dueRows }

// put sets when a row is to be looked at; if it is to be looked at sooner already, that stays.
func (a *agenda) put(r *row, at time.Time) {
	switch {
	case r.place < 0:
		r.due = at
		heap.Push(&a.rows, r)
	case at.Before(r.due):
		r.due = at
		heap.Fix(&a.rows, r.place)
	}
}

// next takes out a row that is due; nil: there is none.
func (a *agenda) next(now time.Time) *row {
	if len(a.rows) == 0 || a.rows[0].due.After(now) {
		return nil
	}
	r, _ := heap.Pop(&a.rows).(*row)
	return r
}

func (a *agenda) first() (time.Time, bool) {
	if len(a.rows) == 0 {
		return time.Time{}, false
	}
	return a.rows[0].due, true
}

func (a *agenda) drop(r *row) {
	if r.place >= 0 {
		heap.Remove(&a.rows, r.place)
	}
}

// dueRows implements heap.Interface.
type dueRows []*row

func (d dueRows) Len() int           { return len(d) }
func (d dueRows) Less(i, j int) bool { return d[i].due.Before(d[j].due) }
func (d dueRows) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}

// Push implements heap.Interface.
func (d *dueRows) Push(x any) {
	r, _ := x.(*row)
	r.place = len(*d)
	*d = append(*d, r)
}

// Pop implements heap.Interface.
func (d *dueRows) Pop() any {
	last := len(*d) - 1
	r := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	r.place = -1
	return r
}

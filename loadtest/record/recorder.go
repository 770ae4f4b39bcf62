package record

import (
	"math"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/loadtest/workload"
)

// Recorder adds operations up, and hands each on to a file if there is one. Many goroutines may use it.
type Recorder struct {
	mu     sync.Mutex
	totals Totals
	groups map[groupKey]*Group
	file   *Writer
	ended  int64
	err    error // of the file
}

type groupKey struct {
	kind  workload.Kind
	class Class
	host  string
}

// NewRecorder returns a recorder of a run with a warm-up. file may be nil.
func NewRecorder(warmUp time.Duration, file *Writer) *Recorder {
	return &Recorder{totals: Totals{From: warmUp, To: math.MaxInt64}, groups: map[groupKey]*Group{}, file: file}
}

// Add records an operation that has ended.
func (r *Recorder) Add(op *Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file != nil && r.err == nil {
		r.err = r.file.op(op)
	}
	r.ended++
	t := &r.totals
	r.spread(op)
	due := op.Due >= t.From && op.Due < t.To
	if !due {
		t.Outside++
	} else if op.Lag > 0 {
		t.Lag.Add(op.Lag)
	}
	if op.Fault != nil {
		if due {
			r.group(op).Errors++
			t.fault(op.Kind, op.Fault, 1)
		}
		return
	}
	g := r.group(op)
	share := op.within(t.From, t.To)
	g.Done += share
	g.Moved += share * float64(op.moved())
	if !due {
		return
	}
	g.Ops++
	g.Bytes += op.moved()
	g.Latency.Add(op.Took)
	if op.First > 0 {
		g.First.Add(op.First)
	}
}

// spread adds the operation to the seconds that it took.
func (r *Recorder) spread(op *Op) {
	last := int(op.end() / time.Second)
	if op.Fault != nil {
		r.totals.second(last).Errors++
		return
	}
	for at := int((op.Due + op.Wait) / time.Second); at <= min(last, mostSeconds-1); at++ {
		share := op.within(time.Duration(at)*time.Second, time.Duration(at+1)*time.Second)
		s := r.totals.second(at)
		s.Ops += share
		s.Bytes += share * float64(op.moved())
	}
}

func (r *Recorder) group(op *Op) *Group {
	key := groupKey{kind: op.Kind, class: ClassOf(op.Bytes), host: op.Host}
	g := r.groups[key]
	if g == nil {
		g = r.totals.group(key.kind, key.class, key.host)
		if g.Host == key.host { // else hosts without end would fill the map
			r.groups[key] = g
		}
	}
	return g
}

// Stop says that no operation begins any more. Those that have begun are still to be added.
func (r *Recorder) Stop(at time.Duration, notBegun int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.totals.To, r.totals.NotBegun = at, notBegun
	if r.file != nil && r.err == nil {
		r.err = r.file.stop(at, notBegun)
	}
}

// Ended is how many operations have been added.
func (r *Recorder) Ended() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended
}

// Seconds are the seconds of the run from one on, up to another.
func (r *Recorder) Seconds(from, to int) []Second {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.totals.Seconds)
	from, to = min(max(from, 0), n), min(to, n)
	return append([]Second(nil), r.totals.Seconds[from:max(from, to)]...)
}

// Totals returns the sums. Nothing may be added after it. The error is that of the file, which lacks something then.
func (r *Recorder) Totals() (*Totals, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := &r.totals
	if t.To == math.MaxInt64 { // the run was never stopped
		t.To = time.Duration(len(t.Seconds)) * time.Second
	}
	t.sort()
	return t, r.err
}

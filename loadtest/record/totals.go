package record

import (
	"cmp"
	"slices"
	"time"

	"github.com/copyfleet/copyfleet/loadtest/workload"
)

// Bounds of [Totals], whatever is recorded.
const (
	mostGroups  = 512
	mostFaults  = 64
	mostSeconds = 24 * 60 * 60 // of a run of days those of the first one are kept
	mostMessage = 300          // bytes
	otherHost   = "other"
	otherCode   = "other"
)

// Totals are what the operations of a run were like together.
type Totals struct {
	From time.Duration `json:"from_ns"` // the interval, since the start of the run
	To   time.Duration `json:"to_ns"`

	Groups  []*Group `json:"groups"`  // by kind, class and host
	Seconds []Second `json:"seconds"` // since the start of the run; those of the warm-up, too
	Faults  []*Count `json:"faults"`  // the most frequent first; what is beyond their number has the code "other"

	Lag Histogram `json:"lag"` // of operations that were due in the interval: how late the generator itself was

	Outside  int `json:"outside"`   // operations that were due before the interval or after it
	NotBegun int `json:"not_begun"` // operations that were due in the interval, and whose turn had not come at its end
}

// Group are operations of one kind, size class and host.
type Group struct {
	Kind  workload.Kind `json:"kind"`
	Class Class         `json:"class"`
	Host  string        `json:"host"`

	Ops    int64 `json:"ops"`    // that were due in the interval and went well
	Errors int64 `json:"errors"` // and those that failed
	Bytes  int64 `json:"bytes"`  // that those moved which went well

	Done  float64 `json:"done"`  // operations in the interval, by their share of time in it
	Moved float64 `json:"moved"` // bytes, the same way

	Latency Histogram `json:"latency"`    // of those that went well
	First   Histogram `json:"first_byte"` // of those that read an object
}

// Second is what was done in one second, of operations that reach beyond it their share.
type Second struct {
	Ops    float64 `json:"ops"`
	Bytes  float64 `json:"bytes"`
	Errors int     `json:"errors,omitempty"` // of operations that ended in it
}

// Count is how often an error came.
type Count struct {
	Kind  workload.Kind `json:"kind"`
	Fault Fault         `json:"fault"` // with the message of the first
	Count int64         `json:"count"`
}

// Length is how long the interval is.
func (t *Totals) Length() time.Duration { return max(0, t.To-t.From) }

// Merge adds those of another generator that ran at the same time. The interval is the longer one of both; throughputs add up, each as it was in the
// interval of its own, so that a generator that stopped early does not make the others look faster.
func (t *Totals) Merge(other *Totals) {
	mine, its := t.Length(), other.Length()
	if its > mine {
		t.From, t.To = other.From, other.To
		for _, g := range t.Groups {
			g.Done, g.Moved = g.Done*over(its, mine), g.Moved*over(its, mine)
		}
	}
	t.add(other, over(t.Length(), its))
}

// Append adds those of an interval that follows.
func (t *Totals) Append(next *Totals) {
	t.To = max(t.To, next.To)
	t.add(next, 1)
}

// add adds what others have done, times a scale, and the rest as it is.
func (t *Totals) add(other *Totals, scale float64) {
	for _, g := range other.Groups {
		mine := t.group(g.Kind, g.Class, g.Host)
		mine.Ops, mine.Errors, mine.Bytes = mine.Ops+g.Ops, mine.Errors+g.Errors, mine.Bytes+g.Bytes
		mine.Done, mine.Moved = mine.Done+g.Done*scale, mine.Moved+g.Moved*scale
		mine.Latency.Merge(&g.Latency)
		mine.First.Merge(&g.First)
	}
	for at, s := range other.Seconds {
		mine := t.second(at)
		mine.Ops, mine.Bytes, mine.Errors = mine.Ops+s.Ops, mine.Bytes+s.Bytes, mine.Errors+s.Errors
	}
	for _, f := range other.Faults {
		t.fault(f.Kind, &f.Fault, f.Count)
	}
	t.Lag.Merge(&other.Lag)
	t.Outside, t.NotBegun = t.Outside+other.Outside, t.NotBegun+other.NotBegun
	t.sort()
}

// over is a/b, and 1 if b is nothing.
func over(a, b time.Duration) float64 {
	if b == 0 {
		return 1
	}
	return a.Seconds() / b.Seconds()
}

func (t *Totals) group(kind workload.Kind, class Class, host string) *Group {
	for _, g := range t.Groups {
		if g.Kind == kind && g.Class == class && g.Host == host {
			return g
		}
	}
	if len(t.Groups) >= mostGroups && host != otherHost {
		return t.group(kind, class, otherHost)
	}
	g := &Group{Kind: kind, Class: class, Host: host}
	t.Groups = append(t.Groups, g)
	return g
}

func (t *Totals) second(at int) *Second {
	if at >= mostSeconds {
		return &Second{} // which nobody keeps
	}
	for len(t.Seconds) <= at {
		t.Seconds = append(t.Seconds, Second{})
	}
	return &t.Seconds[at]
}

func (t *Totals) fault(kind workload.Kind, fault *Fault, n int64) {
	for _, c := range t.Faults {
		if c.Kind == kind && c.Fault.Class == fault.Class && c.Fault.Code == fault.Code {
			c.Count += n
			return
		}
	}
	f := *fault
	if len(t.Faults) >= mostFaults && f.Code != otherCode {
		t.fault(kind, &Fault{Class: f.Class, Code: otherCode, Message: "errors of more codes than are told apart; the first: " + f.Code + ": " + f.Message}, n)
		return
	}
	if len(t.Faults) >= 2*mostFaults && f.Class != otherCode { // a file can have any class
		t.fault(kind, &Fault{Class: otherCode, Code: otherCode, Message: f.Message}, n)
		return
	}
	f.Message = f.Message[:min(len(f.Message), mostMessage)]
	t.Faults = append(t.Faults, &Count{Kind: kind, Fault: f, Count: n})
}

func (t *Totals) sort() {
	slices.SortFunc(t.Groups, func(a, b *Group) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Class, b.Class), cmp.Compare(a.Host, b.Host))
	})
	slices.SortStableFunc(t.Faults, func(a, b *Count) int { return cmp.Compare(b.Count, a.Count) })
}

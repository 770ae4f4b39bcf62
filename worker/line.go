package worker

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// line lets items that are short wait, claimed, right behind those that run: so that a slot that becomes free does not stand
// empty for a fetch and a claim, which cost as much time as a small file. No more run at once than there are slots. It is empty while
// items take long, and who has waited for longer than patience is handed back: no item waits here while another worker is idle.
//
// What it is worth, and what is not known about that: docs/adr/0008-line.md.
type line struct {
	all, bulk chan struct{} // a token for each that runs
	took      atomic.Int64  // of late, by an item in its slot: a moving mean, in nanoseconds
	ended     atomic.Int64  // when the last one left its slot, in Unix nanoseconds
}

const (
	shortItem    = 100 * time.Millisecond // up to which a mean counts as short; well below patience
	shortMemory  = 200 * time.Millisecond // how long it counts without another item's end; longer than a short item
	linePatience = 250 * time.Millisecond
	backPatience = 5 * time.Second // of those whose slot another one took while they waited for their host
	meanShare    = 8               // what an item adds to the mean: one in so many
)

// errLate is why an item is handed back: no slot became free in time.
var errLate = errors.New("no slot became free in time")

func newLine(all, bulk int) *line {
	return &line{all: make(chan struct{}, all), bulk: make(chan struct{}, bulk)}
}

// short reports whether items are short now.
func (l *line) short(now time.Time) bool {
	ended := l.ended.Load()
	return ended != 0 && now.UnixNano()-ended < int64(shortMemory) && l.took.Load() < int64(shortItem)
}

// enter waits for a place to run, which leave gives back.
func (l *line) enter(ctx context.Context, bulk bool) error {
	return l.enterWithin(ctx, bulk, linePatience)
}

// enterWithin is enter with a patience of its own.
func (l *line) enterWithin(ctx context.Context, bulk bool, most time.Duration) error {
	if bulk {
		if err := enter(ctx, l.bulk, most); err != nil {
			return err
		}
	}
	err := enter(ctx, l.all, most)
	if err != nil && bulk {
		<-l.bulk
	}
	return err
}

func enter(ctx context.Context, places chan struct{}, most time.Duration) error {
	select {
	case places <- struct{}{}:
		return nil
	default:
	}
	patience := time.NewTimer(most)
	defer patience.Stop()
	select {
	case places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx) //nolint:wrapcheck // says whose wish it was
	case <-patience.C:
		return errLate
	}
}

// leave gives the place back. begun is when it was entered.
func (l *line) leave(bulk bool, begun time.Time) {
	now := time.Now()
	mean := l.took.Load()
	l.took.Store(mean + (int64(now.Sub(begun))-mean)/meanShare) // a lost update moves a mean by little
	l.ended.Store(now.UnixNano())
	<-l.all
	if bulk {
		<-l.bulk
	}
}

// running is how many run.
func (l *line) running() int { return len(l.all) }

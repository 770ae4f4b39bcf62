package loadtest

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/conc/pool"

	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/workload"
)

// Target is what is loaded. Many goroutines use it.
type Target interface {
	// Do makes one operation.
	Do(ctx context.Context, op *workload.Op) Result
}

// Result is how an operation went.
type Result struct {
	Host  string        // that served it
	First time.Duration // from its begin until the first byte of an object came; 0: it reads none
	Fault *record.Fault // nil: it went well
	Down  bool          // it failed because nothing answers
	After time.Duration // since the operation had ended: what Do did then, such as looking at it, is no part of it
	// Rest is how long the target asks its caller to wait before the next operation. In a closed loop the place does; arrivals of an open loop wait for
	// nobody.
	Rest time.Duration
}

// Plan is how a load is made.
type Plan struct {
	Load        *workload.Load
	Concurrency int           // operations at once; at least 1
	WarmUp      time.Duration // at the beginning, which does not count
	Duration    time.Duration // until no more operations begin, with the warm-up; 0: until the load has no more
	AutoTerm    AutoTerm
	Grace       time.Duration // how long operations may go on after that; what has not ended then has failed. 0: [DefaultGrace]
	// Down is the time without a single success after which the run ends, and at least three times that of the longest operation; 0: [DefaultDown].
	Down time.Duration
	// Progress is called about once a second; nil: never.
	Progress func(Progress)
}

// Defaults of a [Plan].
const (
	DefaultGrace = 30 * time.Second
	DefaultDown  = 30 * time.Second

	hurry    = 2 * time.Second        // the grace of a run that was interrupted
	downRest = 100 * time.Millisecond // between two operations to which nothing answers
	mostRest = 30 * time.Second       // that a target may ask for
)

// Progress is how far a run has come.
type Progress struct {
	Elapsed time.Duration
	Ended   int64         // operations
	Second  record.Second // the last whole one
}

// Reasons why a run did not do all that it was to do.
const (
	Interrupted = "it was interrupted"
	NoSuccess   = "no operation went well any more"
	NoAnswer    = "nothing answered any more at its end"
)

// Why no more operations begin.
var (
	errTime  = errors.New("the time is up")
	errSpent = errors.New("there are no more operations")
	errAgree = errors.New("the last windows agree")
	errDown  = errors.New(NoSuccess)
)

// Run makes a load until its end, or until ctx ends. Operations that run then have a grace to end; what they did is recorded, too. partial says why the
// run did not do all that it was to do; "" if it did.
func Run(ctx context.Context, plan *Plan, target Target, recorder *record.Recorder) (partial string) {
	r := &run{plan: *plan, target: target, recorder: recorder, start: time.Now(), spent: make(chan struct{})}
	r.plan.Grace = cmp.Or(plan.Grace, DefaultGrace)
	r.health = health{down: cmp.Or(plan.Down, DefaultDown), waiting: -1}
	// What is under way when the run is interrupted has a moment to end, so its context is not that of the run.
	calls, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	begin, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	workers := pool.New()
	workers.Go(func() { r.watch(begin, stop) })
	for range max(1, plan.Concurrency) {
		workers.Go(func() { r.place(begin, calls) })
	}
	r.stop(r.untilStop(begin, stop))
	switch cause := context.Cause(begin); {
	case errors.Is(cause, errDown):
		partial = NoSuccess
	case ctx.Err() != nil:
		partial = Interrupted
	}
	late := time.AfterFunc(r.plan.Grace, cut)
	defer late.Stop()
	defer context.AfterFunc(ctx, func() { late.Reset(min(hurry, r.plan.Grace)) })()
	workers.Wait()
	if partial == "" && r.silent.Load() {
		partial = NoAnswer
	}
	return partial
}

// run is a load that is being made.
type run struct {
	plan     Plan
	target   Target
	recorder *record.Recorder
	start    time.Time

	mu      sync.Mutex
	taken   int           // operations that were taken from the load, and have not begun
	noMore  time.Duration // when a place found that the load has none; 0: it has
	spent   chan struct{} // closed when both are so
	lastDue time.Duration // when the operation was due that began last
	health  health

	silent  atomic.Bool // nothing has answered since an operation went well last
	stopped sync.Once
}

func (r *run) now() time.Duration { return time.Since(r.start) }

// untilStop waits until no more operations begin, and returns when that was.
func (r *run) untilStop(begin context.Context, stop context.CancelCauseFunc) time.Duration {
	end := make(<-chan time.Time)
	if r.plan.Duration > 0 {
		timer := time.NewTimer(r.plan.Duration - r.now())
		defer timer.Stop()
		end = timer.C
	}
	select {
	case <-begin.Done():
	case <-end:
		stop(errTime)
	case <-r.spent:
		stop(errSpent)
	}
	return r.now()
}

// stop says when no more operations began. It is known but once.
func (r *run) stop(at time.Duration) {
	r.stopped.Do(func() { r.recorder.Stop(at, r.plan.Load.DueBefore(at)) })
}

// until waits until a time of the run; false: begin ended before.
func (r *run) until(begin context.Context, at time.Duration) bool {
	wait := at - r.now()
	if wait <= 0 {
		return begin.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-begin.Done():
		return false
	}
}

// take takes an operation from the load.
func (r *run) take() (workload.Op, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	op, ok := r.plan.Load.Next()
	if ok {
		r.taken++
		return op, true
	}
	if r.noMore == 0 {
		r.noMore = max(r.now(), 1)
		r.settle()
	}
	return op, false
}

// began says that an operation that was taken has begun, or will never.
func (r *run) began(due time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken--
	r.lastDue = max(r.lastDue, due)
	r.settle()
}

// settle ends a load that has no more operations. Its stop is when a place was left without one, so that the time of those before counts in full; and the
// last one is within, of which a place may have been waiting for its turn. It is told here, before any more of them end.
func (r *run) settle() {
	if r.noMore > 0 && r.taken == 0 {
		r.stop(max(r.noMore, r.lastDue+1))
		close(r.spent)
	}
}

// place makes one operation after another.
func (r *run) place(begin, calls context.Context) {
	for begin.Err() == nil {
		op, ok := r.take()
		if !ok {
			return
		}
		took := record.Op{Kind: op.Kind, Due: op.Due, Bytes: op.Object.Size}
		if !r.wait(begin, &took) {
			r.plan.Load.End(&op, false)
			r.began(0)
			return
		}
		result := r.do(calls, &op, &took)
		if rest := r.rest(&result); rest > 0 && !r.until(begin, r.now()+rest) {
			return
		}
	}
}

// rest is how long a place rests after an operation.
func (r *run) rest(result *Result) time.Duration {
	rest := time.Duration(0)
	if result.Down {
		rest = downRest
	}
	if r.plan.Load.Open() {
		return rest
	}
	return max(rest, min(result.Rest, mostRest))
}

// wait waits until an operation is due. That this place itself wakes late is not the store's fault, and no part of its latency.
func (r *run) wait(begin context.Context, took *record.Op) bool {
	if took.Due <= r.now() {
		return true
	}
	if !r.until(begin, took.Due) {
		return false
	}
	took.Lag = r.now() - took.Due
	took.Due += took.Lag
	return true
}

// do makes an operation and records it.
func (r *run) do(calls context.Context, op *workload.Op, took *record.Op) Result {
	begun := r.now()
	if r.plan.Load.Open() {
		took.Wait = max(0, begun-took.Due)
	} else {
		took.Due = begun
	}
	r.mu.Lock()
	r.health.began(begun)
	r.mu.Unlock()
	r.began(took.Due)
	result := r.target.Do(calls, op)
	ended := max(begun, r.now()-max(result.After, 0))
	took.Took, took.Host, took.Fault = ended-took.Due, result.Host, result.Fault
	if result.First > 0 {
		took.First = took.Wait + result.First
	}
	r.mu.Lock()
	r.health.ended(ended, ended-begun, result.Fault == nil)
	r.mu.Unlock()
	if calls.Err() == nil && (result.Fault == nil || result.Down) { // what was cut off says nothing of the store
		r.silent.Store(result.Down)
	}
	r.plan.Load.End(op, result.Fault == nil)
	r.recorder.Add(took)
	return result
}

// watch looks each second how the run is going, and ends it where that is due.
func (r *run) watch(begin context.Context, stop context.CancelCauseFunc) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-begin.Done():
			return
		case <-tick.C:
		}
		now := r.now()
		r.mu.Lock()
		down := r.health.isDown(now)
		r.mu.Unlock()
		if down {
			stop(errDown)
		}
		if r.plan.AutoTerm.agree(r.recorder, r.plan.WarmUp, now) {
			stop(errAgree)
		}
		if r.plan.Progress != nil {
			p := Progress{Elapsed: now, Ended: r.recorder.Ended()}
			if last := r.recorder.Seconds(int(now/time.Second)-1, int(now/time.Second)); len(last) > 0 {
				p.Second = last[0]
			}
			r.plan.Progress(p)
		}
	}
}

// Prepare writes the objects that a load needs, some at once. The first one that cannot be written ends it.
func Prepare(ctx context.Context, load *workload.Load, concurrency int, target Target) error {
	writers := pool.New().WithContext(ctx).WithCancelOnError().WithFirstError()
	for range max(1, concurrency) {
		writers.Go(func(ctx context.Context) error {
			for ctx.Err() == nil {
				op, ok := load.Prepare()
				if !ok {
					return nil
				}
				result := target.Do(ctx, &op)
				load.End(&op, result.Fault == nil)
				if result.Fault != nil && ctx.Err() == nil {
					return &PrepareError{Fault: *result.Fault}
				}
			}
			return context.Cause(ctx)
		})
	}
	return writers.Wait()
}

// PrepareError says why an object that a load needs could not be written.
type PrepareError struct{ Fault record.Fault }

// Error implements error.
func (e *PrepareError) Error() string { return "prepare the objects: " + e.Fault.Message }

package worker

import (
	"context"
	"sync"
	"time"

	"github.com/sourcegraph/conc"
	"github.com/sourcegraph/conc/pool"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

// starter claims what was admitted and starts it. While one claim is being stored the next items are fetched, and all that came
// meanwhile are claimed with one write.
type starter struct {
	mu      sync.Mutex
	waiting []*job
	closed  bool
	wake    chan struct{} // holds a token when something waits, or the starter is closed
}

func newStarter() *starter { return &starter{wake: make(chan struct{}, 1)} }

func (s *starter) add(jobs []*job) {
	if len(jobs) == 0 {
		return
	}
	s.mu.Lock()
	s.waiting = append(s.waiting, jobs...)
	s.mu.Unlock()
	s.poke()
}

// close says that nothing more will come.
func (s *starter) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.poke()
}

func (s *starter) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take returns all that waits, and waits for it if there is nothing. Nil: it is closed.
func (s *starter) take() []*job {
	for {
		s.mu.Lock()
		jobs, closed := s.waiting, s.closed
		s.waiting = nil
		s.mu.Unlock()
		if len(jobs) > 0 || closed {
			return jobs
		}
		<-s.wake
	}
}

// startAll starts what was admitted until the starter is closed. Once the intake's context has ended it hands back instead.
func (w *Worker) startAll(ctx, work context.Context, running *pool.Pool) {
	var confirming conc.WaitGroup
	defer confirming.Wait()
	for jobs := w.starter.take(); jobs != nil; jobs = w.starter.take() {
		if ctx.Err() != nil {
			w.returnUnstarted(jobs, 0)
			continue
		}
		w.start(work, running, &confirming, jobs)
	}
}

// start claims jobs, durably and at once for all, and starts each in its slot: those of the interactive lane that were never begun before while
// their claim is being stored, the others after it.
func (w *Worker) start(work context.Context, running *pool.Pool, confirming *conc.WaitGroup, jobs []*job) {
	shared := newClearance()
	for _, j := range jobs {
		j.begin(work, shared)
	}
	early, rest := split(jobs)
	run := func(jobs []*job) {
		for _, j := range jobs {
			running.Go(func() { w.run(work, j) })
		}
	}
	claiming := time.Now()
	unstarted := jobs
	err := w.claims.add(work, jobs, func() {
		unstarted = rest
		run(early)
	})
	if err != nil {
		shared.stored(err)
		w.cfg.Logger.Warn("cannot claim work; giving it back", "items", len(jobs), "error", err)
		w.returnUnstarted(unstarted, fetchRetry)
		w.claims.rewrite() // the claim may be stored though no answer came: who gets the items next would charge them with a crash
		w.pause(work, fetchRetry)
		return
	}
	failpoint.Hit(failpoint.ClaimStored)
	shared.stored(nil)
	w.claimed(work, claiming, jobs)
	confirming.Go(func() { w.controls.confirm(work, shared, jobs) })
	run(rest)
}

// split tells the items that may begin while their claim is being stored from those that may not. A crash in that moment is not charged. So
// what may have been delivered before waits for its claim: an item that kills its workers is spared one crash, not all of them.
func split(jobs []*job) (early, rest []*job) {
	for _, j := range jobs {
		if !j.bulk() && j.work.Kind == protocol.KindCopy && !j.repeated() {
			early = append(early, j)
		} else {
			rest = append(rest, j)
		}
	}
	return early, rest
}

func (j *job) begin(work context.Context, shared *clearance) {
	j.clearance = shared
	j.ctx, j.cancel = context.WithCancelCause(work)
}

// returnUnstarted hands back what was not begun.
func (w *Worker) returnUnstarted(jobs []*job, delay time.Duration) {
	for _, j := range jobs {
		if j.cancel != nil {
			j.cancel(nil)
		}
		w.claims.drop(j.held)
		w.giveBack(j, delay)
		w.leaveSlot(j)
	}
}

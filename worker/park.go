package worker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/internal/hosts"
	"github.com/copyfleet/copyfleet/protocol"
)

// parker puts items away that wait for a host: those of one batch that wait for the same host become one message, which comes back when
// they are likely to be served. Why not a message each, and why not left where they were: docs/adr/0010-hosts.md.
type parker struct {
	wake  chan struct{} // holds a token when something was gathered
	ended chan struct{} // closed when nothing more will come
	room  chan struct{} // holds a token for each that is not put away yet

	mu       sync.Mutex
	gathered []parked
	open     sync.WaitGroup // of those in room
}

// parked is an item that is to wait. It is held until it is stored that it does.
type parked struct {
	job   *job
	later *hosts.LaterError
}

const (
	parkLinger = 25 * time.Millisecond // for more to gather
	parkRoom   = 4096
	parkMost   = 256 // items in a message
	parkBytes  = 256 << 10
	// replanFrom is the wait from which on a message is stored once more in place of being handed back: what is planned can be
	// found, and taken back, by its batch.
	replanFrom = 5 * time.Second
)

func newParker() *parker {
	return &parker{wake: make(chan struct{}, 1), ended: make(chan struct{}), room: make(chan struct{}, parkRoom)}
}

// add takes an item over. False: its work ended while there was no room for it.
func (p *parker) add(one parked) bool {
	select {
	case p.room <- struct{}{}:
	case <-one.job.ctx.Done():
		return false
	}
	p.open.Add(1)
	p.mu.Lock()
	p.gathered = append(p.gathered, one)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return true
}

func (p *parker) take() []parked {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.gathered
	p.gathered = nil
	return list
}

// waitGroup is what items have in common that wait together.
type waitGroup struct {
	name    batchName
	key     hosts.Key
	resting bool
}

// parkAll puts away what gathers until the parker has ended.
func (w *Worker) parkAll(work context.Context) {
	for {
		select {
		case <-w.parker.wake:
		case <-w.parker.ended:
			return
		}
		w.pause(work, parkLinger)
		groups := map[waitGroup][]parked{}
		for _, one := range w.parker.take() {
			key := waitGroup{nameOf(&one.job.work), one.later.Key, one.later.Resting}
			groups[key] = append(groups[key], one)
		}
		for key, list := range groups {
			for len(list) > 0 {
				n := together(list)
				w.park(work, key, list[:n])
				list = list[n:]
			}
		}
	}
}

// together is how many of a list fit a message.
func together(list []parked) int {
	bytes := 0
	for i := range list {
		if bytes += len(list[i].job.work.Sealed); i > 0 && (i == parkMost || bytes > parkBytes) {
			return i
		}
	}
	return len(list)
}

// park stores that items wait, tells of it if their host rests, and answers their deliveries.
func (w *Worker) park(work context.Context, group waitGroup, list []parked) {
	defer func(n int) {
		for range n {
			<-w.parker.room
			w.parker.open.Done()
		}
	}(len(list))
	list = slices.DeleteFunc(list, func(one parked) bool { // what is planned of a batch that was recalled would come again
		ended := one.job.ctx.Err() != nil
		if ended {
			w.putDown(work, one.job, context.Cause(one.job.ctx))
		}
		return ended
	})
	if len(list) == 0 {
		return
	}
	jobs, works := make([]*job, len(list)), make([]protocol.Work, len(list))
	wait := list[0].later.Wait
	now := time.Now().UTC()
	for i, one := range list {
		if group.resting { // of a host that has no place the first is due first
			wait = max(wait, one.later.Wait)
		}
		jobs[i], works[i] = one.job, one.job.work
		works[i].Fence = one.job.held.Fence + 1
		if group.resting && works[i].Since.IsZero() {
			works[i].Since = now
		}
	}
	at := now.Add(wait)
	if err := w.plan(work, protocol.WaitWith(waitingHost(group), works), at); err != nil {
		w.abandon(work, err, jobs...)
		return
	}
	failpoint.Hit(failpoint.WaitPlanned)
	for _, j := range jobs {
		j.parked = true
	}
	if !group.resting {
		w.answer(jobs)
		return
	}
	for i, j := range jobs {
		failure := restFailure(list[i].later).Clipped()
		receipt := protocol.Receipt{
			Index: j.work.Index, ID: j.asked.ID, TraceID: traceID(j.work.Trace), State: protocol.ItemRetrying,
			Attempts: j.work.Attempts, Failure: &failure, RetryAt: at,
		}
		w.reporter.enter()
		w.report(work, j, &receipt)
	}
}

func waitingHost(group waitGroup) protocol.WaitingHost {
	if group.key.Side == hosts.Tenant {
		return protocol.WaitingHost{}
	}
	return protocol.WaitingHost{Name: group.key.Host, Dest: group.key.Side == hosts.Dest, Resting: group.resting}
}

func (w *Worker) plan(ctx context.Context, together protocol.Work, at time.Time) error {
	data, err := protocol.Encode(together)
	if err != nil {
		return fmt.Errorf("plan a wait: %w", err)
	}
	return w.conn.PlanWait(ctx, together.Org, together.Batch, together.Pool, together.Shard, at, data) //nolint:wrapcheck // says what it was
}

// unpark takes a message of items that waited: they come into the queue again, or wait on, all together, if their host still has no place. It
// is called by the intake.
func (w *Worker) unpark(ctx context.Context, j *job, paused map[batchName]bool) {
	wanted, err := w.wanted(ctx, nameOf(&j.work), paused)
	switch {
	case err != nil:
		w.giveBack(j, fetchRetry)
		return
	case wanted != protocol.WantRun || len(j.work.Waiting) == 0:
		w.ack(j)
		return
	}
	wait := time.Duration(0)
	if host := j.work.Host; host != nil && host.Name != "" {
		key := hosts.Key{Side: hosts.Source, Host: host.Name}
		if host.Dest {
			key.Side = hosts.Dest
		}
		wait = w.hosts.Coming(key, host.Resting, len(j.work.Waiting))
	}
	switch {
	case wait == 0:
		w.retrying.Go(func() { w.queueAgain(ctx, j) })
	case wait < replanFrom:
		w.giveBack(j, wait)
	default:
		w.retrying.Go(func() {
			if err := w.plan(ctx, j.work, time.Now().Add(wait)); err != nil {
				w.giveBack(j, fetchRetry)
				return
			}
			w.ack(j)
		})
	}
}

// wanted returns what is wanted of a batch. What the watch told of a pause may be old: an item that was fed after a resume must not be dropped, and
// one that was fed after a stop, for what dead owners left to be removed, must not either. confirmed are the batches whose pause was read already.
func (w *Worker) wanted(ctx context.Context, name batchName, confirmed map[batchName]bool) (protocol.Wanted, error) {
	wanted := w.controls.wanted(name)
	if wanted != protocol.WantPause || confirmed[name] {
		return wanted, nil
	}
	if err := w.controls.read(ctx, name); err != nil {
		return "", err
	}
	wanted = w.controls.wanted(name)
	confirmed[name] = wanted == protocol.WantPause
	return wanted, nil
}

// queueAgain puts items that waited into the queue.
func (w *Worker) queueAgain(ctx context.Context, j *job) {
	works := j.work.Apart()
	messages := make([][]byte, len(works))
	for i := range works {
		data, err := protocol.Encode(works[i])
		if err != nil {
			w.cfg.Logger.Error("an item that waited cannot be written", "batch", works[i].Batch, "index", works[i].Index, "error", err)
			w.giveBack(j, fetchRetry)
			return
		}
		messages[i] = data
	}
	subject := protocol.WorkSubject(j.work.Lane, j.work.Pool, j.work.Shard, j.work.Org, j.work.Batch)
	if err := w.conn.PublishParts(ctx, subject, messages); err != nil {
		w.cfg.Logger.Warn("items that waited are not in the queue yet", "batch", j.work.Batch, "items", len(messages), "error", err)
		w.giveBack(j, fetchRetry)
		return
	}
	failpoint.Hit(failpoint.QueuedAgain)
	w.ack(j)
	if err := w.conn.Wake(broker.Shard{Lane: j.work.Lane, Pool: j.work.Pool, Index: j.work.Shard}); err != nil {
		w.cfg.Logger.Debug("workers were not woken and will look by themselves", "error", err)
	}
}

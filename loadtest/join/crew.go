package join

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/sourcegraph/conc/pool"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/storage"
)

const (
	lead         = 500 * time.Millisecond // from the command until the start, beside the round trips
	mostLead     = 10 * time.Second
	stopPatience = time.Minute // for generators to stop, and for their results
	freePatience = time.Minute // for generators to be free again
)

var errSlow = errors.New("no result came in time")

// Crew is generators that work for one coordinator. Its methods are for one goroutine. After any error, Close it.
type Crew struct {
	conn    *broker.Conn
	cfg     Config
	id      string
	members []*member
	base    context.Context // of beats, and of what goes on after an interruption
	end     context.CancelFunc
}

// Names are the names of the generators.
func (c *Crew) Names() []string {
	names := make([]string, len(c.members))
	for i, m := range c.members {
		names[i] = m.hello.Name
	}
	return names
}

// Open gives all generators the job of a run, and returns when each has opened it. The job is sealed on its way, and stands in no log.
func (c *Crew) Open(ctx context.Context, run string, job []byte) error {
	packed, err := pack(job)
	if err != nil {
		return err
	}
	return c.all(ctx, func(ctx context.Context, i int, m *member) error {
		for at := 0; at < len(packed.packed); at += m.part {
			part := packed.packed[at:min(len(packed.packed), at+m.part)]
			if _, err := m.do(ctx, func() *ask { return &ask{Verb: put, Offset: at, Size: len(packed.packed), Data: part} }); err != nil {
				return err
			}
		}
		place := &loadtest.Place{Run: run, Generator: i, Generators: len(c.members)}
		if _, err := m.do(ctx, func() *ask { return &ask{Verb: open, Place: place, Digest: packed.digest} }); err != nil {
			return err
		}
		return m.await(ctx, opened)
	})
}

// Prepare has all generators prepare, and returns when each has.
func (c *Crew) Prepare(ctx context.Context) error {
	return c.all(ctx, func(ctx context.Context, _ int, m *member) error {
		if err := m.command(ctx, prepare); err != nil {
			return err
		}
		return m.await(ctx, prepared)
	})
}

// all does something with all generators at once. The first error ends it for all.
func (c *Crew) all(ctx context.Context, what func(ctx context.Context, i int, m *member) error) error {
	members := pool.New().WithContext(ctx).WithCancelOnError().WithFirstError()
	for i, m := range c.members {
		members.Go(func(ctx context.Context) error { return what(ctx, i, m) })
	}
	return members.Wait()
}

// outcome is what became of the load of one generator.
type outcome struct {
	run *record.Run
	err error
}

// Run starts all generators together, and returns what they measured, merged. progress is told each second how far all have come, on the caller's goroutine.
//
// When ctx ends, all are told to stop, and what they did until then is the result. A generator that is lost or fails does not end the run: the result is
// partial, and names it. The error is that of the first generator if none has a result.
func (c *Crew) Run(ctx context.Context, progress func(loadtest.Progress)) (*record.Run, error) {
	var stops pool.Pool
	defer stops.Wait()
	work, cut := context.WithCancelCause(c.base)
	defer cut(nil)
	at := time.Now().Add(c.lead())
	outcomes := make([]outcome, len(c.members))
	members := pool.New()
	for i, m := range c.members {
		members.Go(func() {
			run, err := m.load(work, at)
			if errors.Is(err, errSlow) {
				err = m.fail(storage.Timeout, "generator_slow", "Its log says what it does.", "no result came within %s of the interruption", stopPatience)
			}
			outcomes[i] = outcome{run, err}
		})
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		members.Wait()
	}()
	tick := time.NewTicker(c.cfg.every)
	defer tick.Stop()
	late := time.AfterFunc(math.MaxInt64, func() { cut(errSlow) }) // from the interruption on
	defer late.Stop()
	interrupted := ctx.Done()
	for {
		select {
		case <-over:
			return c.merge(outcomes)
		case <-tick.C:
			if progress != nil {
				progress(c.sum())
			}
		case <-interrupted:
			interrupted = nil
			for _, m := range c.members {
				stops.Go(func() { _ = m.command(work, stop) }) // who does not hear it is lost
			}
			late.Reset(stopPatience)
		}
	}
}

// lead is how long before the start the generators are told of it.
func (c *Crew) lead() time.Duration {
	longest := time.Duration(0)
	for _, m := range c.members {
		m.mu.Lock()
		longest = max(longest, m.trip)
		m.mu.Unlock()
	}
	return min(mostLead, lead+4*longest)
}

// load starts a generator at a time, and returns what it measured.
func (m *member) load(ctx context.Context, at time.Time) (*record.Run, error) {
	_, err := m.do(ctx, func() *ask {
		m.mu.Lock()
		defer m.mu.Unlock()
		return &ask{Verb: start, In: time.Until(at) - m.trip/2}
	})
	if err != nil {
		return nil, err
	}
	if err := m.await(ctx, ended); err != nil {
		return nil, err
	}
	m.mu.Lock()
	size, digest := m.last.Size, m.last.Digest
	m.mu.Unlock()
	if size < 1 || size > mostBlob {
		return nil, m.fail(storage.Unavailable, codeGone, "Its log says why.", "it has no result")
	}
	var packed []byte
	for len(packed) < size {
		reply, err := m.do(ctx, func() *ask { return &ask{Verb: fetch, Offset: len(packed), Size: m.part} })
		if err != nil {
			return nil, err
		}
		if len(reply.Data) == 0 || len(reply.Data) > size-len(packed) {
			return nil, m.fail(storage.Corrupt, "bench_result", "", "its result has another size than it says")
		}
		packed = append(packed, reply.Data...)
	}
	run, err := unpackRun(packed, digest)
	if err != nil {
		return nil, err
	}
	return run, m.command(ctx, leave) // it is needed no more
}

// sum is how far all have come together.
func (c *Crew) sum() loadtest.Progress {
	var all loadtest.Progress
	for _, m := range c.members {
		p, goes := m.progress()
		all.Elapsed = max(all.Elapsed, p.Elapsed)
		all.Ended += p.Ended
		if goes {
			all.Second.Ops += p.Second.Ops
			all.Second.Bytes += p.Second.Bytes
			all.Second.Errors += p.Second.Errors
		}
	}
	return all
}

// merge makes one run of what the generators measured.
func (c *Crew) merge(outcomes []outcome) (*record.Run, error) {
	var all *record.Run
	var partial []string
	var first error
	same := c.alike(outcomes)
	for i, o := range outcomes {
		name := c.members[i].hello.Name
		if o.run == nil {
			first = cmp.Or(first, o.err)
			partial = append(partial, reason(o.err))
			continue
		}
		if !same {
			for j, why := range o.run.Partial {
				o.run.Partial[j] = "generator " + name + ": " + why
			}
		}
		if all == nil {
			all = o.run
		} else {
			if same {
				o.run.Partial = nil
			}
			all.Merge(o.run)
		}
	}
	if all == nil {
		return nil, first
	}
	all.Partial = append(all.Partial, partial...)
	all.Spread = c.spread()
	c.cfg.Logger.Info("the load of all generators has ended", "generators", len(outcomes), "without_result", len(partial), "start_spread", all.Spread)
	return all, nil
}

// reason says in a report why a generator has no result.
func reason(err error) string {
	if own, ok := err.(*storage.Error); ok { //nolint:errorlint // those that a generator told are wrapped, and say what it did to what
		return own.Subject + ": " + own.Message
	}
	return err.Error()
}

// alike tells whether all generators ended the same way, which is then said once.
func (c *Crew) alike(outcomes []outcome) bool {
	for _, o := range outcomes {
		if o.run == nil || !slices.Equal(o.run.Partial, outcomes[0].run.Partial) {
			return false
		}
	}
	return true
}

// spread is how far apart the generators began, as exactly as round trips tell.
func (c *Crew) spread() time.Duration {
	var first, last time.Time
	for _, m := range c.members {
		m.mu.Lock()
		began := m.began
		m.mu.Unlock()
		if began.IsZero() {
			continue
		}
		if first.IsZero() || began.Before(first) {
			first = began
		}
		if began.After(last) {
			last = began
		}
	}
	return last.Sub(first)
}

// Close frees the generators, which end what they do, and waits until they have, a minute at most. Those that do not hear it are free [Silence] later.
func (c *Crew) Close() {
	ctx, cancel := context.WithTimeout(c.base, freePatience)
	defer cancel()
	_ = c.all(ctx, func(ctx context.Context, _ int, m *member) error {
		m.release(ctx)
		return nil
	})
	c.end()
	for _, m := range c.members {
		<-m.done
	}
}

package triggers

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/sourcegraph/conc/pool"

	"github.com/copyfleet/copyfleet/internal/failpoint"
)

// submitAtOnce are the batches of a record that are submitted at the same time. No two of them write to the same destination.
const submitAtOnce = 4

func comparePlaces(a, b parked) int {
	return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Event, b.Event), strings.Compare(a.Rule, b.Rule))
}

// submit has the batches of a record accepted. It tries until they are, or ctx ends: the events of the org wait meanwhile.
func (o *org) submit(ctx context.Context, rec *record) error {
	submitting := pool.New().WithContext(ctx).WithMaxGoroutines(submitAtOnce).WithCancelOnError().WithFirstError()
	for i := range rec.Batches {
		submitting.Go(func(ctx context.Context) error { return o.submitBatch(ctx, &rec.Batches[i]) })
	}
	return submitting.Wait() //nolint:wrapcheck // wrapped where it was
}

func (o *org) submitBatch(ctx context.Context, b *batched) error {
	items, err := o.sealer.OpenPage(o.id, b.ID, 0, b.Items)
	if err != nil {
		return fmt.Errorf("read the items of a batch of rule %s: %w", b.Rule, err)
	}
	batch := Batch{Org: o.id, ID: b.ID, Rule: b.Rule, Version: b.Version, Pool: b.Pool, Options: b.Options, Items: items}
	rest := backoffFirst
	for try := 0; ; try++ {
		err := o.queue.Submit(ctx, batch)
		if err == nil {
			failpoint.Hit(failpoint.TriggerSubmitted)
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		level := slog.LevelWarn
		if try > 0 {
			level = slog.LevelDebug
		}
		o.log.LogAttrs(ctx, level, "a batch of a rule is not accepted yet; events wait", slog.String("rule", b.Rule), slog.String("batch", string(b.ID)),
			slog.Any("error", err))
		pause(ctx, rest)
		rest = min(2*rest, backoffMost)
	}
}

// endSweeps tells who waits for sweeps that have ended. What they found is submitted. A sweep whose end cannot be told now is told of with the next
// round, or when the journal is read again.
func (o *org) endSweeps(ctx context.Context) {
	for rule, s := range o.m.sweeps {
		if !s.Ended {
			continue
		}
		if err := o.swept(ctx, rule, s.ID, s.Tally); err != nil {
			o.log.LogAttrs(ctx, slog.LevelWarn, "cannot say that a sweep has ended; trying again", slog.String("rule", rule), slog.Any("error", err))
			continue
		}
		delete(o.m.sweeps, rule)
	}
}

// keep does what is due now and then.
func (o *org) keep(ctx context.Context, idle bool) error {
	now := o.now()
	if !idle && now.Sub(o.kept) < keepEvery {
		return nil
	}
	o.kept = now
	o.endSweeps(ctx)
	o.showCounts(ctx)
	// A batch is removed some time after its end. It must not be submitted then because no record says that it was. An org is never idle while an event
	// is parked, which may be for long.
	quiet := idle || len(o.pending) == 0 && now.Sub(o.recordedAt) >= idleWait
	if quiet && (o.lastBatches > o.recordedThrough || o.recordHasEnded && len(o.m.sweeps) == 0) {
		if err := o.note(ctx, false); err != nil {
			return err
		}
	}
	if err := o.dropEvents(ctx); err != nil {
		return err
	}
	if now.Sub(o.trimmed) < min(trimEvery, o.memory) {
		return nil
	}
	o.trimmed = now
	return o.trimJournal(ctx)
}

// note appends a record without decisions.
func (o *org) note(ctx context.Context, whole bool) error {
	r := o.newRound(o.now())
	if err := o.seal(r); err != nil {
		return err
	}
	if whole {
		o.whole(&r.rec)
	}
	if err := o.record(ctx, &r.rec); err != nil {
		return fmt.Errorf("%w: %w", errJournal, err)
	}
	o.m.submitted = r.rec.N
	return nil
}

// showCounts saves what views tell.
func (o *org) showCounts(ctx context.Context) {
	for rule := range o.unshown {
		v := shown{Counts: *o.m.count(rule), Problems: o.m.problems[rule], Batch: string(o.m.batch[rule])}
		if err := o.show(ctx, rule, v); err != nil {
			o.log.LogAttrs(ctx, slog.LevelDebug, "cannot save the counts of a rule; trying again", slog.String("rule", rule), slog.Any("error", err))
			return
		}
		delete(o.unshown, rule)
	}
}

// dropEvents removes notifications all of whose events are decided on.
func (o *org) dropEvents(ctx context.Context) error {
	decided, _ := o.cursor()
	through, waiting := decided, o.parked()
	if len(waiting) > 0 {
		through = min(through, waiting[0].Seq-1)
	}
	if through > o.dropped {
		if err := o.streams.drop(ctx, through); err != nil {
			return fmt.Errorf("remove events that were dealt with: %w", err)
		}
		o.dropped = through
		failpoint.Hit(failpoint.TriggerDropped)
		at, _ := slices.BinarySearch(o.stored, through+1)
		o.stored = slices.Clone(o.stored[at:])
	}
	if len(o.stored) <= o.behind {
		return nil
	}
	return o.removeBehind(ctx, decided, waiting)
}

// removeBehind removes notifications that are dealt with and lie behind one that waits, so that one long copy does not fill the stream.
func (o *org) removeBehind(ctx context.Context, decided uint64, waiting []parked) error {
	var done []uint64
	left := make([]uint64, 0, len(o.stored))
	for _, seq := range o.stored {
		for len(waiting) > 0 && waiting[0].Seq < seq {
			waiting = waiting[1:]
		}
		if seq > decided || len(done) == removeMost || len(waiting) > 0 && waiting[0].Seq == seq {
			left = append(left, seq)
			continue
		}
		done = append(done, seq)
	}
	if len(done) == 0 {
		return nil
	}
	if err := o.streams.remove(ctx, done); err != nil {
		return fmt.Errorf("remove events behind one that waits: %w", err)
	}
	o.stored = left
	return nil
}

// trimJournal forgets what is older than the memory, and removes the records of it.
func (o *org) trimJournal(ctx context.Context) error {
	keep, old := o.m.expire(o.now().Add(-o.memory))
	if old == 0 {
		return nil
	}
	if err := o.note(ctx, true); err != nil {
		return err
	}
	failpoint.Hit(failpoint.TriggerSummed)
	if err := o.streams.trim(ctx, keep); err != nil {
		return fmt.Errorf("remove old records of the journal: %w", err)
	}
	o.m.marks = append([]mark(nil), o.m.marks[old:]...)
	return nil
}

// told records the metric of a decision.
func (o *org) told(ctx context.Context, u *unit, v verdict) {
	o.metrics.Decided(ctx, string(v), string(u.event.Source))
}

package triggers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/producer/rules"
)

// errJournal says that it is not known whether a record is in the journal.
var errJournal = errors.New("the journal may have gone on")

// step makes one round. err is a reason to try again later; what was decided before it came is done. fatal ends the org's goroutine.
func (o *org) step(ctx context.Context) (err, fatal error) {
	active, err := o.rules(ctx)
	if err != nil {
		return err, nil
	}
	r := o.newRound(o.now())
	o.looked = nil
	if now := o.now(); o.w.number > 0 && !now.Before(o.nextParked) {
		err = o.lookParked(ctx, r, active)
		o.nextParked = o.now().Add(parkedEvery)
	}
	for err == nil && len(o.pending) > 0 && !r.full() && o.w.number < mostParked {
		if err = o.decideArrived(ctx, r, &o.pending[0], active); err != nil {
			break
		}
		r.looked++
		o.metrics.EventDelay(ctx, o.now().Sub(time.Unix(0, o.pending[0].stored)))
		o.held -= o.pending[0].size
		o.pending[0] = arrived{}
		o.pending, o.after = o.pending[1:], ""
	}
	if len(o.pending) == 0 {
		o.pending = nil
		o.metrics.OldestEvent(string(o.id), time.Time{})
	}
	if errors.Is(err, errRoundOver) {
		err = nil
	}
	if r.decided() {
		fatal = o.commit(ctx, r)
	}
	return err, fatal
}

// decideArrived decides on an event for all rules. If it fails it may be called again: it goes on behind the rules that have decided.
func (o *org) decideArrived(ctx context.Context, r *round, a *arrived, active []activeRule) error {
	if a.end != nil {
		o.endMark(r, a.end)
		return nil
	}
	for i := range active {
		name := active[i].rule.Name
		place := parked{Seq: a.seq, Event: a.index, Rule: name}
		if name <= o.after || a.parked && !o.refs[place] {
			continue
		}
		u := newUnit(a.event, active[i], place, a.stored)
		u.size, u.again = a.size, o.refs[place]
		if _, done := o.m.seen[u.mark]; !(a.replay && done) {
			if err := o.decideUnit(ctx, r, u); err != nil {
				return err
			}
		}
		delete(o.refs, place)
		o.after = name
		if r.full() && i+1 < len(active) {
			return errRoundOver
		}
	}
	o.withoutRule(ctx, r, a, active)
	return nil
}

// errRoundOver ends a round within an event.
var errRoundOver = errors.New("the round is full")

// withoutRule settles what was parked for rules that are not there any more.
func (o *org) withoutRule(ctx context.Context, r *round, a *arrived, active []activeRule) {
	if len(o.refs) == 0 {
		return
	}
	for place := range o.refs {
		if place.Seq != a.seq || place.Event != a.index || hasRule(active, place.Rule) {
			continue
		}
		u := newUnit(a.event, activeRule{rule: &rules.Rule{Name: place.Rule}}, place, a.stored)
		u.again = true
		o.refuse(ctx, r, u, refusal, codeRuleDeleted, "The rule was deleted while the event waited for an earlier copy to the same destination.")
		delete(o.refs, place)
	}
}

func hasRule(active []activeRule, name string) bool {
	return slices.ContainsFunc(active, func(a activeRule) bool { return a.rule.Name == name })
}

// decideUnit decides on an event for a rule, if the rule is about it.
func (o *org) decideUnit(ctx context.Context, r *round, u *unit) error {
	var matches bool
	err := o.guard(ctx, u, func() (err error) {
		matches, err = u.rule.rule.Matches(ctx, u.event)
		return err
	})
	broken, _ := errors.AsType[*Refusal](err)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		if v := o.m.before(o.w, u); v == duplicate {
			o.settle(ctx, r, u, v)
			return nil
		}
		if broken == nil {
			broken = &Refusal{Code: codeExpression, Message: err.Error()}
		}
		o.refuse(ctx, r, u, refusal, broken.Code, broken.Message)
		return nil
	case matches:
		return o.decide(ctx, r, u)
	case u.again:
		o.refuse(ctx, r, u, refusal, codeRuleDeleted, "The rule was changed while the event waited, and is not about it any more.")
	}
	return nil
}

// guard has a rule deal with an event. A panic, as over an event that nobody thought of, is a [*Refusal]: the events behind it are not held up.
func (o *org) guard(ctx context.Context, u *unit, what func() error) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			// Not the reason: a secret may be in it.
			o.log.LogAttrs(ctx, slog.LevelError, "a fault of this program: a rule fails over an event", slog.String("rule", u.rule.rule.Name),
				slog.Uint64("sequence", u.place.Seq), slog.String("type", fmt.Sprintf("%T", reason)), slog.String("stack", string(debug.Stack())))
			err = &Refusal{Code: codeInternal, Message: "A fault of this program: it fails over this event. Its log says where."}
		}
	}()
	return what()
}

// lookParked decides on events whose destinations are free now.
func (o *org) lookParked(ctx context.Context, r *round, active []activeRule) error {
	look := slices.Clone(o.w.order[:min(parkedLook, len(o.w.order))])
	for _, dest := range look {
		ended, err := o.ended(ctx, r, dest)
		if err != nil {
			return err
		}
		if !ended || r.full() {
			continue
		}
		if err := o.decideFirst(ctx, r, dest, active); err != nil {
			return err
		}
	}
	if n := min(len(look), len(o.w.order)); n > 0 { // others come first the next time
		o.w.order = append(slices.Clone(o.w.order[n:]), o.w.order[:n]...)
	}
	return nil
}

// decideFirst decides on the event that waits in front of all others to a destination.
func (o *org) decideFirst(ctx context.Context, r *round, dest hash, active []activeRule) error {
	u := o.w.queues[dest][0]
	o.w.remove(u)
	at := slices.IndexFunc(active, func(a activeRule) bool { return a.rule.Name == u.rule.rule.Name })
	if at < 0 {
		o.refuse(ctx, r, u, refusal, codeRuleDeleted, "The rule was deleted while the event waited for an earlier copy to the same destination.")
		return nil
	}
	u.rule, u.front = active[at], dest
	err := o.decideUnit(ctx, r, u)
	if err != nil {
		u.dest = dest
		o.w.putBack(u)
	}
	return err
}

// endMark enters that a sweep lists nothing more. One that failed is forgotten: it is not done, though all that it found is decided on.
func (o *org) endMark(r *round, m *sweepMessage) {
	s := o.m.sweeps[m.Rule]
	if m.End.Failed {
		if s != nil && s.ID == m.Sweep {
			delete(o.m.sweeps, m.Rule)
			r.rule(m.Rule)
		}
		return
	}
	if s == nil || s.ID != m.Sweep {
		s = &sweepState{ID: m.Sweep}
		o.m.sweeps[m.Rule] = s
	}
	s.Ended = true
	r.rule(m.Rule)
}

// commit makes a round durable, then does what it says. The error ends the org's goroutine.
func (o *org) commit(ctx context.Context, r *round) error {
	if err := o.seal(r); err != nil {
		return err
	}
	if err := o.record(ctx, &r.rec); err != nil {
		return err
	}
	for name := range r.touched {
		o.unshown[name] = true
	}
	if len(r.made) > 0 {
		failpoint.Hit(failpoint.TriggerRecorded)
		if err := o.submit(ctx, &r.rec); err != nil {
			return err
		}
	}
	o.m.submitted = r.rec.N
	o.endSweeps(ctx)
	return nil
}

// record appends to the journal.
func (o *org) record(ctx context.Context, rec *record) error {
	text, err := rec.encode()
	if err != nil {
		return err
	}
	seq, err := o.streams.append(ctx, o.m.seq, text)
	if errors.Is(err, broker.ErrConflict) {
		return fmt.Errorf("%w: %w", errFenced, err)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errJournal, err)
	}
	o.m.recorded(seq, rec)
	o.recordedAt = o.now()
	o.recordedThrough = rec.Submitted
	if len(rec.Batches) > 0 {
		o.lastBatches = rec.N
	}
	o.recordHasEnded = false
	for _, s := range rec.Sweeps {
		o.recordHasEnded = o.recordHasEnded || s.Ended
	}
	return nil
}

// cursor is up to where all is decided on.
func (o *org) cursor() (uint64, *partial) {
	for i := range o.pending {
		a := &o.pending[i]
		switch {
		case a.parked:
			continue
		case a.index > 0 || i == 0 && o.after != "" || a.replay:
			return a.seq - 1, &partial{Seq: a.seq, Event: a.index}
		}
		return max(a.seq-1, o.m.through), nil
	}
	if o.last > o.m.through {
		return o.last, nil
	}
	return o.m.through, o.m.partial
}

// parked are the events that wait, in order.
func (o *org) parked() []parked {
	list := make([]parked, 0, o.w.number+len(o.refs))
	for _, queue := range o.w.queues {
		for _, u := range queue {
			list = append(list, u.place)
		}
	}
	for place := range o.refs {
		list = append(list, place)
	}
	slices.SortFunc(list, comparePlaces)
	return slices.Compact(list)
}

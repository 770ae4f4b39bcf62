package triggers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sourcegraph/conc/pool"

	"github.com/copyfleet/copyfleet/producer/events"
)

// How objects are looked at, which has to be done for the rules that they came through.
const (
	lookAtOnce    = 8                // objects, of the event that is decided on and of those behind it
	lookWithin    = 64               // events behind it
	lookTime      = 10 * time.Second // for one
	unreadableFor = time.Minute      // an object that cannot be looked at holds up the events behind it for so long
)

// looked is what was seen of the object of an event.
type looked struct {
	object Object
	err    error
}

// trail are the rules that the object of an event came through.
func (o *org) trail(ctx context.Context, u *unit) ([]string, error) {
	e := u.event
	if !u.hidden() {
		return trailOf(e.Metadata), nil
	}
	if !o.queue.Granted(o.id, e.Bucket, e.Key) {
		return nil, &Refusal{
			Code:    codeNotGranted,
			Message: "The org has no grant for this bucket and key. To tell whether this rule wrote the object, it would have to be looked at.",
		}
	}
	seen, ok := o.looked[e]
	if !ok {
		o.lookFrom(ctx, u)
		seen = o.looked[e]
	}
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(seen.err, ErrNoObject), errors.Is(seen.err, ErrNoBucket):
		return nil, nil // the copy will say so
	case seen.err == nil:
		o.unreadable = time.Time{}
		return trailOf(seen.object.Metadata), nil
	case errors.Is(seen.err, ErrDenied):
		return nil, unreadable()
	}
	if o.unreadable.IsZero() {
		o.unreadable = o.now()
	}
	if o.now().Sub(o.unreadable) > unreadableFor {
		return nil, unreadable()
	}
	return nil, fmt.Errorf("look at an object of bucket %s: %w", e.Bucket, seen.err)
}

func unreadable() *Refusal {
	return &Refusal{Code: codeUnreadable, Message: "The object could not be looked at, which has to be done to tell whether this rule wrote it."}
}

// hidden reports whether the object has to be looked at for the rules that it came through: its event does not tell them.
func (u *unit) hidden() bool {
	e := u.event
	return e.Metadata == nil && e.Bucket != "" && e.Created() && u.rule.rule.WritesObjects()
}

// lookFrom looks at the object of an event, and at those of the events behind it that the same rule will be asked about: one after the other they would
// hold up all others of the org. What is seen is as old as the round at most, and changes no order.
func (o *org) lookFrom(ctx context.Context, u *unit) {
	list := []*events.Event{u.event}
	for i := 0; i < min(len(o.pending), lookWithin) && len(list) < lookAtOnce; i++ {
		if e := o.pending[i].event; e != nil && e != u.event && o.wantsLook(ctx, &o.pending[i], u.rule) {
			list = append(list, e)
		}
	}
	seen := make([]looked, len(list))
	looking := pool.New()
	for i, e := range list {
		looking.Go(func() {
			within, cancel := context.WithTimeout(ctx, lookTime)
			defer cancel()
			seen[i].object, seen[i].err = o.stat(within, e.Bucket, e.Key, e.Version)
		})
	}
	looking.Wait()
	if o.looked == nil {
		o.looked = map[*events.Event]looked{}
	}
	for i, e := range list {
		o.looked[e] = seen[i]
	}
}

// wantsLook reports whether a rule will be asked about the object of an event that waits, as far as that is known before the others are decided on.
func (o *org) wantsLook(ctx context.Context, a *arrived, rule activeRule) bool {
	place := parked{Seq: a.seq, Event: a.index, Rule: rule.rule.Name}
	if _, done := o.looked[a.event]; done || a.parked && !o.refs[place] {
		return false
	}
	v := newUnit(a.event, rule, place, a.stored)
	if !v.hidden() || o.m.before(o.w, v) != undecided || !o.queue.Granted(o.id, a.event.Bucket, a.event.Key) {
		return false
	}
	matches, err := rule.rule.Matches(ctx, a.event)
	return matches && err == nil
}

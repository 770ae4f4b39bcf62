package triggers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/copyfleet/copyfleet/producer/events"
	"github.com/copyfleet/copyfleet/producer/rules"
	"github.com/copyfleet/copyfleet/protocol"
)

// Bounds of a round, so that its record fits a message of any server (1 MiB unless it is configured).
const (
	roundEvents  = 512
	roundBytes   = 512 << 10 // of items and refusals, before they are compressed
	largestItem  = 96 << 10
	mostRefusals = 500
	shortText    = 300 // bytes of what a refusal says
)

// round is a record in the making.
type round struct {
	rec     record
	rules   map[string]int
	batches map[batchKind]*building // that still take items, by what is the same in each
	made    []*building             // all, in their order
	bytes   int
	looked  int // events that were decided on
	touched map[string]bool
}

type batchKind struct {
	rule    string
	version int
	pool    string
}

// building is a batch in the making.
type building struct {
	batchKind

	number  int // among the batches of the record
	options rules.Options
	items   []protocol.ManifestItem
}

func (o *org) newRound(now time.Time) *round {
	return &round{
		rec: record{Journal: o.m.journal, N: o.m.n + 1, At: now.UTC()}, rules: map[string]int{}, batches: map[batchKind]*building{}, touched: map[string]bool{},
	}
}

func (r *round) full() bool {
	return r.looked >= roundEvents || r.bytes >= roundBytes || len(r.rec.Refused) >= mostRefusals
}

// decided reports whether the round has something to record.
func (r *round) decided() bool { return len(r.touched) > 0 }

func (r *round) rule(name string) int {
	at, ok := r.rules[name]
	if !ok {
		at = len(r.rec.Rules)
		r.rules[name] = at
		r.rec.Rules = append(r.rec.Rules, name)
	}
	r.touched[name] = true
	return at
}

// decide is the whole decision on an event for one rule. The error is that nobody could tell now: nothing was changed.
func (o *org) decide(ctx context.Context, r *round, u *unit) error {
	if v := o.m.before(o.w, u); v != undecided {
		o.settle(ctx, r, u, v)
		return nil
	}
	trail, err := o.trail(ctx, u)
	if refused, ok := errors.AsType[*Refusal](err); ok {
		o.refuse(ctx, r, u, refusal, refused.Code, refused.Message)
		return nil
	}
	if err != nil {
		return err
	}
	self := string(o.id) + "/" + u.rule.rule.Name
	if v, code, message := trailVerdict(trail, self); v != undecided {
		o.refuse(ctx, r, u, v, code, message)
		return nil
	}
	refused, err := o.render(ctx, u, append(slices.Clone(trail), self))
	switch {
	case err != nil:
		return err
	case refused != nil:
		o.refuse(ctx, r, u, refusal, refused.Code, refused.Message)
		return nil //nolint:nilerr // that is its outcome
	}
	ended, err := o.ended(ctx, r, u.dest)
	if err != nil {
		return err
	}
	v, older := o.m.after(o.w, u, ended)
	for _, p := range older {
		o.w.remove(p)
		o.settle(ctx, r, p, superseded)
	}
	o.settle(ctx, r, u, v)
	return nil
}

// render makes the item of an event. The refusal is nil if there is one.
func (o *org) render(ctx context.Context, u *unit, trail []string) (*Refusal, error) {
	var text []byte
	err := o.guard(ctx, u, func() (err error) {
		text, err = u.rule.rule.Render(u.event, o.secret)
		return err
	})
	if broken, ok := errors.AsType[*Refusal](err); ok {
		return broken, nil
	}
	if failed, ok := errors.AsType[*rules.RenderError](err); ok {
		return &Refusal{Code: failed.Code, Message: failed.Error()}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("render a copy of rule %s: %w", u.rule.rule.Name, err)
	}
	if len(text) > largestItem {
		return &Refusal{Code: codeTooLarge, Message: "The copy takes more room than there is for one."}, nil
	}
	checked, err := o.queue.Check(ctx, o.id, text)
	if refused, ok := errors.AsType[*Refusal](err); ok {
		return refused, nil
	}
	if err != nil {
		return nil, fmt.Errorf("check a copy of rule %s: %w", u.rule.rule.Name, err)
	}
	u.item, u.pool, u.dest = checked.Item, checked.Pool, hashOf(checked.Dest)
	u.item.Trail = trail
	return nil, nil //nolint:nilnil // no refusal
}

// ended reports whether the last copy to a destination has its outcome. One that was decided on in this round or has none before it is told apart by
// after.
func (o *org) ended(ctx context.Context, r *round, dest hash) (bool, error) {
	last, ok := o.m.newest[dest]
	switch {
	case !ok || last.ended:
		return true, nil
	case last.n == r.rec.N:
		return false, nil
	}
	ended, err := o.queue.Ended(ctx, o.id, batchID(o.id, o.m.journal, last.rule, last.n, int(last.batch)), int(last.index))
	if err != nil {
		return false, fmt.Errorf("look at an earlier copy of rule %s: %w", last.rule, err)
	}
	if ended {
		last.ended = true
		o.m.newest[dest] = last
	}
	return ended, nil
}

// settle enters what becomes of an event into the round and the memory. It counts everything but that a rule matched.
func (o *org) settle(ctx context.Context, r *round, u *unit, v verdict) {
	name := u.rule.rule.Name
	c := o.m.count(name)
	at := r.rule(name)
	o.tally(u, v)
	o.matched(u, v)
	switch v { //nolint:exhaustive // the others are not counted here
	case duplicate:
		c.Duplicates++
	case superseded:
		c.Superseded++
		r.rec.Superseded = append(r.rec.Superseded, u.mark)
		o.m.saw(entry{mark: u.mark, n: r.rec.N})
		r.bytes += 32
	case waits:
		c.Waiting++
		u.again = true
		o.w.add(u)
	case copies:
		c.Copies++
		if u.event.Source == events.Sweep {
			c.Recovered++
		}
		r.copy(o, at, u)
	}
	o.told(ctx, u, v)
}

// matched counts that a rule is about an event, once, and takes it off those that wait.
func (o *org) matched(u *unit, v verdict) {
	switch c := o.m.count(u.rule.rule.Name); {
	case u.again:
		c.Waiting--
	case v != knownSwept:
		c.Matched++
	}
}

// refuse enters that no copy is made.
func (o *org) refuse(ctx context.Context, r *round, u *unit, v verdict, code, message string) {
	name := u.rule.rule.Name
	o.tally(u, v)
	o.matched(u, v)
	if c := o.m.count(name); v == looped {
		c.Loops++
	} else {
		c.Refused++
	}
	f := refused{Rule: r.rule(name), Print: u.mark, At: r.rec.At, Event: short(describe(u.event)), Code: code, Message: short(message)}
	r.rec.Refused = append(r.rec.Refused, f)
	r.bytes += len(f.Event) + len(f.Message) + 100
	o.m.refused(&r.rec, &f)
	o.told(ctx, u, v)
}

// tally counts for the sweep that found an object.
func (o *org) tally(u *unit, v verdict) {
	if u.event.Source != events.Sweep || u.again {
		return
	}
	s := o.m.sweeps[u.rule.rule.Name]
	if s == nil || s.ID != u.event.Sweep {
		s = &sweepState{ID: u.event.Sweep}
		o.m.sweeps[u.rule.rule.Name] = s
	}
	s.Tally.Listed++
	switch v {
	case copies, waits:
		s.Tally.Recovered++
	case looped, refusal:
		s.Tally.Refused++
	default:
		s.Tally.Known++
	}
}

// copy adds an item to the batch of its rule.
func (r *round) copy(o *org, rule int, u *unit) {
	kind := batchKind{rule: u.rule.rule.Name, version: u.rule.version, pool: u.pool}
	b := r.batches[kind]
	if b == nil || len(b.items) == RollingItems {
		b = &building{batchKind: kind, number: len(r.made), options: u.rule.rule.Options}
		r.batches[kind] = b
		r.made = append(r.made, b)
	}
	c := copied{
		Rule: rule, Print: u.mark, Source: u.source, Dest: u.dest, Sequencer: u.event.Sequencer, ETag: u.etag, Time: u.time,
		Batch: b.number, Index: len(b.items),
	}
	if u.event.Source == events.Sweep {
		c.Swept = u.stored
	}
	b.items = append(b.items, u.item)
	r.rec.Copies = append(r.rec.Copies, c)
	r.bytes += u.weight() + 200
	o.m.copied(&r.rec, &c)
	o.m.batch[kind.rule] = batchID(o.id, o.m.journal, kind.rule, r.rec.N, b.number)
	u.item = protocol.ManifestItem{}
}

// weight is about what an item takes in a record.
func (u *unit) weight() int {
	text, err := json.Marshal(&u.item)
	if err != nil {
		return largestItem
	}
	return len(text)
}

// seal fills in the batches of a round and the counts of the rules that it is about.
func (o *org) seal(r *round) error {
	for _, b := range r.made {
		id := batchID(o.id, o.m.journal, b.rule, r.rec.N, b.number)
		items, err := o.sealer.SealPage(o.id, id, 0, b.items)
		if err != nil {
			return fmt.Errorf("seal the items of %s: %w", id, err)
		}
		r.rec.Batches = append(r.rec.Batches, batched{Rule: b.rule, Version: b.version, Pool: b.pool, Options: b.options, ID: id, Items: items})
	}
	r.rec.Counts = make(map[string]Counts, len(r.touched))
	for name := range r.touched {
		c := *o.m.count(name)
		c.Waiting = 0 // follows from what is parked
		r.rec.Counts[name] = c
	}
	r.rec.Sweeps = o.m.sweeps
	r.rec.Submitted = o.m.submitted
	r.rec.Through, r.rec.Partial = o.cursor()
	r.rec.Parked = o.parked()
	return nil
}

// whole makes a record one that may stand first in its journal.
func (o *org) whole(rec *record) {
	rec.Counts = make(map[string]Counts, len(o.m.counts))
	for name, c := range o.m.counts {
		rec.Counts[name] = withoutWaiting(*c)
	}
	rec.Newest = o.m.batch
	rec.Problems = make(map[string][]Trouble, len(o.m.problems))
	keep := min(mostProblems, max(1, roundBytes/(2*shortText+100)/max(1, len(o.m.problems))))
	for name, list := range o.m.problems {
		rec.Problems[name] = list[:min(len(list), keep)]
	}
}

func withoutWaiting(c Counts) Counts {
	c.Waiting = 0
	return c
}

// describe names an event for people.
func describe(e *events.Event) string {
	if e.Source == events.CloudEvents {
		return e.Origin + " " + e.ID
	}
	return e.Bucket + "/" + e.Key
}

// short cuts a text so that records stay small. Control characters would take six bytes each there.
func short(text string) string {
	if len(text) > shortText {
		text = text[:shortText-3] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

package worker

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/sourcegraph/conc/panics"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/decorate"
)

// Limits of plans, a worker. They take no slots: a plan moves no content.
const (
	planItems     = 64               // that are looked at side by side
	planQuestions = 64               // under way at once; what comes beyond is refused
	planEndLimit  = 15 * time.Second // for each end of an item: as long as a store may take for its answer
	planMost      = time.Minute      // for a question
	planMargin    = 500 * time.Millisecond
)

// planner answers what would become of items.
type planner struct {
	copier *copier
	sealer *protocol.Sealer

	items     chan struct{} // holds a token for each item that is being looked at
	questions chan struct{}

	mu     sync.Mutex
	closed bool // nothing is begun any more; guarded by mu
	under  sync.WaitGroup
}

// errPlanTime is why an item was not looked at.
var errPlanTime = errors.New("the time for the plan has passed")

// answerPlans answers questions of the worker's pool until stop, which waits for those that are under way.
func (w *Worker) answerPlans(ctx context.Context) (stop func(), err error) {
	p := newPlanner(w.copier, w.sealer)
	ctx, cancel := context.WithCancelCause(ctx)
	unsubscribe, err := w.conn.AnswerPlans(w.cfg.Pool, func(question []byte, reply func([]byte)) { p.take(ctx, question, reply) })
	if err != nil {
		cancel(nil)
		return nil, err
	}
	return sync.OnceFunc(func() {
		unsubscribe()
		cancel(errDraining)
		p.close()
	}), nil
}

func newPlanner(c *copier, sealer *protocol.Sealer) *planner {
	return &planner{copier: c, sealer: sealer, items: make(chan struct{}, planItems), questions: make(chan struct{}, planQuestions)}
}

// take answers a question on a goroutine of its own.
func (p *planner) take(ctx context.Context, question []byte, reply func([]byte)) {
	answer := func(a protocol.PlanAnswer) {
		a.Version = protocol.PlanVersion
		if data, err := protocol.Encode(a); err == nil {
			reply(data)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	select {
	case p.questions <- struct{}{}:
	default:
		answer(refusal(protocol.Throttled, "plan_busy", "The worker answers too many plans at once"))
		return
	}
	p.under.Go(func() {
		defer func() { <-p.questions }()
		var a protocol.PlanAnswer
		if thrown := panics.Try(func() { a = p.answer(ctx, question) }); thrown != nil {
			a = refusal(protocol.Internal, "panic", "The worker failed while it made the plan")
		}
		answer(a)
	})
}

// close waits for the answers that are under way.
func (p *planner) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.under.Wait()
}

func (p *planner) answer(ctx context.Context, question []byte) protocol.PlanAnswer {
	var q protocol.PlanQuestion
	if err := json.Unmarshal(question, &q); err != nil || q.Version > protocol.PlanVersion {
		return refusal(protocol.Invalid, "plan_unknown", "The worker does not understand the question; is it older than the API?")
	}
	items, err := p.sealer.OpenPage(q.Org, q.Batch, 0, q.Sealed)
	if err != nil {
		a := refusal(protocol.Invalid, "seal_unreadable", "This worker cannot read the locations of the items")
		a.Failure.Hint = "Give every role the same COPYFLEET_SEAL_KEY, or none."
		return a
	}
	ctx, cancel := context.WithTimeoutCause(ctx, max(min(q.Within, planMost)-planMargin, planMargin), errPlanTime)
	defer cancel()
	planned := make([]protocol.PlannedItem, len(items))
	var looking sync.WaitGroup
	for i := range items {
		select {
		case p.items <- struct{}{}:
		case <-ctx.Done():
			planned[i] = notLookedAt(context.Cause(ctx))
			continue
		}
		looking.Go(func() {
			defer func() { <-p.items }()
			thrown := panics.Try(func() { planned[i] = p.plan(ctx, q.Org, &items[i]) })
			if thrown != nil {
				planned[i] = notLookedAt(errors.New("the worker failed"))
			}
		})
	}
	looking.Wait()
	return protocol.PlanAnswer{Items: planned}
}

// refusal is an answer that says why nothing was looked at.
func refusal(class protocol.Class, code, message string) protocol.PlanAnswer {
	return protocol.PlanAnswer{Failure: &protocol.Failure{Class: class, Code: code, Message: message}}
}

func notLookedAt(why error) protocol.PlannedItem {
	return protocol.PlannedItem{Action: protocol.PlanUnknown, Problems: []protocol.PlanProblem{{
		Severity: protocol.PlanWarning,
		Failure:  protocol.Failure{Class: protocol.Timeout, Code: "plan_timeout", Message: "There was no time to look at this item", Cause: why.Error()},
	}}}
}

// plan looks at both ends of an item.
func (p *planner) plan(ctx context.Context, org protocol.OrgID, item *protocol.ManifestItem) protocol.PlannedItem {
	look := &itemLook{
		transfer: transfer{org: org, id: item.ID, src: item.Src, dest: item.Dest, expect: item.Expect, conflict: item.Conflict, temp: "plan"},
		planned:  protocol.PlannedItem{Problems: []protocol.PlanProblem{}}, size: storage.UnknownSize, now: time.Now(),
	}
	if item.Expect.Size != nil {
		look.size = *item.Expect.Size
	}
	for _, end := range []func(context.Context, *copier){look.source, look.dest} {
		ending, cancel := context.WithTimeout(ctx, planEndLimit)
		end(ending, p.copier)
		cancel()
	}
	if ctx.Err() != nil {
		return notLookedAt(context.Cause(ctx)) // what was seen may only be the end of the time
	}
	return look.end()
}

// stater is a source that tells of itself without being read.
type stater interface {
	Stat(ctx context.Context) (storage.Stat, error)
}

// looker is a destination that tells what a Put would meet, and writes nothing.
type looker interface {
	Look(ctx context.Context) (storage.Look, error)
}

// itemLook gathers what is found out about an item.
type itemLook struct {
	transfer transfer
	planned  protocol.PlannedItem
	size     int64 // of the content, in bytes, or storage.UnknownSize
	same     comparison
	now      time.Time
}

const (
	sideSrc  = "src"
	sideDest = "dest"
)

func (l *itemLook) source(ctx context.Context, c *copier) {
	l.planned.Src.ExpiresAt = l.expiry(sideSrc, l.transfer.src)
	s, ok := c.source(l.transfer).(stater)
	if !ok {
		l.note(sideSrc, "not_checked", "This source cannot be looked at without reading it")
		return
	}
	stat, err := s.Stat(ctx)
	src := &l.planned.Src
	if err != nil {
		src.Status = l.failed(sideSrc, blame(l.transfer, &sourceError{err})).Status
		return
	}
	src.Status, src.ContentType, src.ETag, src.Modified, src.Ranges = stat.Status, stat.ContentType, stat.ETag, stat.Modified, stat.Ranges
	src.StrongETag = stat.ETag != "" && !strings.HasPrefix(stat.ETag, "W/")
	if stat.Size == storage.UnknownSize {
		return
	}
	l.size, src.Size = stat.Size, &stat.Size
	if err := checkSize(l.transfer, stat.Size); err != nil {
		l.failed(sideSrc, blame(l.transfer, &sourceError{err}))
	}
}

func (l *itemLook) dest(ctx context.Context, c *copier) {
	dest := &l.planned.Dest
	dest.ExpiresAt = l.expiry(sideDest, l.transfer.dest)
	d := c.destination(l.transfer)
	if limited, ok := decorate.Inner(d).(interface{ LargestPut() int64 }); ok {
		most := limited.LargestPut()
		if dest.MaxBytes = &most; l.size > most {
			l.problem(protocol.PlanError, sideDest, protocol.Failure{
				Class: protocol.TooLarge, Code: "object_too_large", Message: "The content is larger than an object written at once may be",
			})
		}
	}
	looker, ok := d.(looker)
	if !ok {
		l.note(sideDest, "not_checked", "This destination cannot be looked at without writing to it")
		return
	}
	look, err := looker.Look(ctx)
	if err != nil {
		l.failed(sideDest, blame(l.transfer, err))
		return
	}
	dest.Checked, dest.Makes = look.Checked, look.Makes
	if look.Checked {
		dest.Exists = &look.Exists
	} else {
		l.note(sideDest, "not_checked", "The receiver was not asked: whether it takes the upload shows when it is made")
	}
	if look.Exists {
		dest.Size = &look.Size
		l.conflict(ctx, c)
	}
	if look.Free == storage.UnknownSize {
		return
	}
	dest.FreeBytes = &look.Free
	if l.size > look.Free {
		l.problem(protocol.PlanError, sideDest, protocol.Failure{
			Class: protocol.NoSpace, Code: "no_space", Message: "The content is larger than the space that is free", Host: hostOf(l.transfer.dest),
		})
	}
}

// conflict finds out what the policy of the item says of something that is there. Nothing is read for it.
func (l *itemLook) conflict(ctx context.Context, c *copier) {
	switch l.transfer.conflict {
	case protocol.FailIfThere:
		l.failed(sideDest, blame(l.transfer, existsError(l.transfer)))
	case protocol.IfDifferent:
		if l.planned.Src.Size != nil { // else the source could not be looked at, or does not tell
			l.same = c.compare(ctx, l.transfer, *l.planned.Dest.Size, lookOnly)
		}
	case protocol.SkipIfThere, protocol.Overwrite, protocol.MergeTree:
	}
}

// expiry notes when a presigned URL ends.
func (l *itemLook) expiry(side string, place protocol.Location) time.Time {
	at, ok := expiresAt(place.URL)
	if !ok {
		return time.Time{}
	}
	f := protocol.Failure{Class: protocol.Denied, Host: hostOf(place)}
	switch left := at.Sub(l.now); {
	case left <= 0:
		f.Code, f.Message, f.Hint = "url_expired", "The signed URL expired at "+at.Format(time.RFC3339), "Make a new one."
		l.problem(protocol.PlanError, side, f)
	case left < expiresSoon:
		f.Code, f.Message = "url_expires_soon", "The signed URL expires at "+at.Format(time.RFC3339)+", within the hour"
		f.Hint = "An item that waits longer in the queue fails; make URLs that live longer."
		l.problem(protocol.PlanWarning, side, f)
	}
	return at
}

func (l *itemLook) failed(side string, err error) *protocol.Failure {
	failure, _ := explain(err)
	l.problem(protocol.PlanError, side, *failure)
	return failure
}

func (l *itemLook) note(side, code, message string) {
	l.problem(protocol.PlanNote, side, protocol.Failure{Code: code, Message: message})
}

func (l *itemLook) problem(severity protocol.PlanSeverity, side string, f protocol.Failure) {
	l.planned.Problems = append(l.planned.Problems, protocol.PlanProblem{Severity: severity, Side: side, Failure: f})
}

// end derives what would become of the item.
func (l *itemLook) end() protocol.PlannedItem {
	l.planned.Action = protocol.PlanCopy
	if exists := l.planned.Dest.Exists; exists != nil && *exists {
		l.planned.Action = l.replaced()
	}
	for _, p := range l.planned.Problems {
		if p.Severity == protocol.PlanError {
			l.planned.Action = protocol.PlanFail
		}
	}
	return l.planned
}

// replaced is what would become of an item whose destination exists.
func (l *itemLook) replaced() protocol.PlanAction {
	switch policy := l.transfer.conflict; {
	case policy == protocol.SkipIfThere, policy == protocol.IfDifferent && l.same.same:
		return protocol.PlanSkip
	case policy == protocol.IfDifferent && !l.same.known:
		return protocol.PlanIfDifferent
	}
	return protocol.PlanOverwrite
}

package triggers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// listing publishes what a sweep finds. It holds one message at a time, however many objects there are.
type listing struct {
	s     *Service
	org   protocol.OrgID
	rule  activeRule
	begun sweepRecord // as it was; not changed

	mu       sync.Mutex // of what follows
	record   *sweepRecord
	revision uint64 // of the record

	message   sweepMessage
	bytes     int // of its objects, about
	listed    int
	published int // messages
}

const (
	sweepAhead = 200 // messages of an org that wait to be decided on, beyond which a sweep waits: they take disk space, and the stream is everybody's
	roomChecks = 10  // messages between two looks at that

	mostMessage = 300 // bytes of why a sweep failed
)

// Why a sweep is not this one's any more.
var (
	errSweepReplaced = errors.New("another sweep took its place")
	errSweepEnded    = errors.New("the sweep has ended")
)

// run lists and publishes everything, then the end, while it gives signs of life.
func (l *listing) run(ctx context.Context) error {
	l.clear()
	listing, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var beats sync.WaitGroup
	beats.Go(func() { l.beat(listing, cancel) })
	err := l.all(listing)
	if cause := context.Cause(listing); err != nil && cause != nil {
		err = cause
	}
	cancel(nil)
	beats.Wait()
	if err == nil {
		err = l.change(ctx, func(r *sweepRecord) { r.Listing = false })
	}
	switch {
	case errors.Is(err, errSweepEnded):
		return nil // all is decided on already
	case err != nil:
		l.giveUp(ctx)
	}
	return err
}

// beat gives a sign of life now and then. Who finds that the sweep was replaced lists no more.
func (l *listing) beat(ctx context.Context, stop context.CancelCauseFunc) {
	for pause(ctx, sweepBeat) {
		if err := l.change(ctx, func(r *sweepRecord) { r.Beat++ }); errors.Is(err, errSweepReplaced) || errors.Is(err, errSweepEnded) {
			stop(err)
			return
		}
	}
}

// change changes the record, which is nobody else's while this one lists.
func (l *listing) change(ctx context.Context, change func(*sweepRecord)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		record := *l.record
		change(&record)
		revision, err := l.s.bucket.Update(ctx, broker.Change{
			Key: protocol.SweepKey(l.org, record.Rule), Value: record.encoded(), Revision: l.revision,
		})
		if err == nil {
			*l.record, l.revision = record, revision
			return nil
		}
		if !errors.Is(err, broker.ErrConflict) {
			return fmt.Errorf("note how a sweep of %s goes on: %w", record.Rule, err)
		}
		// A write whose answer was lost may be this one's.
		now, revision, err := l.s.readSweep(ctx, l.org, record.Rule)
		switch {
		case err != nil:
			return err
		case now.ID != record.ID:
			return errSweepReplaced
		case !now.running():
			return errSweepEnded
		}
		l.revision = revision
	}
}

func (l *listing) all(ctx context.Context) error {
	match := l.rule.rule.Match
	var failed error
	err := l.s.store.List(ctx, match.Bucket, match.Prefix, func(o Object) bool {
		failed = l.take(ctx, &o)
		return failed == nil
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := l.publish(ctx); err != nil {
		return err
	}
	l.message.End = &sweepEnd{Listed: l.listed}
	return l.publish(ctx)
}

// take adds an object to those that are published, if the rule is about it. Of one that the rule fails at it is for others to tell.
func (l *listing) take(ctx context.Context, o *Object) error {
	if !l.begun.All && o.Modified.Before(l.begun.Since) {
		return nil
	}
	found := sweptObject{Key: o.Key, ETag: o.ETag, Version: o.Version, Size: o.Size, Modified: o.Modified}
	event := l.message.event(&found)
	matches, err := l.rule.rule.Matches(ctx, &event)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !matches && err == nil {
		return nil
	}
	l.message.Objects = append(l.message.Objects, found)
	l.listed++
	if l.bytes += len(found.Key) + len(found.ETag) + len(found.Version); len(l.message.Objects) == sweepChunk || l.bytes >= sweepBytes {
		return l.publish(ctx)
	}
	return nil
}

func (l *listing) clear() {
	l.message = sweepMessage{
		Sweep: l.begun.ID, Rule: l.begun.Rule, Bucket: l.rule.rule.Match.Bucket, Started: l.begun.Started, Objects: l.message.Objects[:0],
	}
	l.bytes = 0
}

// publish publishes the message that was begun, once there is room for it.
func (l *listing) publish(ctx context.Context) error {
	if len(l.message.Objects) == 0 && l.message.End == nil {
		return nil
	}
	body, err := json.Marshal(&l.message)
	if err != nil {
		return fmt.Errorf("publish what a sweep of %s found: %w", l.begun.Rule, err)
	}
	if l.published%roomChecks == 0 {
		if err := l.awaitRoom(ctx); err != nil {
			return err
		}
	}
	for {
		_, err := l.s.conn.PublishEvent(ctx, l.org, protocol.EventSweep, nil, body)
		if err == nil {
			l.published++
			l.clear()
			return nil
		}
		if !errors.Is(err, broker.ErrFull) && !errors.Is(err, broker.ErrUnavailable) {
			return err
		}
		if !pause(ctx, sweepPoll) {
			return context.Cause(ctx)
		}
	}
}

// awaitRoom returns when sweeps may publish.
func (l *listing) awaitRoom(ctx context.Context) error {
	for {
		waiting, err := l.s.conn.EventsWaiting(ctx, l.org, protocol.EventSweep)
		if err == nil && waiting < sweepAhead {
			return nil
		}
		if err != nil && !errors.Is(err, broker.ErrUnavailable) {
			return err
		}
		if !pause(ctx, sweepPoll) {
			return context.Cause(ctx)
		}
	}
}

// giveUp tells who decides that the end does not come.
func (l *listing) giveUp(ctx context.Context) {
	if l.published == 0 {
		return
	}
	l.message.Objects = nil
	l.clear()
	l.message.End = &sweepEnd{Listed: l.listed, Failed: true}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sweepKeep)
	defer cancel()
	if body, err := json.Marshal(&l.message); err == nil {
		_, _ = l.s.conn.PublishEvent(ctx, l.org, protocol.EventSweep, nil, body) // without it they forget the sweep when there is another one
	}
}

// sweepMessageOf says why a sweep failed.
func sweepMessageOf(err error) string {
	switch {
	case errors.Is(err, ErrNoBucket):
		return "The bucket does not exist."
	case errors.Is(err, errSweepReplaced), errors.Is(err, errSweepEnded):
		return "Another sweep took its place."
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "It was interrupted."
	}
	text := err.Error()
	return strings.ToValidUTF8(text[:min(len(text), mostMessage)], "")
}

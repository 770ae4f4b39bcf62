package producer

import (
	"context"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// waitingView says what an item waits for.
type waitingView struct {
	Reason waitingReason `json:"reason"`
	Until  *time.Time    `json:"until,omitempty"`
	// Behind is about how many of the org's own items come first: those before it in the batch, and those of older batches.
	Behind int `json:"behind,omitempty"`
}

type waitingReason string

// The reasons.
const (
	waitPaused   waitingReason = "paused"        // the batch is
	waitBackoff  waitingReason = "backoff"       // a failed attempt is tried again, at Until or about now
	waitHostRest waitingReason = "host_rest"     // the host has failed so often that it is left alone, until Until
	waitNoWorker waitingReason = "no_worker"     // no worker of the pool is alive
	waitBehind   waitingReason = "queued_behind" // own items come first
	waitShare    waitingReason = "tenant_share"  // it is the org's next, and others have their turn
)

// codeHostRest is the code of a failure that was decided without an attempt, because its host is given a rest.
const codeHostRest = "host_rest"

// justDue is for how long after its time a retry is not said to wait for others: a worker fetches it, and finds out whether its host
// rests, which is told up to two seconds later.
const justDue = 3 * time.Second

// maxOlder bounds the older batches of an org that are looked at to tell how much is ahead of an item.
const maxOlder = 50

// waitingRoom tells what the items of one batch wait for. What it takes to tell is read once, for the first item that needs it.
type waitingRoom struct {
	pipeline *Pipeline
	now      *snapshot
	counts   countsView
	asked    bool
	served   bool // a worker of the pool is alive
	older    int  // items of older batches that come first
}

// of returns what an item waits for; nil: it does not.
func (w *waitingRoom) of(ctx context.Context, r *protocol.Receipt) (*waitingView, error) {
	if r.State != protocol.ItemQueued && r.State != protocol.ItemRetrying {
		return nil, nil //nolint:nilnil // nothing to wait for is no error
	}
	switch w.now.state() {
	case protocol.BatchPaused:
		return &waitingView{Reason: waitPaused}, nil
	case protocol.BatchCanceling, protocol.BatchAccepting:
		return nil, nil //nolint:nilnil // as above: it is not going to run, or not queued yet
	default:
	}
	if v := retrying(r); v != nil {
		return v, nil
	}
	if err := w.ask(ctx); err != nil {
		return nil, err
	}
	if !w.served {
		return &waitingView{Reason: waitNoWorker}, nil
	}
	if r.State == protocol.ItemRetrying && time.Since(r.RetryAt) < justDue {
		return &waitingView{Reason: waitBackoff, Until: &r.RetryAt}, nil
	}
	behind := 0
	if r.State == protocol.ItemQueued { // a retry that is due does not stand in the batch's line
		behind = w.older + ownAhead(r.Index, w.now.record.Total, w.counts.Queued)
	}
	if behind > 0 {
		return &waitingView{Reason: waitBehind, Behind: behind}, nil
	}
	return &waitingView{Reason: waitShare}, nil
}

// retrying returns why an item waits that was tried, or whose host rests; nil: it is due. A rest that was prolonged is not told anew for each of the
// items that wait: then there is no time.
func retrying(r *protocol.Receipt) *waitingView {
	later := r.State == protocol.ItemRetrying && time.Until(r.RetryAt) > 0
	switch {
	case r.State != protocol.ItemRetrying:
		return nil
	case r.Failure != nil && r.Failure.Code == codeHostRest && later:
		return &waitingView{Reason: waitHostRest, Until: &r.RetryAt}
	case r.Failure != nil && r.Failure.Code == codeHostRest:
		return &waitingView{Reason: waitHostRest}
	case later:
		return &waitingView{Reason: waitBackoff, Until: &r.RetryAt}
	}
	return nil
}

// ownAhead is how many queued items of the same batch come before the one at index, of queued in all. They start in
// index order, so that about all from this one on are among the queued.
func ownAhead(index, total, queued int) int { return max(queued-(total-index), 0) }

func (w *waitingRoom) ask(ctx context.Context) error {
	if w.asked {
		return nil
	}
	record := &w.now.record
	var err error
	if w.served, err = w.pipeline.served(ctx, record.Pool); err != nil {
		return err
	}
	if w.older, err = w.pipeline.olderAhead(ctx, record); err != nil {
		return err
	}
	w.counts, w.asked = w.now.counts(), true
	return nil
}

// olderAhead counts the queued items of the org's older batches that stand in the same line. An org's batches are fed the
// oldest first.
func (p *Pipeline) olderAhead(ctx context.Context, record *protocol.Acceptance) (int, error) {
	ahead := 0
	at := placeOf(record)
	for _, b := range p.views.index.open(record.Org, at, maxOlder) {
		now, found, err := p.look(ctx, record.Org, b.id, nil)
		if err != nil {
			return 0, err
		}
		p.views.index.noted(record.Org, b.id, now, found)
		if !found || now.record.Lane != record.Lane || now.record.Pool != record.Pool {
			continue
		}
		if state := now.state(); state == protocol.BatchQueued || state == protocol.BatchRunning {
			ahead += now.counts().Queued
		}
	}
	return ahead, nil
}

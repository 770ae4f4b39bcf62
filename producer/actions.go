package producer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// actionView is what an action came to. The three numbers are derived from receipts; they add up to the total.
type actionView struct {
	Batch      batchView `json:"batch"`
	NotStarted int       `json:"not_started"`
	Midway     int       `json:"stopped_midway"`
	Ended      int       `json:"already_ended"`
}

var (
	errBatchEnded    = errors.New("the batch has ended")
	errBatchStopping = errors.New("the batch is being canceled")
	errBatchRemoved  = errors.New("the batch was removed")
	errControlBusy   = errors.New("others change what is wanted of the batch all the time")
)

const (
	// actTimeout bounds how long carrying an action out may take, whether its caller still listens or not.
	actTimeout = 30 * time.Second
	// controlTries is how often a control is read again that somebody changed meanwhile.
	controlTries = 20
)

// cancelBatch stops a batch for good. The answer waits for the end, at most for the patience of the front: then the state is
// canceling still and the numbers are those so far. A batch that is still being accepted is canceled as well: the
// wish is kept, and not one item starts.
func (s *Server) cancelBatch(w http.ResponseWriter, r *http.Request) {
	record, ok := s.batchOf(w, r)
	if !ok {
		return
	}
	waiter, err := s.pipeline.wait(record.Org, record.Batch) // before the wish is known to anybody
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	defer waiter.stop()
	err = s.want(r, &record, stop)
	if err != nil && !errors.Is(err, errBatchEnded) {
		s.refuseAction(w, r, err)
		return
	}
	if err == nil {
		waiting, cancel := context.WithTimeout(r.Context(), s.pipeline.views.patience)
		defer cancel()
		defer s.waits.join(cancel)()
		waiter.end(waiting)
	}
	s.acted(w, r, &record)
}

// pauseBatch lets nothing more of a batch start. What runs has a moment to end.
func (s *Server) pauseBatch(w http.ResponseWriter, r *http.Request) { s.steer(w, r, pause) }

// resumeBatch lets a paused batch go on.
func (s *Server) resumeBatch(w http.ResponseWriter, r *http.Request) { s.steer(w, r, resume) }

func (s *Server) steer(w http.ResponseWriter, r *http.Request, change decision) {
	record, ok := s.batchOf(w, r)
	if !ok {
		return
	}
	if err := s.want(r, &record, change); err != nil {
		s.refuseAction(w, r, err)
		return
	}
	s.acted(w, r, &record)
}

// decision says what is wanted of a batch after what was wanted before. It returns false where that is the same.
type decision func(before protocol.Control) (after protocol.Control, changed bool, err error)

// stop is final: it wins over all others, before and after it.
func stop(c protocol.Control) (protocol.Control, bool, error) {
	if c.Wanted == protocol.WantStop {
		return c, false, nil
	}
	c.Wanted, c.Reason = protocol.WantStop, protocol.ReasonCaller
	return c, true, nil
}

func pause(c protocol.Control) (protocol.Control, bool, error) {
	switch c.Wanted {
	case protocol.WantStop:
		return c, false, errBatchStopping
	case protocol.WantPause:
		return c, false, nil
	case protocol.WantRun:
	}
	c.Wanted, c.Reason = protocol.WantPause, protocol.ReasonCaller
	return c, true, nil
}

func resume(c protocol.Control) (protocol.Control, bool, error) {
	switch c.Wanted {
	case protocol.WantStop:
		return c, false, errBatchStopping
	case protocol.WantPause:
		c.CanaryDone = c.CanaryDone || c.Reason == protocol.ReasonCanary
		c.Wanted, c.Reason = protocol.WantRun, ""
		c.Resumes++
		return c, true, nil
	case protocol.WantRun:
	}
	return c, false, nil // it runs
}

// want carries a decision out, also if the caller hangs up meanwhile.
func (s *Server) want(r *http.Request, record *protocol.Acceptance, change decision) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), actTimeout)
	defer cancel()
	return s.pipeline.want(ctx, record.Org, record.Batch, change)
}

func (p *Pipeline) want(ctx context.Context, org protocol.OrgID, id protocol.BatchID, change decision) error {
	for range controlTries {
		now, found, err := p.look(ctx, org, id, nil)
		switch {
		case err != nil:
			return err
		case !found:
			return errBatchRemoved
		case now.ended():
			return errBatchEnded
		}
		after, changed, err := change(now.control)
		if err != nil || !changed {
			return err
		}
		if err := p.lookAfter(ctx, &now.record); err != nil {
			return err
		}
		err = p.setControl(ctx, now, after)
		if errors.Is(err, broker.ErrConflict) || errors.Is(err, broker.ErrExists) {
			continue
		}
		if err != nil {
			return err
		}
		return p.stillMatters(ctx, org, id)
	}
	return fmt.Errorf("act on batch %s: %w: %w", id, broker.ErrUnavailable, errControlBusy)
}

// setControl stores what is wanted, unless somebody else did meanwhile, and tells who listens.
func (p *Pipeline) setControl(ctx context.Context, now *snapshot, control protocol.Control) error {
	control.Version, control.Org, control.Batch = protocol.ControlVersion, now.record.Org, now.record.Batch
	control.At = time.Now().UTC()
	value, err := protocol.Encode(control)
	if err != nil {
		return fmt.Errorf("act on batch %s: %w", control.Batch, err)
	}
	key := protocol.ControlKey(control.Org, control.Batch)
	if now.controlled == 0 {
		_, err = p.controls.Create(ctx, key, value)
	} else {
		_, err = p.controls.Update(ctx, broker.Change{Key: key, Value: value, Revision: now.controlled})
	}
	if err != nil {
		return fmt.Errorf("act on batch %s: %w", control.Batch, err)
	}
	if err := p.conn.Changed(control.Org, control.Batch, false); err != nil {
		p.log.Debug("nobody was told of a control; those who wait look by themselves", "batch", control.Batch, logError, err)
	}
	return nil
}

// stillMatters returns an error if the batch ended while something was wanted of it: then that came too late.
func (p *Pipeline) stillMatters(ctx context.Context, org protocol.OrgID, id protocol.BatchID) error {
	summary, _, err := p.summary(ctx, org, id)
	if err == nil && summary.State.Final() {
		return errBatchEnded
	}
	return err
}

// lookAfter sees to it that the aggregator looks after a batch before anything is wanted of it. One that was published with its call
// has no feed record of its own: all of its items are in the queue. One whose manifest is still coming in gets its own.
func (p *Pipeline) lookAfter(ctx context.Context, record *protocol.Acceptance) error {
	if record.Fed() && record.State != protocol.AcceptComplete {
		return nil
	}
	value, err := protocol.Encode(protocol.Feed{
		Version: protocol.FeedVersion, Org: record.Org, Batch: record.Batch, Next: record.Total, At: time.Now().UTC(), Created: record.Created,
	})
	if err != nil {
		return fmt.Errorf("act on batch %s: %w", record.Batch, err)
	}
	_, err = p.feeds.Create(ctx, protocol.ControlKey(record.Org, record.Batch), value)
	if err != nil && !errors.Is(err, broker.ErrExists) {
		return fmt.Errorf("act on batch %s: %w", record.Batch, err)
	}
	return nil
}

// refuseAction answers for an action that was not carried out.
func (s *Server) refuseAction(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, errBatchEnded):
		writeProblem(w, r, newProblem(CodeBatchEnded, "The batch has ended; it can be neither paused nor resumed."))
	case errors.Is(err, errBatchStopping):
		writeProblem(w, r, newProblem(CodeBatchCanceling, "The batch is being canceled; that is final."))
	case errors.Is(err, errBatchRemoved):
		s.refuseMissing(w, r, nil)
	default:
		s.refuse(w, r, err)
	}
}

// acted answers with the batch as it is now.
func (s *Server) acted(w http.ResponseWriter, r *http.Request, record *protocol.Acceptance) {
	now, found, err := s.pipeline.look(r.Context(), record.Org, record.Batch, nil)
	if err != nil || !found {
		s.refuseMissing(w, r, err)
		return
	}
	answer := actionView{Batch: now.view(time.Now())}
	c := answer.Batch.Counts
	answer.Ended = c.Succeeded + c.Failed + c.Skipped
	if now.summary.State.Final() {
		// Canceled items may have come as far as an attempt, and others not.
		if answer.Midway, err = s.pipeline.stoppedMidway(r.Context(), now); err != nil {
			s.refuse(w, r, err)
			return
		}
		answer.NotStarted = c.Canceled - answer.Midway
	} else {
		answer.Ended += c.Canceled
		answer.Midway, answer.NotStarted = c.Running+c.Retrying, c.Queued
		if now.record.State == protocol.AcceptAbandoned {
			answer.NotStarted, answer.Ended = c.Canceled, 0
		}
	}
	writeJSON(w, http.StatusOK, answer)
}

// stoppedMidway counts the canceled items of a batch that has ended of which an attempt had begun, or may have.
func (p *Pipeline) stoppedMidway(ctx context.Context, now *snapshot) (int, error) {
	record, summary := &now.record, &now.summary
	count := len(summary.Unsure)
	add := func(receipts []protocol.Receipt) {
		for i := range receipts {
			if r := summary.Settle(receipts[i]); r.State == protocol.ItemCanceled && len(r.Attempts) > 0 && !summary.IsUnsure(r.Index) {
				count++
			}
		}
	}
	if summary.Tally.Canceled == 0 {
		return 0, nil
	}
	if protocol.Inline(record.Total) {
		add(summary.Receipts)
		return count, nil
	}
	var bad error
	err := p.batches.Scan(ctx, strings.TrimSuffix(protocol.PageKey(record.Org, record.Batch, 0), "0")+"*", func(entry broker.Scanned) bool {
		if !mentions(entry.Value, protocol.ItemCanceled) && !mentions(entry.Value, protocol.ItemRetrying) {
			return true
		}
		var page protocol.Page
		if bad = json.Unmarshal(entry.Value, &page); bad != nil {
			bad = fmt.Errorf("read %s: %w", entry.Key, bad)
			return false
		}
		add(page.Receipts)
		return true
	})
	if err != nil {
		return 0, fmt.Errorf("count what was stopped midway: %w", err)
	}
	return count, bad
}

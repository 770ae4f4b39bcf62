package uploads

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

func TestCompleteTwiceAtOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	fronts := []*Service{s.svc, s.open(Config{})}
	made := s.create(request("k", 1))
	s.put(made, 0, content(0, 1))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if got, err := fronts[i%2].Complete(t.Context(), name(made), "", ""); err != nil || got.Generation != 1 {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	all.Wait()
	if submitted := s.queue.submitted(); len(submitted) != 1 {
		t.Errorf("%d batches publish the session", len(submitted))
	}
}

// TestPublicationThatWasNotQueued is submitted by the same call repeated, or by the sweep, in time.
func TestPublicationThatWasNotQueued(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	for _, who := range []string{"the call", "the sweep"} {
		made := s.create(request(who, 0))
		s.queue.fail(broker.ErrUnavailable)
		if _, err := s.svc.Complete(t.Context(), name(made), "", ""); !errors.Is(err, broker.ErrUnavailable) {
			t.Fatalf("completion without a queue: %v", err)
		}
		if got := s.show(made); got.Status != StatusCompleting {
			t.Fatalf("%+v", got)
		}
		s.queue.fail(nil)
		before := len(s.queue.submitted())
		if who == "the call" {
			s.complete(made)
		} else {
			s.sweep()
			if len(s.queue.submitted()) != before {
				t.Error("the sweep did what a call may be about to do")
			}
			s.pass(submitAfter + time.Second)
			s.sweep()
		}
		if len(s.queue.submitted()) != before+1 {
			t.Errorf("%s did not submit the publication", who)
		}
	}
}

func TestAbortOfAPublication(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	for _, c := range []struct {
		end  protocol.ItemState
		code string
	}{{protocol.ItemCanceled, ""}, {protocol.ItemSucceeded, RefusedCompleted}} {
		made := s.create(request(string(c.end), 0))
		s.complete(made)
		s.queue.cancel = func(id protocol.BatchID) { s.queue.end(id, protocol.Receipt{State: c.end}) }
		got, err := s.svc.Abort(t.Context(), name(made))
		if c.code != "" {
			wantRefused(t, err, c.code)
		} else if err != nil || got.Status != StatusAborted {
			t.Errorf("%+v, %v", got, err)
		}
	}
	// One that does not end is refused when the caller has waited enough.
	made := s.create(request("slow", 0))
	s.complete(made)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.queue.cancel = func(protocol.BatchID) { time.AfterFunc(300*time.Millisecond, cancel) }
	wantRefused(t, second(s.svc.Abort(ctx, name(made))), RefusedCompleting)
	s.queue.cancel = nil
	// One whose batch was never accepted is aborted at once.
	lost := s.create(request("lost", 0))
	s.queue.fail(broker.ErrUnavailable)
	if _, err := s.svc.Complete(t.Context(), name(lost), "", ""); err == nil {
		t.Fatal("submitted")
	}
	if got, err := s.svc.Abort(t.Context(), name(lost)); err != nil || got.Status != StatusAborted {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestAbortThatMeetsASubmission aborts between the change to completing and the submission of the batch, by another front. What the worker then does,
// which reads the session before or after it is withdrawn, is what the session says.
func TestAbortThatMeetsASubmission(t *testing.T) {
	t.Parallel()
	for _, before := range []bool{true, false} {
		s := newStage(t, Config{})
		made := s.create(request("k", 0))
		s.queue.fail(broker.ErrUnavailable)
		if err := second(s.svc.Complete(t.Context(), name(made), "", "")); err == nil {
			t.Fatal("submitted")
		}
		s.queue.fail(nil)
		var read protocol.Upload
		work := func(id protocol.BatchID) {
			if err := s.queue.Submit(t.Context(), Publication{Batch: id}); err != nil {
				t.Error(err)
			}
			if _, err := s.load(t.Context(), protocol.UploadSessionKey(org, sandbox, made.ID), &read); err != nil {
				t.Error(err)
			}
			receipt := protocol.Receipt{State: protocol.ItemSucceeded}
			if read.State != protocol.UploadCompleting || read.Withdrawn {
				receipt = protocol.Receipt{State: protocol.ItemFailed, Failure: &protocol.Failure{Class: protocol.Conflict, Code: codeNotCompleting}}
			}
			s.queue.end(id, receipt)
		}
		misses := 0
		s.queue.missed = func(id protocol.BatchID) {
			if misses++; before == (misses == 1) {
				work(id)
			}
		}
		got, err := s.svc.Abort(t.Context(), name(made))
		switch {
		case before:
			wantRefused(t, err, RefusedCompleted)
		case err != nil || got.Status != StatusAborted || !read.Withdrawn:
			t.Errorf("%+v, %v", got, err)
		}
	}
}

// TestPutTogetherSession is one whose parts a worker has put together, and whose publication failed for the moment.
func TestPutTogetherSession(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	made := s.create(request("k", small))
	s.put(made, 0, content(0, small))
	completing := s.complete(made)
	s.shelf.mu.Lock()
	clear(s.shelf.uploads) // as the store does
	s.shelf.mu.Unlock()
	s.queue.end(completing.Batch, protocol.Receipt{State: protocol.ItemFailed, Failure: &protocol.Failure{
		Class: protocol.Unavailable, Code: "away", Message: "Failed to download file: upload x: the store is away",
	}})
	if got := s.put(made, 0, content(0, small)); got.Status != StatusStaged || got.Failure == nil || got.Failure.Message != "upload x: the store is away" {
		t.Errorf("%+v", got)
	}
	wantRefused(t, second(s.svc.PutPart(t.Context(), name(made), partOf(0, content(1, small)))), RefusedCompleting)
	if again := s.complete(made); again.Batch == completing.Batch || again.Failure != nil {
		t.Errorf("completed again: %+v", again)
	}
}

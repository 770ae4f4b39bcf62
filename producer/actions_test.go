package producer

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// act makes an action and holds its answer against the description.
func (s *stage) act(a *protocol.Acceptance, action string) answer {
	s.Helper()
	got := s.call("one/copy", "POST", "/v1/batches/"+string(a.Batch)+"/"+action, "")
	newDescription(s.T, apiDescription).check(s.T, "POST", "/v1/batches/{id}/"+action, got)
	return got
}

func (s *stage) did(a *protocol.Acceptance, action string) actionView {
	s.Helper()
	v := decode[actionView](s.act(a, action).want(200, ""))
	if sum := v.NotStarted + v.Midway + v.Ended; sum != v.Batch.Total {
		s.Errorf("%d not started, %d midway, %d ended: not %d in all", v.NotStarted, v.Midway, v.Ended, v.Batch.Total)
	}
	return v
}

func (s *stage) control(a *protocol.Acceptance) protocol.Control {
	s.Helper()
	var c protocol.Control
	s.get(s.controls, protocol.ControlKey(a.Org, a.Batch), &c)
	return c
}

// feeder ends batches that are to be stopped with the receipts they have, as the aggregator does. It returns when it watches. A cancel waits for that.
func (s *stage) feeder(receipts map[protocol.BatchID][]protocol.Receipt) {
	s.Helper()
	s.pipeline.views.patience = waitLimit
	ctx, stop := context.WithCancel(s.Context())
	changes, err := s.controls.Watch(ctx, ">")
	if err != nil {
		s.Fatal(err)
	}
	var feeding sync.WaitGroup
	ready := make(chan struct{})
	feeding.Go(func() {
		for w := range changes {
			if w.Current {
				close(ready)
				continue
			}
			var c protocol.Control
			var a protocol.Acceptance
			var feed protocol.Feed
			if !s.get(s.controls, w.Entry.Key, &c) || c.Wanted != protocol.WantStop {
				continue
			}
			if !s.get(s.feeds, w.Entry.Key, &feed) {
				s.Errorf("batch %s is to be stopped and nobody looks after it", c.Batch)
			}
			s.get(s.batches, protocol.AcceptKey(c.Org, c.Batch), &a)
			s.tell(&a, receipts[c.Batch], rest)
		}
	})
	s.Cleanup(func() { stop(); feeding.Wait() })
	<-ready
}

// TestCancel waits for the end and tells what became of the items, also when it is repeated.
func TestCancel(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	small, large := s.accept(10), s.accept(2000)
	midway := func(indexes ...int) []protocol.Receipt {
		list := receiptsOf(protocol.ItemCanceled, indexes...)
		for i := range list {
			list[i].Attempts = []protocol.Attempt{{Number: 1, Worker: "w"}}
		}
		return list
	}
	receipts := map[protocol.BatchID][]protocol.Receipt{
		small.Batch: slices.Concat(receiptsOf(protocol.ItemSucceeded, 0, 1), receiptsOf(protocol.ItemFailed, 2), midway(3), receiptsOf(protocol.ItemRetrying, 4)),
		large.Batch: slices.Concat(receiptsOf(protocol.ItemSucceeded, upTo(1000)...), midway(1000, 1500), receiptsOf(protocol.ItemRetrying, 1800), receiptsOf(protocol.ItemSkipped, 1900)),
	}
	s.feeder(receipts)
	for range 2 {
		for _, tc := range []struct {
			batch             *protocol.Acceptance
			not, midway, done int
		}{{&small, 5, 2, 3}, {&large, 996, 3, 1001}} {
			v := s.did(tc.batch, "cancel")
			if v.Batch.State != protocol.BatchCanceled || v.Batch.Reason != protocol.ReasonCaller {
				t.Errorf("%s %q", v.Batch.State, v.Batch.Reason)
			}
			if v.NotStarted != tc.not || v.Midway != tc.midway || v.Ended != tc.done {
				t.Errorf("%d not started, %d midway, %d ended, want %+v", v.NotStarted, v.Midway, v.Ended, tc)
			}
		}
	}
	want := protocol.Control{Version: 1, Org: "one", Batch: small.Batch, Wanted: protocol.WantStop, Reason: protocol.ReasonCaller}
	got := s.control(&small)
	got.At = time.Time{}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("control (-want +got):\n%s", diff)
	}
	var feed protocol.Feed
	if !s.get(s.feeds, protocol.ControlKey("one", small.Batch), &feed) || feed.Next != 10 || feed.Owner != "" || feed.Version != protocol.FeedVersion {
		t.Errorf("feed %+v", feed)
	}
	ended := s.accept(2)
	s.tell(&ended, receiptsOf(protocol.ItemSucceeded, 0, 1))
	if v := s.did(&ended, "cancel"); v.Ended != 2 || v.Batch.State != protocol.BatchSucceeded || s.control(&ended).Wanted != "" {
		t.Errorf("cancel of an ended batch: %+v", v)
	}
	void := s.accept(3, func(a *protocol.Acceptance) { a.State = protocol.AcceptAbandoned })
	if v := s.did(&void, "cancel"); v.NotStarted != 3 || v.Batch.State != protocol.BatchFailed {
		t.Errorf("cancel of an abandoned batch: %+v", v)
	}
}

// TestCancelThatTakesLong answers what is known so far. So does one whose front shuts down.
func TestCancelThatTakesLong(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.open(func(p *Pipeline) { p.views.patience = 50 * time.Millisecond })
	a := s.accept(10)
	s.tell(&a, slices.Concat(receiptsOf(protocol.ItemSucceeded, 0, 1), receiptsOf(protocol.ItemRetrying, 2)))
	s.holds("w", protocol.DefaultPool, ref(&a, 3))
	v := s.did(&a, "cancel")
	if v.Batch.State != protocol.BatchCanceling || v.NotStarted != 6 || v.Midway != 2 || v.Ended != 2 || v.Batch.Reason != protocol.ReasonCaller {
		t.Errorf("%+v", v)
	}
	s.open()
	answered := make(chan actionView)
	go func() { answered <- decode[actionView](s.act(&a, "cancel")) }()
	s.until("the cancel to wait", func() bool {
		s.server.waits.mu.Lock()
		defer s.server.waits.mu.Unlock()
		return len(s.server.waits.cancels) == 1
	})
	s.server.StopWaiting()
	if v := <-answered; v.Batch.State != protocol.BatchCanceling {
		t.Errorf("%+v", v)
	}
}

// TestCancelWhileAccepting is kept: the batch is canceled once its manifest is whole.
func TestCancelWhileAccepting(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.open(func(p *Pipeline) { p.views.patience = 10 * time.Millisecond })
	a := s.accept(0, func(a *protocol.Acceptance) { a.Chunks = 0 })
	if v := s.did(&a, "cancel"); v.Batch.State != protocol.BatchCanceling {
		t.Errorf("%s", v.Batch.State)
	}
	if c := s.control(&a); c.Wanted != protocol.WantStop {
		t.Errorf("%+v", c)
	}
	var feed protocol.Feed
	if s.get(s.feeds, protocol.ControlKey(a.Org, a.Batch), &feed) {
		t.Errorf("a feed record %+v in the place of the one that the acceptance makes", feed)
	}
	a.Total, a.State = 1000, protocol.AcceptComplete
	s.put(s.batches, protocol.AcceptKey(a.Org, a.Batch), a)
	if v := s.did(&a, "cancel"); v.Batch.State != protocol.BatchCanceling || v.NotStarted != 1000 {
		t.Errorf("%+v", v)
	}
}

// TestPauseAndResume change what is wanted, once each, and a canary is passed by a resume.
func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.accept(1000)
	s.tell(&a, slices.Concat(receiptsOf(protocol.ItemSucceeded, upTo(100)...), receiptsOf(protocol.ItemRetrying, 100)))
	s.holds("w", protocol.DefaultPool, ref(&a, 101))
	if v := s.did(&a, "resume"); v.Batch.State != protocol.BatchRunning || s.control(&a).Wanted != "" {
		t.Errorf("resume of a running batch: %+v", v)
	}
	for range 2 {
		v := s.did(&a, "pause")
		if v.Batch.State != protocol.BatchPaused || v.NotStarted != 898 || v.Midway != 2 || v.Ended != 100 || v.Batch.Reason != protocol.ReasonCaller {
			t.Errorf("pause: %+v", v)
		}
	}
	for range 2 {
		if v := s.did(&a, "resume"); v.Batch.State != protocol.BatchRunning || v.Batch.Reason != "" {
			t.Errorf("resume: %+v", v)
		}
	}
	if c := s.control(&a); c.Wanted != protocol.WantRun || c.Resumes != 1 || c.CanaryDone {
		t.Errorf("%+v", c)
	}
	s.put(s.controls, protocol.ControlKey(a.Org, a.Batch), protocol.Control{Version: 1, Org: a.Org, Batch: a.Batch, Wanted: protocol.WantPause, Reason: protocol.ReasonCanary, Resumes: 1})
	if v := s.did(&a, "pause"); v.Batch.Reason != protocol.ReasonCanary {
		t.Errorf("pause of a canary: %+v", v)
	}
	s.did(&a, "resume")
	if c := s.control(&a); c.Wanted != protocol.WantRun || c.Resumes != 2 || !c.CanaryDone {
		t.Errorf("%+v", c)
	}
}

// TestActionsThatComeTooLate are refused, and change nothing.
func TestActionsThatComeTooLate(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.open(func(p *Pipeline) { p.views.patience = 10 * time.Millisecond })
	ended, stopping := s.accept(1), s.accept(1)
	s.tell(&ended, receiptsOf(protocol.ItemSucceeded, 0))
	s.did(&stopping, "cancel")
	before := s.control(&stopping)
	for _, action := range []string{"pause", "resume"} {
		s.act(&ended, action).want(409, CodeBatchEnded)
		s.act(&stopping, action).want(409, CodeBatchCanceling)
	}
	if diff := cmp.Diff(before, s.control(&stopping)); diff != "" || s.control(&ended).Wanted != "" {
		t.Errorf("changed:\n%s", diff)
	}
}

// TestActionsRace: a cancel wins over all others, whoever comes first.
func TestActionsRace(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	var all []protocol.Acceptance
	for range 10 {
		all = append(all, s.accept(5))
	}
	s.feeder(nil)
	for i := range all {
		a := &all[i]
		var racing sync.WaitGroup
		for _, action := range []string{"cancel", "pause", "resume", "cancel", "resume", "pause"} {
			racing.Go(func() {
				got := s.call("one/copy", "POST", "/v1/batches/"+string(a.Batch)+"/"+action, "")
				switch {
				case got.status == 200 && action == "cancel":
					if v := decode[actionView](got); v.Batch.State != protocol.BatchCanceled || v.NotStarted != 5 {
						t.Errorf("cancel: %+v", v)
					}
				case got.status == 200:
				case got.status != 409 || action == "cancel":
					t.Errorf("%s: %d %s", action, got.status, got.body)
				}
			})
		}
		racing.Wait()
		if c := s.control(a); c.Wanted != protocol.WantStop {
			t.Errorf("%+v", c)
		}
	}
}

// TestDecisionMeetsAnEnd that comes between the look at the batch and the control.
func TestDecisionMeetsAnEnd(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.accept(1)
	ending := func(c protocol.Control) (protocol.Control, bool, error) {
		s.tell(&a, receiptsOf(protocol.ItemSucceeded, 0))
		return pause(c)
	}
	if err := s.pipeline.want(t.Context(), a.Org, a.Batch, ending); !errors.Is(err, errBatchEnded) {
		t.Errorf("pause: %v", err)
	}
	b, other := s.accept(1), 0
	stubborn := func(c protocol.Control) (protocol.Control, bool, error) {
		other++
		s.wanted(&b, protocol.WantRun, "")
		return pause(c)
	}
	if err := s.pipeline.want(t.Context(), b.Org, b.Batch, stubborn); !errors.Is(err, errControlBusy) || !errors.Is(err, broker.ErrUnavailable) || other != controlTries {
		t.Errorf("against others: %v after %d tries", err, other)
	}
	gone := protocol.NewBatchID()
	if err := s.pipeline.want(t.Context(), "one", gone, pause); !errors.Is(err, errBatchRemoved) {
		t.Errorf("of a batch that is not there: %v", err)
	}
}

// TestCallerThatHangsUp does not undo what was asked for.
func TestCallerThatHangsUp(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.accept(5)
	ctx, hangUp := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/batches/"+string(a.Batch)+"/cancel", strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.keys["one/copy"])
	gone := make(chan error)
	go func() {
		resp, err := s.client.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		gone <- err
	}()
	s.until("the wish", func() bool { return s.control(&a).Wanted == protocol.WantStop })
	hangUp()
	if err := <-gone; err == nil {
		t.Error("the caller got an answer")
	}
	s.server.Settle(time.Minute)
	if c := s.control(&a); c.Wanted != protocol.WantStop {
		t.Errorf("%+v", c)
	}
}

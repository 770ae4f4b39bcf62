package uploads

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

func (s *stage) abort(named Name) {
	s.Helper()
	if _, err := s.svc.Abort(s.Context(), named); err != nil {
		s.Fatal(err)
	}
}

// TestContentThatComesAfterTheEnd is stored when its session was ended and swept: nothing would ever look at it again.
func TestContentThatComesAfterTheEnd(t *testing.T) {
	t.Parallel()
	for what, send := range map[string]func(*stage) error{
		"direct": func(s *stage) error { return second(s.svc.Direct(s.Context(), direct("k", content(0, 10)))) },
		"empty":  func(s *stage) error { return second(s.svc.Create(s.Context(), request("k", 0))) },
		"parts":  func(s *stage) error { return second(s.svc.Create(s.Context(), request("k", 10))) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, Config{})
			s.shelf.on(func(step string) {
				if step == "whole" || step == "begun" && what == "parts" {
					s.shelf.on(nil)
					s.abort(Name{Org: org, Sandbox: sandbox, ID: protocol.KeyedUploadID(org, sandbox, "k")})
					s.sweep()
				}
			})
			if err := send(s); what == "direct" {
				wantRefused(t, err, RefusedAborted)
			} else if err != nil {
				t.Error(err)
			}
			if left := s.shelf.left(); left != 0 {
				t.Errorf("%d things are staged that no session has", left)
			}
		})
	}
}

// TestSessionIsForgottenWithAllItLeft has a front stage something after the session was cleaned, and die. The day after, nothing at all is left.
func TestSessionIsForgottenWithAllItLeft(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	made := s.create(request("k", small))
	s.put(made, 0, content(0, small))
	s.abort(name(made))
	s.sweep()
	if _, err := s.shelf.Begin(t.Context(), made.Key, small, small); err != nil {
		t.Fatal(err)
	}
	s.pass(KeptFor + time.Second)
	s.sweep()
	keys, err := s.bucket.Keys(t.Context(), ">")
	if err != nil || len(keys) != 0 || s.shelf.left() != 0 {
		t.Errorf("left: %v, %v; staged: %d", keys, err, s.shelf.left())
	}
	if again := s.create(request("k", small)); again.Status != StatusCreated {
		t.Errorf("%+v", again)
	}
}

// TestSweepThatIsBehindGoesOn has more to do than it takes on in one pass.
func TestSweepThatIsBehindGoesOn(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	s.svc.most = 3
	for i := range 8 {
		s.abort(name(s.create(request(fmt.Sprint(i), 1))))
	}
	for pass, want := range []bool{true, true, false, false} {
		if more, err := s.svc.sweep(t.Context()); err != nil || more != want {
			t.Errorf("pass %d: more is %v, %v", pass, more, err)
		}
	}
	if left := s.shelf.left(); left != 0 {
		t.Errorf("%d are staged still", left)
	}
}

// TestClockThatJumpsEndsNothing has the clock of one machine a day ahead. What is staged stays, and so do the sessions that can still be read, until
// the broker's clock says so, too.
func TestClockThatJumpsEndsNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{Quota: 3 * small})
	made, ended := s.create(request("k", 2*small)), s.create(request("ended", 1))
	s.put(made, 0, content(0, small))
	s.abort(name(ended))
	s.sweep()
	s.svc.theirs = s.bucket.Now
	s.pass(KeptFor + DefaultExpiry)
	s.sweep()
	wantRefused(t, second(s.svc.Create(t.Context(), request("other", 2*small))), RefusedQuota)
	s.pass(-KeptFor - DefaultExpiry)
	if got := s.put(made, 1, content(0, small)); got.Status != StatusStaged {
		t.Errorf("%+v", got)
	}
	if got := s.show(ended); got.Status != StatusAborted {
		t.Errorf("%+v", got)
	}
	s.pass(KeptFor + DefaultExpiry)
	s.svc.theirs = func(context.Context) (time.Time, error) { return s.now(), nil }
	s.sweep()
	if got := s.show(made); got.State != protocol.UploadExpired || !got.Cleaned {
		t.Errorf("%+v", got)
	}
}

// drop removes multipart uploads behind the sessions' back, as an operator or the store's own rules may.
func (f *shelf) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.uploads)
}

// TestStagedUploadThatVanishes ends its session as soon as that is seen: no part of it can come to count any more.
func TestStagedUploadThatVanishes(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	for _, lost := range []bool{false, true} {
		made := s.create(request(fmt.Sprint(lost), 2*small))
		s.put(made, 0, content(0, small))
		if lost { // it was to be published, and a part was missing
			s.put(made, 1, content(0, small))
			batch := s.complete(made).Batch
			s.lose(made, 1)
			s.queue.end(batch, protocol.Receipt{State: protocol.ItemFailed, Failure: &protocol.Failure{Class: protocol.Corrupt, Code: codePartLost}})
		}
		s.shelf.drop()
		refusal := wantRefused(t, second(s.svc.PutPart(t.Context(), name(made), partOf(0, content(0, small)))), RefusedFailed)
		got := s.show(made)
		if refusal.Session == nil || got.Status != StatusFailed || got.Failure.Code != codeStagingGone || got.Accepted != small || got.Next != 1 {
			t.Errorf("lost %v: %+v, %+v", lost, refusal, got)
		}
		if sessions, _ := s.reserved(sandbox); sessions != 0 {
			t.Error("the quota is not given back")
		}
	}
}

// otherBucket is the same store under another --staging-bucket.
type otherBucket struct{ *shelf }

func (otherBucket) Bucket() string { return "other" }

// TestSessionOfAnotherBucket is served by the processes that have its bucket. Others say so, and neither end nor forget it before its day is over.
func TestSessionOfAnotherBucket(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	made := s.create(request("k", 2*small))
	other := s.open(Config{})
	other.staging = otherBucket{newShelf()}
	if _, err := other.PutPart(t.Context(), name(made), partOf(0, content(0, small))); !errors.Is(err, ErrStagingRefuses) {
		t.Errorf("a part: %v", err)
	}
	s.abort(name(made))
	for range 3 {
		if _, err := other.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.show(made); got.Cleaned || s.shelf.left() != 1 {
		t.Errorf("%+v, %d are staged", got, s.shelf.left())
	}
	s.pass(KeptFor + time.Second)
	for range 3 {
		if _, err := other.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wantRefused(t, second(s.svc.Show(t.Context(), name(made))), RefusedNotFound)
}

// TestPartWaitsForTheFold answers a part whose news nobody folds with an error that says to repeat it, and the repetition with the session.
func TestPartWaitsForTheFold(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	made := s.create(request("k", small))
	s.folding.Lock()
	ctx, giveUp := context.WithCancelCause(t.Context())
	go func() {
		<-s.arrived // nothing is left but to wait
		giveUp(broker.ErrUnavailable)
	}()
	if _, err := s.svc.PutPart(ctx, name(made), partOf(0, content(0, small))); !errors.Is(err, broker.ErrUnavailable) {
		t.Errorf("a part that nobody folds: %v", err)
	}
	s.folding.Unlock()
	if got := s.put(made, 0, content(0, small)); got.Status != StatusStaged {
		t.Errorf("%+v", got)
	}
	// One whose session ends while it waits is told so at once.
	made = s.create(request("other", small))
	s.folding.Lock()
	defer s.folding.Unlock()
	for len(s.arrived) > 0 {
		<-s.arrived
	}
	told := make(chan error, 1)
	go func() {
		told <- second(s.svc.PutPart(t.Context(), name(made), partOf(0, content(0, small))))
	}()
	<-s.arrived
	s.abort(name(made))
	wantRefused(t, <-told, RefusedAborted)
}

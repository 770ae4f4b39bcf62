package uploads

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

func direct(key string, data []byte) Direct {
	return Direct{Request: request(key, int64(len(data))), Body: bytes.NewReader(data), Exact: true}
}

func (s *stage) direct(d Direct) *Session {
	s.Helper()
	got, err := s.svc.Direct(s.Context(), d)
	if err != nil {
		s.Fatal(err)
	}
	return got
}

func TestDirectUploadIsPublished(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	data := content(0, 3*small+7)
	got := s.direct(direct("token", data))
	if got.Status != StatusCompleting || got.Length != int64(len(data)) || got.Accepted != got.Length || !bytes.Equal(s.shelf.objects[got.Key], data) {
		t.Fatalf("%+v", got)
	}
	// The same token again reads nothing and answers for the same session.
	again := direct("token", data)
	again.Body = broken{strings.NewReader("")}
	if second := s.direct(again); second.ID != got.ID || second.Batch != got.Batch {
		t.Errorf("%+v", second)
	}
	refused := second(s.svc.Direct(t.Context(), direct("token", data[1:])))
	wantRefused(t, refused, RefusedKeyReused)
	if strings.Contains(refused.Error(), "idempotency key") { // of which who has the URL knows nothing
		t.Error(refused)
	}
	s.queue.end(got.Batch, protocol.Receipt{State: protocol.ItemSucceeded, Bytes: got.Length})
	if got := s.direct(direct("token", data)); got.Status != StatusCompleted {
		t.Errorf("%+v", got)
	}
	s.sweep()
	if s.shelf.left() != 0 {
		t.Error("something is staged still")
	}
}

// TestDirectUploadOfAForm has a length that is a bound: what was reserved beyond the content is free when it is there.
func TestDirectUploadOfAForm(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	d := direct("token", content(0, 100))
	d.Exact, d.Body = false, bytes.NewReader(content(0, 60))
	got := s.direct(d)
	if _, sum := s.reserved(sandbox); got.Length != 60 || sum != 60 || *s.queue.submitted()[0].Item.Expect.Size != 60 {
		t.Errorf("%d bytes are reserved: %+v", sum, got)
	}
	d = direct("other", content(0, 100))
	d.Exact, d.Body = false, bytes.NewReader(content(0, 101))
	wantRefused(t, second(s.svc.Direct(t.Context(), d)), RefusedLength)
}

func TestDirectUploadThatFailsCanBeSentAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{Quota: 150})
	data := content(0, 100)
	for _, c := range []struct {
		body io.Reader
		want func(error) bool
	}{
		{bytes.NewReader(data[1:]), func(err error) bool { return refused(err, RefusedLength) }},
		{io.MultiReader(bytes.NewReader(data), strings.NewReader("x")), func(err error) bool { return refused(err, RefusedLength) }},
		{broken{bytes.NewReader(data[1:])}, func(err error) bool { return errors.Is(err, ErrBody) }},
	} {
		d := direct("token", data)
		d.Body = c.body
		if _, err := s.svc.Direct(t.Context(), d); !c.want(err) {
			t.Errorf("the answer is %v", err)
		}
		if sessions, sum := s.reserved(sandbox); sessions != 0 || sum != 0 {
			t.Errorf("%d bytes of %d sessions are reserved", sum, sessions)
		}
	}
	s.sweep()
	if got := s.direct(direct("token", data[:90])); got.Status != StatusCompleting || got.Length != 90 {
		t.Errorf("%+v", got)
	}
	wantRefused(t, second(s.svc.Direct(t.Context(), direct("other", data))), RefusedQuota)
	wantRefused(t, second(s.svc.Direct(t.Context(), direct("third", content(0, 151)))), RefusedTooLarge)
}

// TestDirectUploadIsTakenOver sends the same content through a second front while the first has it half: one of them publishes it, and what
// the other staged is removed.
func TestDirectUploadIsTakenOver(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	other := s.open(Config{})
	data := content(0, 100)
	first := true
	var taken *Session
	s.shelf.on(func(step string) {
		if step != "whole" || !first {
			return
		}
		first = false
		var err error
		if taken, err = other.Direct(s.Context(), direct("token", data)); err != nil {
			t.Error(err)
		}
	})
	got := s.direct(direct("token", data))
	if taken == nil || got.Batch != taken.Batch || got.Key != taken.Key || s.shelf.left() != 1 {
		t.Fatalf("%+v and %+v, %d are staged", got, taken, s.shelf.left())
	}
}

func TestOneTokenAtOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	var all sync.WaitGroup
	var taken atomic.Int64
	for range 8 {
		all.Go(func() {
			switch _, err := s.svc.Direct(s.Context(), direct("token", content(0, 10))); {
			case err == nil:
				taken.Add(1)
			case !refused(err, RefusedBusy): // more than wait for their turn would keep others out
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(s.queue.submitted()); taken.Load() == 0 || n != 1 || s.shelf.left() != 1 {
		t.Errorf("%d taken, %d batches, %d staged", taken.Load(), n, s.shelf.left())
	}
}

// TestDirectUploadThatDied is what a killed front leaves: its share of the quota ends in time, and so does what is staged.
func TestDirectUploadThatDied(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	d := direct("token", content(0, 10))
	fresh, err := s.svc.fresh(&d.Request, true)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := s.svc.reserve(t.Context(), fresh)
	if err != nil {
		t.Fatal(err)
	}
	if rec, err = s.svc.tryDirect(t.Context(), rec.name(), fresh); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.svc.stageDirect(t.Context(), rec, &d); err != nil {
		t.Fatal(err)
	}
	s.pass(directExpiry + time.Second)
	s.sweep()
	if sessions, _ := s.reserved(sandbox); sessions != 0 || s.shelf.left() != 0 {
		t.Errorf("%d sessions, %d staged", sessions, s.shelf.left())
	}
}

package worker

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestLineLetsNoMoreRunThanThereAreSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLine(3, 2)
		var running, most atomic.Int32
		ended := make(chan error)
		const items = 20
		for i := range items {
			go func() {
				bulk := i%2 == 0
				err := l.enter(t.Context(), bulk)
				if err == nil {
					if now := running.Add(1); now > most.Load() {
						most.Store(now)
					}
					time.Sleep(time.Millisecond)
					running.Add(-1)
					l.leave(bulk, time.Now())
				}
				ended <- err
			}()
		}
		for range items {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if most.Load() != 3 || l.running() != 0 {
			t.Errorf("%d ran at once, %d are left", most.Load(), l.running())
		}
	})
}

func TestLineGivesBackWhoWaitsForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLine(2, 1)
		if err := l.enter(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if err := l.enter(t.Context(), true); !errors.Is(err, errLate) || time.Since(begun) != linePatience {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
		if err := l.enter(t.Context(), false); err != nil {
			t.Errorf("bulk items are in the way of the interactive lane: %v", err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errStopped)
		if err := l.enter(ctx, false); !errors.Is(err, errStopped) {
			t.Errorf("a stopped item gets a place: %v", err)
		}
		if len(l.bulk) != 1 || len(l.all) != 2 {
			t.Errorf("places are lost: %d bulk, %d in all", len(l.bulk), len(l.all))
		}
	})
}

func TestItemsAreShortOnlyWhileTheyEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLine(1, 1)
		run := func(d time.Duration) {
			t.Helper()
			if err := l.enter(t.Context(), true); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			time.Sleep(d)
			l.leave(true, begun)
		}
		if l.short(time.Now()) {
			t.Error("short before the first item ended")
		}
		run(time.Millisecond)
		if !l.short(time.Now()) {
			t.Error("a millisecond is not short")
		}
		time.Sleep(shortMemory)
		if l.short(time.Now()) {
			t.Error("still short while nothing ends")
		}
		run(time.Second)
		if l.short(time.Now()) {
			t.Error("a second is short")
		}
		run(time.Millisecond)
		if l.short(time.Now()) {
			t.Error("one short item among long ones makes them short")
		}
		for range 100 {
			run(time.Millisecond)
		}
		if !l.short(time.Now()) {
			t.Error("one long item is remembered for ever")
		}
	})
}

// Items whose source is 50 ms away leave their slots at about the same time. If none waited in line, the slots would stand empty for a fetch and
// a claim.
func TestItemsBoundByLatencyWaitInLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(16, 12)
		for range 100 {
			for range 12 {
				if err := s.line.enter(t.Context(), true); err != nil {
					t.Fatal(err)
				}
				s.take(true)
			}
			begun := time.Now()
			time.Sleep(50 * time.Millisecond)
			if _, ahead, _ := s.available(time.Now()); s.line.ended.Load() != 0 && ahead != 12 {
				t.Fatalf("%d may be taken ahead of their slots, want 12", ahead)
			}
			for range 12 {
				s.line.leave(true, begun)
				s.give(true)
			}
		}
	})
	if 2*shortItem > linePatience {
		t.Error("who waits behind a short item may be handed back for it")
	}
}

func TestShortItemsAreTakenAheadOfTheirSlots(t *testing.T) {
	t.Parallel()
	s := newSlots(16, 12)
	now := time.Now()
	for range 12 {
		s.take(true)
	}
	if free, bulk, _ := s.available(now); free != 4 || bulk != 0 {
		t.Errorf("%d free, %d for bulk work, before anything ended", free, bulk)
	}
	s.line.ended.Store(now.UnixNano())
	if _, bulk, _ := s.available(now); bulk != 12 {
		t.Errorf("%d may be taken ahead, want 12", bulk)
	}
	for range 12 {
		s.take(true)
	}
	if free, bulk, _ := s.available(now); free != 4 || bulk != 0 {
		t.Errorf("%d free, %d for bulk work, with a full line: the interactive lane must keep its slots", free, bulk)
	}
}

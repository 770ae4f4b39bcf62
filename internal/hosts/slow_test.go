package hosts

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A host whose last round was slow is not taken for one that is slow for ever: what comes after it has been left alone waits in its line,
// and is not sent away for as long as the slow round would have it.
func TestASlowRoundIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table := New(Config{Slots: 8})
		ask := Ask{Keys: []Key{{Source, "http://a:80"}}}
		v, err := table.Enter(t.Context(), ask, nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		v.Leave(Result{Kind: Worked})

		var visits []*Visit
		for range limitStart {
			v, err := table.Enter(t.Context(), ask, nil)
			if err != nil {
				t.Fatal(err)
			}
			visits = append(visits, v)
		}
		done := make(chan error)
		go func() {
			v, err := table.Enter(t.Context(), ask, nil)
			if err == nil {
				v.Leave(Result{Kind: Worked})
			}
			done <- err
		}()
		time.Sleep(10 * time.Millisecond)
		for _, v := range visits {
			v.Leave(Result{Kind: Worked})
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

// TestSilentHostTakesNoSlots has more items wait in their slots at a host that has not answered anybody yet: they are sent away, and come back less and
// less often until something is heard of it. Those that wait aside go on waiting.
func TestSilentHostTakesNoSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const slots = 16
		table := New(Config{Slots: slots})
		key := Key{Source, "http://slow:80"}
		ask := Ask{Keys: []Key{key}}
		enter := func(aside bool) (*Visit, error) { return table.Enter(t.Context(), ask, func() bool { return aside }) }
		visits := make([]*Visit, limitStart)
		for i := range visits {
			var err error
			if visits[i], err = enter(false); err != nil {
				t.Fatal(err)
			}
		}
		patient := make(chan *Visit)
		go func() {
			v, err := enter(true)
			if err != nil {
				t.Error(err)
			}
			patient <- v
		}()
		synctest.Wait()
		away := func(most, least time.Duration) {
			t.Helper()
			begun := time.Now()
			_, err := enter(false)
			later, full := errors.AsType[*LaterError](err)
			if took := time.Since(begun); !full || took > most || later.Wait < least || later.Resting {
				t.Errorf("after %s in a slot: %+v, %v", took, later, err)
			}
		}
		away(slotPatience, slotPatience)
		away(0, slotPatience)
		if wait := table.Coming(key, false, 100); wait < slotPatience {
			t.Errorf("what was sent away may come back in %s", wait)
		}
		time.Sleep(time.Second)
		away(0, time.Second)
		if wait := table.Coming(key, false, 100); wait < time.Second {
			t.Errorf("what was sent away may come back in %s", wait)
		}
		for _, v := range visits {
			v.Leave(Result{Kind: Worked})
		}
		v := <-patient
		if v == nil {
			t.Fatal("who waits aside was sent away")
		}
		next, err := enter(false) // something was heard of it
		if err != nil {
			t.Fatal(err)
		}
		next.Leave(Result{Kind: Worked})
		v.Leave(Result{Kind: Worked})
		if s := table.State(); s.Waiting != 0 {
			t.Errorf("%+v", s)
		}
	})
}

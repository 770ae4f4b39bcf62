package hosts

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestRestsAreForgotten has a host that nobody comes to again ask for a rest: it is not kept for ever.
func TestRestsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun, ended := 0, 0
		table := New(Config{Slots: 8, Resting: func(_ Key, ends bool, _ time.Duration, _ string) {
			if ends {
				ended++
			} else {
				begun++
			}
		}})
		visit := func(n int, res Result) {
			v, err := table.Enter(t.Context(), Ask{Keys: []Key{{Source, fmt.Sprintf("http://%d:80", n)}}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			v.Leave(res)
		}
		const dead = 10
		for n := range dead {
			visit(n, Result{Kind: Refused, RetryAfter: restAskedMost})
		}
		time.Sleep(forgetAfter + restAskedMost/2)
		for n := range sweepEvery {
			visit(dead+n, Result{Kind: Worked})
		}
		if s := table.State(); s.Resting != dead { // the rests are not over for long enough
			t.Errorf("%d rest, want %d", s.Resting, dead)
		}
		time.Sleep(forgetAfter + time.Minute)
		for n := range sweepEvery {
			visit(-1-n, Result{Kind: Worked})
		}
		if s := table.State(); s.Resting != 0 || s.Gates > sweepEvery || begun != dead || ended != dead {
			t.Errorf("%+v, %d rests were told of and %d ends", s, begun, ended)
		}
	})
}

// TestTurnsAreNotPutOff has ever more items come to a gate that is to be looked at again soon: it is looked at in time.
func TestTurnsAreNotPutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table := New(Config{Slots: 8})
		table.mu.Lock()
		ask := Ask{Keys: []Key{{Source, "http://a:80"}}}
		now := time.Now()
		w := &waiter{ask: ask, gates: table.of(ask, now), ready: make(chan struct{})}
		table.want(w, now)
		g := w.gates[0]
		g.queue = append(g.queue, w)
		table.mu.Unlock()
		for range 20 {
			table.mu.Lock()
			if len(g.queue) > 0 {
				table.arm(g, time.Now().Add(lookAgain), time.Now())
			}
			table.mu.Unlock()
			time.Sleep(lookAgain / 2)
		}
		select {
		case <-w.ready:
		default:
			t.Error("it waits for its turn yet")
		}
		table.mu.Lock()
		defer table.mu.Unlock()
		if took := g.limiter.from.Sub(now); !w.done || !g.due.IsZero() || took > lookAgain {
			t.Errorf("done %t, due %v, after %v", w.done, g.due, took)
		}
	})
}

package hosts

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

var there = Key{Source, "http://h:80"}

// visitor uses a table in a test.
type visitor struct {
	*testing.T
	*Table
}

func (v visitor) ask(ask Ask) (*Visit, *LaterError) {
	v.Helper()
	ask.Keys = []Key{there}
	visit, err := v.Enter(v.Context(), ask, nil)
	later, _ := errors.AsType[*LaterError](err)
	if err != nil && later == nil {
		v.Fatal(err)
	}
	return visit, later
}

// visits has items at the host that all end so.
func (v visitor) visits(n int, res Result) {
	v.Helper()
	for range n {
		visit, later := v.ask(Ask{})
		if later != nil {
			v.Fatalf("the host is left alone: %+v", later)
		}
		visit.Leave(res)
	}
}

// turnedAway returns why an item is not let in.
func (v visitor) turnedAway(ask Ask) *LaterError {
	v.Helper()
	visit, later := v.ask(ask)
	if later == nil {
		visit.Leave()
		v.Fatal("the item was let in")
	}
	return later
}

// inBubble runs a test of a table on a clock of its own.
func inBubble(t *testing.T, cfg Config, test func(v visitor)) {
	t.Helper()
	cfg.Slots = 16
	synctest.Test(t, func(t *testing.T) { test(visitor{t, New(cfg)}) })
}

func TestFailuresInARowCloseAGate(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		res    Result
		before int // visits after which the gate is open yet
	}{
		{"failures", Result{Kind: Failed, Cause: "refused", Class: "unavailable"}, tripFails - 1},
		{"timeouts count twice", Result{Kind: TimedOut, Cause: "silent", Class: "timeout"}, tripFails/timeoutWeight - 1},
		{"refusals that name no time", Result{Kind: Refused, Cause: "busy", Class: "throttled"}, tripFails - 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, Config{Patience: time.Millisecond}, func(v visitor) { // less than any rest
				v.visits(row.before, row.res)
				v.visits(1, Result{Kind: Worked}) // they are not in a row any more
				v.visits(row.before, row.res)
				v.visits(100, Result{}) // what tells nothing about the host changes nothing
				v.visits(1, row.res)
				later := v.turnedAway(Ask{})
				if !later.Resting || later.Spent || later.Cause != row.res.Cause || later.Class != row.res.Class || later.Wait > restBase*6/5 {
					v.Errorf("the host rests: %+v", later)
				}
			})
		})
	}
}

func TestRetryAfterClosesAGateAtOnce(t *testing.T) {
	t.Parallel()
	for asked, rests := range map[time.Duration]time.Duration{30 * time.Second: 30 * time.Second, time.Hour: restAskedMost} {
		for _, kind := range []Kind{Refused, Failed} {
			inBubble(t, Config{}, func(v visitor) {
				v.visits(1, Result{Kind: kind, RetryAfter: asked})
				if later := v.turnedAway(Ask{}); later.Wait != rests {
					v.Errorf("asked for %s, it is left alone for %s", asked, later.Wait)
				}
				time.Sleep(rests)
				v.visits(1, Result{Kind: Worked})
				v.visits(1, Result{Kind: Worked})
			})
		}
	}
}

// TestOneItemProbesAtATime has many items come when a rest is over: one is let in, the others wait for what becomes of it.
func TestOneItemProbesAtATime(t *testing.T) {
	t.Parallel()
	for _, works := range []bool{true, false} {
		inBubble(t, Config{Patience: time.Minute}, func(v visitor) {
			v.visits(tripFails, Result{Kind: Failed})
			time.Sleep(2 * restBase)
			probe, later := v.ask(Ask{})
			if later != nil {
				v.Fatalf("nobody may probe: %+v", later)
			}
			const others = 8
			inside, away := 0, 0
			ended := make(chan bool, others)
			for range others {
				go func() {
					visit, err := v.Enter(v.Context(), Ask{Keys: []Key{there}}, nil)
					visit.Leave(Result{Kind: Worked})
					ended <- err == nil
				}()
			}
			synctest.Wait()
			if len(ended) > 0 {
				v.Error("an item was let in, or sent away, while another one found out")
			}
			res := Result{Kind: Failed}
			if works {
				res.Kind = Worked
			}
			probe.Leave(res)
			if !works {
				if v.Rests(there) == 0 {
					v.Error("a probe failed, and the host is not left alone")
				}
				return // by the cleanup of the context they end
			}
			for range others {
				if <-ended {
					inside++
				} else {
					away++
				}
			}
			if inside != others || v.Rests(there) != 0 {
				v.Errorf("the host works: %d are let in, %d sent away", inside, away)
			}
		})
	}
}

// TestProbesThatTellNothing has what probes a host end for reasons of its own: that must not let in one item at a time for ever, nor take a host
// that gave bytes for one that does not work.
func TestProbesThatTellNothing(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		side   Side
		bytes  int
		probes int // after which items come in together again
	}{
		"nothing moved":                    {Source, 0, vainProbes},
		"the source gave a byte":           {Source, 1, 1},
		"the source gave many":             {Source, 2 * moreBytes, 1},
		"for a destination many were read": {Dest, 2 * moreBytes, vainProbes},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log []bool
				table := New(Config{Slots: 16, Patience: time.Millisecond, Resting: func(_ Key, ends bool, _ time.Duration, _ string) { log = append(log, ends) }})
				key := Key{row.side, "http://h:80"}
				enter := func() *Visit {
					v, err := table.Enter(t.Context(), Ask{Keys: []Key{key}}, nil)
					if err != nil {
						return nil
					}
					return v
				}
				for range tripFails {
					enter().Leave(Result{Kind: Failed})
				}
				time.Sleep(table.Rests(key))
				for n := range row.probes {
					probe := enter()
					if probe == nil {
						t.Fatalf("after %d probes that told nothing there is no next one", n)
					}
					if other := enter(); other != nil {
						t.Fatalf("an item came in beside probe %d", n)
					}
					if row.bytes > 0 {
						probe.Moved(row.bytes)
					}
					probe.Leave(Result{})
				}
				var inside []*Visit
				for range limitStart {
					v := enter()
					if v == nil {
						t.Fatalf("%d items are let in together", len(inside))
					}
					inside = append(inside, v)
				}
				if s := table.State(); s.Resting != 0 || len(log) != 2 || !log[1] {
					t.Errorf("%+v, rests: %v", s, log)
				}
				for _, v := range inside[:tripAgain] { // it may rest no less for that
					v.Leave(Result{Kind: Failed})
				}
				if rest := table.Rests(key); rest < 2*restBase*4/5 {
					t.Errorf("a host that fails as before rests for %s", rest)
				}
				inside[tripAgain].Leave(Result{Kind: Worked})
			})
		})
	}
}

func TestRestsGrow(t *testing.T) {
	t.Parallel()
	inBubble(t, Config{Patience: time.Millisecond}, func(v visitor) {
		v.visits(tripFails, Result{Kind: Failed})
		want := restBase
		for range 10 {
			if rest := v.Rests(there); rest < want*4/5 || rest > want*6/5 {
				v.Errorf("it rests for %s, must be about %s", rest, want)
			}
			time.Sleep(v.Rests(there))
			v.visits(1, Result{Kind: Failed})
			want = min(2*want, restMost)
		}
		time.Sleep(v.Rests(there))
		v.visits(provenVisits, Result{Kind: Worked})
		v.visits(tripFails-1, Result{Kind: Failed}) // it has proven itself
		v.visits(1, Result{Kind: Failed})
		if rest := v.Rests(there); rest > restBase*6/5 {
			v.Errorf("a host that had worked again rests for %s", rest)
		}
	})
}

func TestPatienceWithARestEnds(t *testing.T) {
	t.Parallel()
	inBubble(t, Config{RestPatience: time.Hour}, func(v visitor) {
		since := time.Now()
		v.visits(1, Result{Kind: Refused, RetryAfter: time.Minute})
		if later := v.turnedAway(Ask{Since: since}); later.Spent {
			v.Error("an item that has just come has waited for too long")
		}
		time.Sleep(time.Hour)
		v.visits(1, Result{Kind: Refused, RetryAfter: time.Minute})
		if later := v.turnedAway(Ask{Since: since}); !later.Spent || later.Down != time.Hour {
			v.Errorf("after an hour: %+v", later)
		}
		if later := v.turnedAway(Ask{}); later.Spent {
			v.Error("another one has waited for too long")
		}
	})
}

func TestAnItemsLastAttemptIsNoProbeAtFirst(t *testing.T) {
	t.Parallel()
	inBubble(t, Config{}, func(v visitor) {
		v.visits(tripFails, Result{Kind: Failed})
		time.Sleep(2 * restBase)
		if later := v.turnedAway(Ask{Last: true}); !later.Resting || later.Spent {
			v.Errorf("its last attempt: %+v", later)
		}
		time.Sleep(lastChanceRest)
		visit, later := v.ask(Ask{Last: true})
		if later != nil {
			v.Fatalf("after a minute: %+v", later)
		}
		visit.Leave(Result{Kind: Worked})
	})
}

// TestAWaitEndsWithItsContext cancels an item that waits: its place in the line is nobody's.
func TestAWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	inBubble(t, Config{Most: 1, Patience: time.Minute}, func(v visitor) {
		first, _ := v.ask(Ask{})
		ctx, cancel := context.WithCancelCause(v.Context())
		errWished := errors.New("somebody's wish")
		ended := make(chan error)
		go func() { _, err := v.Enter(ctx, Ask{Keys: []Key{there}}, nil); ended <- err }()
		synctest.Wait()
		cancel(errWished)
		if err := <-ended; !errors.Is(err, errWished) {
			v.Errorf("it ended with %v", err)
		}
		first.Leave(Result{Kind: Worked})
		v.visits(3, Result{Kind: Worked})
		if s := v.State(); s.Waiting != 0 {
			v.Errorf("%+v", s)
		}
	})
}

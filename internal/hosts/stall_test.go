package hosts

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestVisitsThatHangTakeNoPlace fills a host with visits of which only some move anything.
func TestVisitsThatHangTakeNoPlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ most, moving, after int }{
		"all hang":                {64, 0, limitStart},
		"one moves":               {64, 1, limitStart - 1},
		"all move":                {64, limitStart, 0},
		"more are never to be in": {limitStart, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				table := New(Config{Slots: 64, Most: c.most})
				ask := Ask{Keys: []Key{{Source, "a"}, {Dest, "b"}}}
				var visits []*Visit
				fill := func() (n int) {
					for {
						v, err := table.Enter(t.Context(), ask, nil)
						if _, full := errors.AsType[*LaterError](err); full {
							return n
						}
						if err != nil {
							t.Fatal(err)
						}
						visits, n = append(visits, v), n+1
					}
				}
				if n := fill(); n != limitStart {
					t.Fatalf("%d are in at once", n)
				}
				time.Sleep(stallAfter)
				for _, v := range visits[:c.moving] {
					v.Moved(1)
				}
				if n := fill(); n != c.after {
					t.Errorf("beside %d that hang %d came in", limitStart-c.moving, n)
				}
				for _, v := range visits {
					v.Leave(Result{Kind: Worked}, Result{Kind: Worked})
				}
				for key, g := range table.gates {
					if g.used != 0 || len(g.there) != 0 {
						t.Errorf("at %v are %d, %d of them known", key, g.used, len(g.there))
					}
				}
			})
		})
	}
}

// TestFirstDoNotWaitForTheLimit lets items that go first in where the limit that was found has no place, and holds them to the one that was
// configured.
func TestFirstDoNotWaitForTheLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const most = limitStart + 2
		table := New(Config{Slots: 64, Most: most})
		var visits []*Visit
		for range most {
			v, err := table.Enter(t.Context(), Ask{Keys: []Key{{Source, "a"}}, First: true}, nil)
			if err != nil {
				t.Fatal(err)
			}
			visits = append(visits, v)
		}
		if _, err := table.Enter(t.Context(), Ask{Keys: []Key{{Source, "a"}}, First: true}, nil); err == nil {
			t.Error("more came in than may")
		}
		for _, v := range visits {
			v.Leave(Result{Kind: Worked})
		}
	})
}

// TestHostThatHangsLeavesHalfOfTheSlots lets visits of a host at which nothing ever moves come in for as long as they may: slots must be
// left for hosts that come later.
func TestHostThatHangsLeavesHalfOfTheSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const slots = 16
		table := New(Config{Slots: slots})
		var visits []*Visit
		for range slots {
			v, err := table.Enter(t.Context(), Ask{Keys: []Key{{Source, "hangs"}}}, nil)
			if _, full := errors.AsType[*LaterError](err); full {
				time.Sleep(stallAfter)
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			visits = append(visits, v)
		}
		if n := len(visits); n <= limitStart || n > slots/2 {
			t.Errorf("%d of %d slots are with a host that hangs", n, slots)
		}
		for _, v := range visits {
			v.Leave(Result{Kind: Worked})
		}
	})
}

package worker

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage/memory"
)

func TestMovingPartsCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m moving
		say := func(number int, bytes int64) {
			data, err := protocol.Encode(protocol.Progress{Part: number, Bytes: bytes})
			if err != nil {
				t.Fatal(err)
			}
			m.note(data)
		}
		states := make([]protocol.PartState, 4)
		expect := func(what string, want int64) {
			t.Helper()
			if got := m.bytes(states, func(int) int64 { return 20 }); got != want {
				t.Errorf("%s: %d bytes, want %d", what, got, want)
			}
		}
		say(1, 10)
		say(2, 5)
		say(2, 7)
		say(0, 100) // no part
		say(9, 100) // there is none
		m.note([]byte("nonsense"))
		expect("two are moving", 17)
		say(3, 1<<60)
		say(4, -5)
		expect("one says more than it has", 37)
		say(3, 0)
		states[0] = protocol.PartState{Number: 1, Size: 20, Upload: "u"}
		expect("one is stored", 7)
		time.Sleep(movingFor + time.Second)
		expect("nothing is heard any more", 0)
		for number := range 10 * partsAhead {
			say(number+1, 1)
		}
		if len(m.parts) > 2*partsAhead {
			t.Errorf("%d parts are remembered", len(m.parts))
		}
	})
}

func TestShownProgressDoesNotGoBack(t *testing.T) {
	t.Parallel()
	var s shownProgress
	for _, step := range []struct{ begun, bytes, want int64 }{{1, 5, 5}, {1, 3, 5}, {1, 9, 9}, {2, 0, 0}, {2, 4, 4}} {
		if got := s.next(step.begun, step.bytes); got != step.want {
			t.Errorf("%d bytes of copy %d are told as %d, want %d", step.bytes, step.begun, got, step.want)
		}
	}
}

// TestProgressOfPartsGoesOn over a change of the owner: the next one tells what is stored already, of the same copy.
func TestProgressOfPartsGoesOn(t *testing.T) {
	t.Parallel()
	data, dest := bytesOf(manyParts, 3), &memory.Destination{}
	// The first three whole parts pass, whichever they are: one that was handed back comes behind the others, and those that are held have all
	// slots then.
	const whole = manyParts / testPart
	gate, passed := make(chan struct{}), atomic.Int32{}
	open := sync.OnceFunc(func() { close(gate) })
	defer open() // if this test fails: workers end when their parts do
	k := newPartsKit(t, sourceOf(data), gated{dest, func(number int) error {
		if number > whole || passed.Add(1) > 3 {
			<-gate
		}
		return nil
	}})
	news, unwatch, err := k.conn.WatchProgress(k.ref.Org, k.ref.Batch)
	if err != nil {
		t.Fatal(err)
	}
	defer unwatch()
	told := func(by string, least int64) protocol.Progress {
		t.Helper()
		limit := time.After(partsLimit)
		for {
			select {
			case data := <-news:
				var p protocol.Progress
				if err := json.Unmarshal(data, &p); err != nil {
					t.Fatal(err)
				}
				if p.Part != 0 || p.Size == nil || *p.Size != manyParts || p.Bytes > manyParts {
					t.Fatalf("progress %+v", p)
				}
				if p.Worker == by && p.Bytes >= least {
					return p
				}
			case <-limit:
				t.Fatalf("%s does not tell of %d bytes", by, least)
			}
		}
	}
	stop := k.run(t, k.spreading("w1"))
	k.publish(t, nil)
	first := told("w1", 3*testPart)
	go stop()
	k.run(t, k.spreading("w2"))
	second := told("w2", 1)
	if !second.Begun.Equal(first.Begun) || second.Begun.IsZero() || second.Bytes < 3*testPart {
		t.Errorf("it was %+v and is %+v", first, second)
	}
	open()
	r := k.final(t)
	k.arrived(t, dest, &r, data)
}

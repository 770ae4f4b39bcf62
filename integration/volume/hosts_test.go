package volume

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// at makes a batch of n items of a host.
func at(peer *mixtest.Peer, name string, n int) mixtest.Batch {
	batch := make(mixtest.Batch, n)
	for i := range batch {
		path := fmt.Sprintf("/%s/%d.txt", name, i)
		batch[i] = mixtest.Copy{ID: fmt.Sprintf("%s-%d", name, i), Content: fmt.Appendf(nil, "item %d of %s", i, name), Dest: mixtest.ToSandbox("/out" + path)}
		batch[i].Src = mixtest.FromURL(peer.Give("/get"+path, batch[i].Content))
	}
	return batch
}

// away waits until so many items of a batch are put away for their host, and returns all receipts.
func away(t *testing.T, f *mixtest.Fleet, id string, n int) []protocol.Receipt {
	t.Helper()
	var receipts []protocol.Receipt
	waiting := 0
	if !mixtest.Until(limit, func() bool {
		var err error
		receipts, err = f.API.Receipts(t.Context(), id)
		waiting = 0
		for i := range receipts {
			if receipts[i].Failure != nil && receipts[i].Failure.Code == "host_rest" {
				waiting++
			}
		}
		return err == nil && waiting >= n
	}) {
		t.Fatalf("%d of %d items wait for their host, must be %d", waiting, len(receipts), n)
	}
	return receipts
}

// TestSlowHostHoldsNobodyBack submits items of a host that begins its answers and does not end them, more than there are slots for, and then
// items of one that answers at once: all of these end before any of the slow one does.
func TestSlowHostHoldsNobodyBack(t *testing.T) {
	t.Parallel()
	f, _ := up(t, "SLOTS=16", "IDLE_TIMEOUT=10m") // the slow ones are to stay with their host for as long as the fast ones take
	slow, fast := mixtest.NewPeer(t), mixtest.NewPeer(t)
	const n = 200
	gate := make(chan struct{})
	waits, batch := at(slow, "slow", n), at(fast, "fast", n)
	for i := range waits {
		slow.GiveHalf(fmt.Sprintf("/get/slow/%d.txt", i), waits[i].Content, gate)
	}
	id := f.Submit(t, waits, "")
	if !mixtest.Until(limit, func() bool { return slow.AskedBelow("/get/slow/") > 0 }) {
		t.Fatal("the slow host was not asked")
	}
	f.API.WaitFinal(t, f.Submit(t, batch, ""), limit) // hidden files of the slow one's items are there yet
	if view, err := f.API.Batch(t.Context(), id); err != nil || view.Ended() > 0 {
		t.Errorf("%+v, %v", view, err)
	}
	close(gate)
	f.Check(t, id, waits, limit)
}

// TestStoppedWhileItemsWaitForTheirHost has half of a batch wait for a host that refuses connections, beside a host that works. A pause, and
// a cancel, take what waits out of the queue; after a resume it comes again; of a batch that was canceled nothing is left.
func TestStoppedWhileItemsWaitForTheirHost(t *testing.T) {
	t.Parallel()
	f, _ := roles(t, "RETENTION=30s", "SLOTS=16") // long enough to look at what has ended
	js := f.JetStream(t)
	planned := func(id string) int {
		n := 0
		for _, trace := range traces(t, js, id) {
			if strings.HasPrefix(trace, "CF_RETRY") {
				n++
			}
		}
		return n
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	_ = listener.Close() // its port refuses from now on
	const each = 200
	healthy := at(f.Peer, "healthy", each)
	dead := at(f.Peer, "dead", each)
	for i := range dead {
		dead[i].Src = mixtest.FromURL(fmt.Sprintf("http://%s/dead/%d", nobody, i))
	}
	batch := slices.Concat(healthy, dead)
	canceled := f.Submit(t, batch, "")
	charged := 0
	for _, r := range away(t, f, canceled, each-40) {
		charged += len(r.Attempts)
	}
	if charged > len(batch) {
		t.Errorf("%d attempts are charged to %d items, half of whose host is gone", charged, len(batch))
	}
	if !mixtest.Until(limit, func() bool {
		view, err := f.API.Batch(t.Context(), canceled)
		return err == nil && view.Counts["succeeded"] == each
	}) {
		t.Error("the items of the healthy host are held back")
	}
	checkCanceled(t, f, canceled, batch, f.API.Act(t, canceled, "cancel"))
	if n := planned(canceled); n > 0 {
		t.Errorf("%d messages of a canceled batch are planned", n)
	}

	failing := mixtest.NewPeer(t)
	failing.Fail(true)
	batch = at(failing, "comes-back", each)
	resumed := f.Submit(t, batch, "")
	away(t, f, resumed, each-40)
	f.API.Act(t, resumed, "pause")
	still(t, f, resumed)
	if !mixtest.Until(limit, func() bool { return planned(resumed) == 0 }) {
		t.Errorf("%d messages of a paused batch are planned", planned(resumed))
	}
	failing.Fail(false)
	f.API.Act(t, resumed, "resume")
	charged = 0
	for _, r := range f.Check(t, resumed, batch, limit) {
		charged += len(r.Attempts)
	}
	if charged > each+80 {
		t.Errorf("%d attempts are charged to %d items", charged, each)
	}
	for _, id := range []string{canceled, resumed} {
		if !mixtest.Until(limit, func() bool { return len(traces(t, js, id)) == 0 }) {
			t.Errorf("left of %s: %q", id, traces(t, js, id))
		}
	}
}

// TestSlowHostTakesNoMoreThanItsShare copies from a host that has not answered when all items of another one have ended, in one batch and in the
// slots of one worker. The fast host's items have what the slow one's leave, in whatever order they come: if these took all slots, nothing would end.
func TestSlowHostTakesNoMoreThanItsShare(t *testing.T) {
	t.Parallel()
	const slots, waiting, quick = 16, 160, 800
	for _, order := range []string{"taking turns", "slow ones first"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			f, _ := up(t, "SLOTS="+strconv.Itoa(slots), "HEADER_TIMEOUT=10m", "IDLE_TIMEOUT=10m", mixtest.Steady)
			slow, fast := mixtest.NewPeer(t), mixtest.NewPeer(t)
			answers := make(chan struct{})
			slowly := at(slow, "slow", waiting)
			for i := range slowly {
				slow.GiveLate(fmt.Sprintf("/get/slow/%d.txt", i), slowly[i].Content, answers)
			}
			batch := slices.Concat(slowly, at(fast, "fast", quick))
			if order == "taking turns" {
				each := len(batch) / len(slowly)
				mixed := make(mixtest.Batch, 0, len(batch))
				for i := range slowly {
					mixed = append(append(mixed, slowly[i]), batch[len(slowly)+i*(each-1):len(slowly)+(i+1)*(each-1)]...)
				}
				batch = mixed
			}
			begun := time.Now()
			id := f.Submit(t, batch, "")
			ended := func() int {
				view, err := f.API.Batch(t.Context(), id)
				if err != nil {
					return 0
				}
				return view.Counts["succeeded"]
			}
			if !mixtest.Until(limit, func() bool { return ended() == quick }) {
				t.Fatalf("%d of %d items of the fast host have ended", ended(), quick)
			}
			if n := slow.AskedBelow("/get/slow/"); n > slots {
				t.Errorf("%d items are with the slow host, in %d slots", n, slots)
			}
			t.Logf("%d fast items beside %d that wait took %s", quick, waiting, time.Since(begun))
			close(answers)
			f.Check(t, id, batch, limit)
		})
	}
}

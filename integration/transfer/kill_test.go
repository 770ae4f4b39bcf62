package transfer

import (
	"fmt"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// large is the size of a file in the middle of which something happens.
const large = 200 * mib

// pair gives a file under two names and asks for it in the sandbox and in the bucket.
func (f *fleet) pair(name string, file served) []item {
	items := []item{
		{id: name + "-sandbox", dest: mixtest.ToSandbox("/out/" + name + ".bin")},
		{id: name + "-object", dest: f.ToObject(name + ".bin")},
	}
	for i := range items {
		f.give("/"+items[i].id, file)
		items[i].src, items[i].content = f.from("/"+items[i].id), file.content
	}
	items[1].src = mixtest.FromURL(f.second + "/" + items[1].id)
	return items
}

func (f *fleet) file(i item) served {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.files["/"+i.id]
}

func TestWorkerKilledInTheMiddleOfALargeCopy(t *testing.T) {
	t.Parallel()
	for name, env := range map[string][]string{"one after the other": alone, "spread": small} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, miniotest.Shared(t), 1, env...)
			gate := make(chan struct{})
			items := f.pair("large", served{content: content{1, large}, rate: 100 * mib, holdAt: large / 2, gate: gate})
			id := f.submit(t, "", items...)
			for n := range items {
				f.stored(t, id, n, 10)
			}
			f.workers[0].Kill9(t)
			f.startWorker(t)
			close(gate)
			receipts := f.check(t, id, items...)
			for n, i := range items {
				r := &receipts[n]
				if r.ResumedFrom == 0 || r.Method != protocol.MethodParts || r.RestartReason != "" {
					t.Errorf("item %s: resumed from %d bytes, method %q, restarted for %q", i.id, r.ResumedFrom, r.Method, r.RestartReason)
				}
				if given := f.file(i).given.Load(); given > large*3/2 {
					t.Errorf("item %s: the source gave %d bytes of a file of %d", i.id, given, large)
				}
			}
			t.Logf("%d items, 1 fault (worker killed in the middle), 0 lost; %d bytes not moved again", len(items), resumed(receipts))
		})
	}
}

// TestEverythingKilledAtRandomMoments kills whatever runs, again and again, while large files are moved.
func TestEverythingKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	const kills = 5
	random := chance(t)
	f := newFleet(t, miniotest.Shared(t), 2, small...)
	var items []item
	for n := range 3 {
		items = append(items, f.pair(fmt.Sprint("f", n), served{content: content{uint64(n + 1), 48*mib + int64(n)}, rate: 12 * mib})...)
	}
	id := f.submit(t, "attempts=10", items...)
	for range kills {
		f.moves(t, id, int64(random.IntN(40*mib)))
		n := random.IntN(len(f.workers))
		f.workers[n].Kill9(t)
		f.workers = append(f.workers[:n], f.workers[n+1:]...)
		f.startWorker(t)
	}
	f.API.WaitFinal(t, id, settles)
	receipts, err := f.API.Receipts(t.Context(), id)
	if err != nil || len(receipts) != len(items) {
		t.Fatalf("%d receipts of %d items, %v", len(receipts), len(items), err)
	}
	given := 0
	for n, i := range items {
		r := &receipts[n]
		if r.State == protocol.ItemFailed && r.Failure.Class == protocol.Lost { // it ran at three of the kills, and is taken for their cause
			given++
			if size, sum := f.arrived(t, i); size >= 0 {
				t.Errorf("item %s failed, but its destination holds %d bytes, %s", i.id, size, sum)
			}
			continue
		}
		f.checkItem(t, r, i)
	}
	f.nothingLeft(t, items...)
	t.Logf("%d items, %d faults (workers killed at random moments), 0 lost; %d given up after three crashes; %d bytes not moved again",
		len(items), kills, given, resumed(receipts))
}

// moves waits until the sources gave so much more, or all is over.
func (f *fleet) moves(t *testing.T, id string, more int64) {
	t.Helper()
	from := f.givenInAll()
	if !mixtest.Until(comes, func() bool {
		if f.givenInAll() >= from+more {
			return true
		}
		view, err := f.API.Batch(t.Context(), id)
		return err == nil && view.State.Final()
	}) {
		t.Fatal("nothing moves any more")
	}
}

func (s *source) givenInAll() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var sum int64
	for _, f := range s.files {
		sum += f.given.Load()
	}
	return sum
}

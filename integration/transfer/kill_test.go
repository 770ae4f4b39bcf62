package transfer

import (
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

package crash

import (
	"bytes"
	"encoding/json"
	"syscall"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

const takesOver = 240 * time.Second // until another worker has an item whose owner fell silent

// halfDone is a batch that stops midway: one copy to each kind of destination, whose source gives half and waits for
// the gate. want is what must be at the destinations in the end.
func halfDone(f *mixtest.Fleet, old, want []byte, gate <-chan struct{}) mixtest.Batch {
	batch := mixtest.Batch{
		{ID: "to-sandbox", Dest: mixtest.ToSandbox("/out/half.bin")},
		{ID: "to-object", Dest: f.ToObject("half.bin")},
		{ID: "to-put", Dest: f.ToPut("/up/half.bin")},
	}
	for i := range batch {
		batch[i].Src = mixtest.FromURL(f.GiveHalf("/half/"+batch[i].ID, old, gate))
		batch[i].Content = want
	}
	return batch
}

// change lets the sources give something else from now on, all of it or half.
func change(f *mixtest.Fleet, batch mixtest.Batch, content []byte, gate <-chan struct{}) {
	for i := range batch {
		f.GiveHalf("/half/"+batch[i].ID, content, gate)
	}
}

// asked waits until every source of the batch was requested n times.
func asked(t *testing.T, f *mixtest.Fleet, batch mixtest.Batch, n int) {
	t.Helper()
	if !mixtest.Until(takesOver, func() bool {
		for i := range batch {
			if f.Asked("/half/"+batch[i].ID) < n {
				return false
			}
		}
		return true
	}) {
		t.Fatalf("the sources were asked %d times within %s, must be %d each", f.AskedBelow("/half/"), takesOver, n)
	}
}

// roles starts a fleet with one worker.
func roles(t *testing.T, env ...string) (f *mixtest.Fleet, worker *mixtest.Process) {
	t.Helper()
	f = mixtest.NewRoles(t, miniotest.Shared(t), env...)
	f.StartNATS(t)
	f.Start(t, "api")
	f.Start(t, "aggregator")
	worker = f.Start(t, "worker")
	return f, worker
}

func open() chan struct{} {
	gate := make(chan struct{})
	close(gate)
	return gate
}

var (
	oldBytes = bytes.Repeat([]byte("what the source held at first. "), 40_000)
	newBytes = bytes.Repeat([]byte("what it holds since. "), 50_000)
)

func TestWorkerKilledInMidTransfer(t *testing.T) {
	t.Parallel()
	f, first := roles(t)
	gate := make(chan struct{})
	batch := halfDone(f, oldBytes, oldBytes, gate)
	stop := f.Watch(t, batch)
	id := submit(t, f, batch)
	asked(t, f, batch, 1)
	if !mixtest.Until(takesOver, func() bool { return f.Hidden() == 1 }) {
		t.Fatal("no hidden file in mid-transfer: the kill would prove little")
	}
	first.Kill9(t)
	f.Start(t, "worker")
	asked(t, f, batch, 2)
	if charged := crashes(t, f); charged != len(batch) {
		t.Errorf("the claims charge %d crashes to the %d items of the dead worker", charged, len(batch))
	}
	close(gate)
	receipts := f.Check(t, id, batch, settles)
	stop()
	t.Logf("%d items, 1 fault (worker killed in mid-transfer), 0 lost", len(receipts))
}

// crashes sums up the crashes in the claims.
func crashes(t *testing.T, f *mixtest.Fleet) int {
	t.Helper()
	sum := 0
	for _, value := range f.Records(t, "cf-claims") {
		var claim protocol.Claim
		if err := json.Unmarshal(value, &claim); err != nil {
			t.Fatal(err)
		}
		for _, h := range claim.Held {
			sum += h.Crashes
		}
	}
	return sum
}

// A worker is frozen for longer than AckWait, another takes its items over, and the first one wakes up. Whatever it
// does then, the destinations must hold what the receipts tell.
func TestFrozenWorkerDoesNotReplaceWhatItsSuccessorMade(t *testing.T) {
	t.Parallel()
	t.Run("which is done", func(t *testing.T) {
		t.Parallel()
		f, first := roles(t)
		gate := make(chan struct{})
		batch := halfDone(f, oldBytes, newBytes, gate)
		stop := f.Watch(t, batch)
		id := submit(t, f, batch)
		asked(t, f, batch, 1)
		first.Signal(t, syscall.SIGSTOP)
		change(f, batch, newBytes, open())
		f.Start(t, "worker")
		f.API.WaitFinal(t, id, settles)
		other := f.Mixed(t, "other", 5) // its claim replaces the one that names the items
		f.Check(t, send(t, f, other).finish(t, f), other, settles)
		wake(t, first, gate)
		receipts := f.Check(t, id, batch, settles)
		stop()
		uploadedOnce(t, f)
		t.Logf("%d items, 1 fault (worker frozen until its successor was done), 0 lost", len(receipts))
	})
	t.Run("which is at work", func(t *testing.T) {
		t.Parallel()
		f, first := roles(t)
		gate, second := make(chan struct{}), make(chan struct{})
		batch := halfDone(f, oldBytes, newBytes, gate)
		stop := f.Watch(t, batch)
		id := submit(t, f, batch)
		asked(t, f, batch, 1)
		first.Signal(t, syscall.SIGSTOP)
		change(f, batch, newBytes, second)
		f.Start(t, "worker")
		asked(t, f, batch, 2)
		wake(t, first, gate)
		close(second)
		receipts := f.Check(t, id, batch, settles)
		stop()
		uploadedOnce(t, f)
		t.Logf("%d items, 1 fault (worker frozen while its successor worked), 0 lost", len(receipts))
	})
}

// wake lets a frozen worker go on with what it held, and ends it in order: then nothing of it is to come.
func wake(t *testing.T, p *mixtest.Process, gate chan struct{}) {
	t.Helper()
	close(gate)
	p.Signal(t, syscall.SIGCONT)
	p.Signal(t, syscall.SIGTERM)
	if code := p.Wait(t); code != 0 {
		t.Errorf("the worker that was frozen ended with exit code %d", code)
	}
}

func uploadedOnce(t *testing.T, f *mixtest.Fleet) {
	t.Helper()
	if n := len(f.Taken("/up/half.bin")); n != 1 {
		t.Errorf("%d whole uploads came, must be 1: the stale worker's must lack its last byte", n)
	}
}

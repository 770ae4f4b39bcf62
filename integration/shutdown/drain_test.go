package shutdown

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

const (
	begins  = 240 * time.Second // until what was sent runs
	settles = 240 * time.Second
)

// unhurried are the settings of fleets whose requests are counted: a source that waits for its gate is waited for.
var unhurried = []string{mixtest.Steady, "IDLE_TIMEOUT=10m"}

var slowBytes = bytes.Repeat([]byte("slow. "), 100_000)

// slow is a batch of one copy to each kind of destination, whose sources give half and wait for the gate.
func slow(f *mixtest.Fleet, gate <-chan struct{}) mixtest.Batch {
	batch := mixtest.Batch{
		{ID: "to-sandbox", Dest: mixtest.ToSandbox("/out/slow.bin")},
		{ID: "to-object", Dest: f.ToObject("slow.bin")},
		{ID: "to-put", Dest: f.ToPut("/up/slow.bin")},
	}
	for i := range batch {
		batch[i].Src = mixtest.FromURL(f.GiveHalf("/slow/"+batch[i].ID, slowBytes, gate))
		batch[i].Content = slowBytes
	}
	return batch
}

type answer struct {
	mixtest.Answer
	err error
}

// call makes the copy call in the background.
func call(t *testing.T, f *mixtest.Fleet, batch mixtest.Batch) <-chan answer {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	done := make(chan answer, 1)
	go func() {
		a, err := f.API.Copy(ctx, f.Sandbox, map[string]string{"Idempotency-Key": "k-" + batch[0].ID}, batch.Files())
		done <- answer{a, err}
	}()
	return done
}

func (a answer) must(t *testing.T, status int) {
	t.Helper()
	if a.err != nil || a.Status != status {
		t.Fatalf("the call was answered %d, %v, must be %d: %s", a.Status, a.err, status, a.Body)
	}
}

// mustSayShuttingDown checks the answer of a call that a shutdown ended, and returns its batch.
func (a answer) mustSayShuttingDown(t *testing.T) string {
	t.Helper()
	a.must(t, http.StatusServiceUnavailable)
	id, ok := strings.CutPrefix(a.Header.Get("Location"), "/v1/batches/")
	if !ok || id != a.Batch() || a.Header.Get("Retry-After") == "" || !bytes.Contains(a.Body, []byte(`"code":"shutting_down"`)) {
		t.Fatalf("the answer of a call that a shutdown ended: %v %s", a.Header, a.Body)
	}
	return id
}

// received waits for the answer of a call.
func received(t *testing.T, done <-chan answer) answer {
	t.Helper()
	select {
	case a := <-done:
		return a
	case <-time.After(settles):
		t.Fatalf("the call had neither an answer nor an error within %s", settles)
		return answer{}
	}
}

func running(t *testing.T, f *mixtest.Fleet, batch mixtest.Batch) {
	t.Helper()
	if !mixtest.Until(begins, func() bool { return f.AskedBelow("/slow/") >= len(batch) }) {
		t.Fatalf("%d of %d items began within %s", f.AskedBelow("/slow/"), len(batch), begins)
	}
}

// terminate asks a process to stop, waits until it has begun to, and returns a function that waits for its end.
func terminate(t *testing.T, p *mixtest.Process, signals ...syscall.Signal) {
	t.Helper()
	for _, sig := range signals {
		p.Signal(t, sig)
		if !mixtest.Until(begins, func() bool { return strings.Contains(p.Log(), "stopping") || p.Over() }) {
			t.Fatalf("%s does not say that it stops", p.Name)
		}
	}
}

func mustEndInOrder(t *testing.T, p *mixtest.Process) {
	t.Helper()
	if code := p.Wait(t); code != 0 {
		t.Errorf("%s ended with exit code %d", p.Name, code)
	}
}

func TestRunningItemsMayFinish(t *testing.T) {
	t.Parallel()
	for name, signals := range map[string][]syscall.Signal{
		"SIGTERM": {syscall.SIGTERM}, "SIGINT": {syscall.SIGINT}, "both": {syscall.SIGTERM, syscall.SIGINT, syscall.SIGTERM},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := mixtest.NewUp(t, unhurried...)
			up := f.Start(t, "up")
			gate := make(chan struct{})
			batch := slow(f, gate)
			done := call(t, f, batch)
			running(t, f, batch)
			terminate(t, up, signals...)
			close(gate)
			a := received(t, done)
			a.must(t, http.StatusOK)
			mustEndInOrder(t, up)
			f.Start(t, "up")
			for _, r := range f.Check(t, a.Batch(), batch, settles) {
				if len(r.Attempts) != 1 {
					t.Errorf("item %s: %d attempts", r.ID, len(r.Attempts))
				}
			}
			if n := f.AskedBelow("/slow/"); n != len(batch) {
				t.Errorf("the sources were asked %d times for %d items", n, len(batch))
			}
			t.Logf("%d items, 1 shutdown (%s), 0 lost, 0 repeated", len(batch), name)
		})
	}
}

func TestWhatOutlastsTheDrainIsHandedBack(t *testing.T) {
	t.Parallel()
	t.Run("by up", func(t *testing.T) {
		t.Parallel()
		f := mixtest.NewUp(t, append([]string{"DRAIN=1s"}, unhurried...)...)
		handBack(t, f, f.Start(t, "up"), "up", func(done <-chan answer) string { return received(t, done).mustSayShuttingDown(t) })
	})
	t.Run("by a worker", func(t *testing.T) {
		t.Parallel()
		// What is not handed back would not come again in this test.
		f := mixtest.NewRoles(t, miniotest.Shared(t), "DRAIN=1s", "ACK_WAIT=5m", "IDLE_TIMEOUT=10m")
		f.StartNATS(t)
		f.Start(t, "api")
		f.Start(t, "aggregator")
		handBack(t, f, f.Start(t, "worker"), "worker", nil)
	})
}

// handBack stops a process whose items outlast the drain, and starts another that runs them again. ended tells the batch of a
// call that the shutdown ends; nil: the call goes on.
func handBack(t *testing.T, f *mixtest.Fleet, p *mixtest.Process, role string, ended func(<-chan answer) string) {
	t.Helper()
	gate := make(chan struct{})
	batch := slow(f, gate)
	stop := f.Watch(t, batch)
	done := call(t, f, batch)
	running(t, f, batch)
	p.Signal(t, syscall.SIGTERM)
	id := ""
	if ended != nil {
		id = ended(done)
	}
	mustEndInOrder(t, p)
	f.CheckNothingHidden(t)
	close(gate)
	f.Start(t, role)
	if ended == nil {
		a := received(t, done)
		a.must(t, http.StatusOK)
		id = a.Batch()
	}
	for _, r := range f.Check(t, id, batch, settles) {
		if len(r.Attempts) != 1 {
			t.Errorf("item %s: handing it back was charged: %d attempts", r.ID, len(r.Attempts))
		}
	}
	stop()
	if n := f.AskedBelow("/slow/"); n != 2*len(batch) {
		t.Errorf("the sources were asked %d times for %d items that ran twice", n, len(batch))
	}
	t.Logf("%d items, 1 shutdown of %s that they outlast, 0 lost, 0 charged", len(batch), role)
}

func TestFrontStopsWhileItsCallWaits(t *testing.T) {
	t.Parallel()
	f := mixtest.NewRoles(t, miniotest.Shared(t), unhurried...)
	f.StartNATS(t)
	front := f.Start(t, "api")
	f.Start(t, "aggregator")
	f.Start(t, "worker")
	gate := make(chan struct{})
	batch := slow(f, gate)
	done := call(t, f, batch)
	running(t, f, batch)
	front.Signal(t, syscall.SIGTERM)
	id := received(t, done).mustSayShuttingDown(t)
	mustEndInOrder(t, front)
	close(gate)
	f.Start(t, "api")
	f.Check(t, id, batch, settles)
	if n := f.AskedBelow("/slow/"); n != len(batch) {
		t.Errorf("the sources were asked %d times for %d items", n, len(batch))
	}
	t.Logf("%d items, 1 shutdown of the front, 0 lost, 0 repeated", len(batch))
}

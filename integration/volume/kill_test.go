package volume

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// dies is how long a process that must die at its failpoint may take to come to it.
const dies = 240 * time.Second

// chance is a source of random moments whose seed the test's log tells.
func chance(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// accept submits a batch under a key until it is accepted, as its caller would: each time its front dies it calls again.
func accept(t *testing.T, f *mixtest.Fleet, batch mixtest.Batch, key string) string {
	t.Helper()
	lines := f.Lines(t, batch)
	var answer mixtest.Answer
	var err error
	if !mixtest.Until(limit, func() bool {
		answer, err = f.API.Post(t.Context(), "/v1/batches", mixtest.NDJSON, map[string]string{"Idempotency-Key": key}, bytes.NewReader(lines))
		return err == nil && answer.Status == http.StatusAccepted
	}) {
		t.Fatalf("not accepted: %d %v %s", answer.Status, err, answer.Body)
	}
	return answer.Batch()
}

// TestFrontKilledWhileAccepting kills the front at each step of accepting a large batch. The call repeated makes one batch, none of whose
// items runs twice.
func TestFrontKilledWhileAccepting(t *testing.T) {
	t.Parallel()
	f, running := roles(t, mixtest.Steady)
	items, faults := 0, 0
	for _, point := range []failpoint.Point{
		failpoint.AcceptRecorded, failpoint.AtomicStaged, failpoint.ManifestPageStored, failpoint.ManifestComplete, failpoint.AcceptanceComplete, failpoint.AnswerWritten,
	} {
		t.Run(string(point), func(t *testing.T) {
			batch := f.Small(string(point), 1000)
			lines := f.Lines(t, batch)
			kill(t, running, "api")
			doomed := f.Start(t, "api", "FAILPOINT="+string(point))
			_, _ = f.API.Post(t.Context(), "/v1/batches", mixtest.NDJSON, map[string]string{"Idempotency-Key": string(point)}, bytes.NewReader(lines))
			select {
			case <-doomed.Ended():
			case <-time.After(dies):
				t.Fatalf("the front did not come to %s", point)
			}
			if !doomed.Killed() {
				t.Fatalf("the front did not die at %s", point)
			}
			start(t, f, running, "api")
			f.Check(t, accept(t, f, batch, string(point)), batch, limit)
			if n := f.AskedBelow("/get/" + string(point) + "/"); n != len(batch) {
				t.Errorf("%d items were run %d times", len(batch), n)
			}
			items, faults = items+len(batch), faults+1
		})
	}
	t.Logf("%d items, %d faults (front killed while accepting), 0 lost", items, faults)
}

// TestFrontKilledInMidUpload kills the front while a manifest is coming in. Nothing of it runs before it has come wholly.
func TestFrontKilledInMidUpload(t *testing.T) {
	t.Parallel()
	random := chance(t)
	f, running := roles(t, mixtest.Steady)
	batch := f.Small("upload", 3000)
	lines := f.Lines(t, batch)
	const faults = 3
	for range faults {
		cut := random.IntN(len(lines))
		reached := make(chan struct{})
		body := io.MultiReader(bytes.NewReader(lines[:cut]), &dam{reached: reached, dead: running["api"].Ended()})
		ended := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer close(ended)
			_, _ = f.API.Post(ctx, "/v1/batches", mixtest.NDJSON, map[string]string{"Idempotency-Key": "upload"}, body)
		}()
		<-reached
		kill(t, running, "api")
		<-ended
		cancel()
		start(t, f, running, "api")
	}
	if n := f.AskedBelow("/get/upload/"); n > 0 {
		t.Errorf("%d items ran of a batch that was not accepted", n)
	}
	id := accept(t, f, batch, "upload")
	f.Check(t, id, batch, limit)
	if again := accept(t, f, batch, "upload"); again != id {
		t.Errorf("the call repeated is batch %s, was %s", again, id)
	}
	if n := f.AskedBelow("/get/upload/"); n != len(batch) {
		t.Errorf("%d items were run %d times", len(batch), n)
	}
	t.Logf("%d items, %d faults (front killed in mid-upload), 0 lost", len(batch), faults)
}

// dam is a body that says when it is read, and has no more to give.
type dam struct {
	reached chan struct{}
	dead    <-chan struct{}
}

func (d *dam) Read([]byte) (int, error) {
	close(d.reached)
	<-d.dead
	return 0, io.ErrUnexpectedEOF
}

// TestKilledAtRandomMoments kills each process of a fleet, and all at once, while several batches run.
func TestKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	random := chance(t)
	f, running := roles(t, "SLOTS=16")
	batches := map[string]mixtest.Batch{}
	const n = 1500
	for _, name := range []string{"a", "b"} {
		batches[name] = mixed(t, f, name, n)
	}
	ids := map[string]string{}
	for name, batch := range batches {
		ids[name] = accept(t, f, batch, name)
	}
	faults := [][]string{{"aggregator"}, {"worker"}, {"nats"}, {"api"}, {"aggregator", "worker"}, {"api", "aggregator", "worker", "nats"}}
	random.Shuffle(len(faults), func(i, k int) { faults[i], faults[k] = faults[k], faults[i] })
	for _, victims := range faults {
		moment(t, f, 1+random.IntN(2*n/8))
		kill(t, running, victims...)
		order := []string{"nats", "aggregator", "worker", "api"}
		for _, role := range order {
			if running[role].Over() {
				start(t, f, running, role)
			}
		}
		t.Logf("killed: %s; %d requests by then", strings.Join(victims, ", "), f.AskedBelow("/get/"))
	}
	for name, batch := range batches {
		if again := accept(t, f, batch, name); again != ids[name] {
			t.Errorf("the call repeated is batch %s, was %s", again, ids[name])
		}
		f.API.WaitFinal(t, ids[name], limit)
	}
	for name, batch := range batches {
		f.Check(t, ids[name], batch, limit)
	}
	t.Logf("%d items, %d faults, 0 lost", len(batches)*n, len(faults))
}

// moment waits until some more of the sources were asked, or no more come.
func moment(t *testing.T, f *mixtest.Fleet, more int) {
	t.Helper()
	from := f.AskedBelow("/get/")
	over := func() bool {
		var page struct {
			Items []mixtest.BatchView `json:"items"`
		}
		if f.API.Get(t.Context(), "/v1/batches", &page) != nil {
			return false
		}
		for i := range page.Items {
			if !page.Items[i].State.Final() {
				return false
			}
		}
		return true
	}
	if !mixtest.Until(limit, func() bool { return f.AskedBelow("/get/") >= from+more || over() }) {
		t.Fatal("nothing moves any more")
	}
}

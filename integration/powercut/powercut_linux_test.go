package powercut

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	cuts    = 4
	callers = 3
	items   = 40                // of a batch
	most    = 25                // batches between two cuts
	settles = 240 * time.Second // until everything has its outcome
)

// batch is one that a caller submitted, or began to.
type batch struct {
	mixtest.Batch

	key      string
	id       string             // "": there was no answer
	receipts []protocol.Receipt // that were read while it had ended, before a cut; nil: it had not
}

// TestPowerCuts takes the power away from "up" at random moments, while callers submit batches. What was answered with 202 is there afterwards and
// comes to its end, receipts that somebody read stay as they are, with the files and objects that they tell of, and a submission without an answer is repeated without harm.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	queue, files := newDisk(t), newDisk(t) // apart: a sync of a file's whole disk would store the queue as well
	if queue == nil || files == nil {
		t.Log("no file system can be mounted here: nothing was tried")
		return
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	f := mixtest.NewUpOn(t, queue.sub(t, "data"), files.sub(t, "sandboxes"))
	unix.Sync() // the sandbox was made here
	var all []*batch
	unanswered, ended := 0, 0
	for cut := range cuts {
		up := f.Start(t, "up")
		for _, b := range all {
			if b.id == "" {
				b.submit(t.Context(), t, f) // once more
				unanswered++
			}
		}
		all = append(all, work(t, f, up, cut, 1+random.IntN(most))...)
		for _, d := range []*disk{queue, files} {
			d.halt(t)
		}
		up.Kill9(t)
		for _, d := range []*disk{queue, files} {
			d.restart(t)
		}
	}
	f.Start(t, "up")
	for _, b := range all {
		if b.id == "" {
			b.submit(t.Context(), t, f)
			unanswered++
		}
		receipts := f.Check(t, b.id, b.Batch, settles)
		if b.receipts != nil {
			ended++
			if diff := cmp.Diff(b.receipts, receipts); diff != "" {
				t.Errorf("batch %s had ended before a cut, and its receipts are others now: %s", b.id, diff)
			}
		}
	}
	if ended == 0 {
		t.Error("no batch had ended before a cut: nothing is shown of receipts")
	}
	t.Logf("%d items, %d faults (power cut), 0 lost; %d of %d batches had ended before, %d submissions had no answer", len(all)*items, cuts, ended, len(all), unanswered)
}

// work has callers submit batches until so many were accepted, and freezes the fleet then, in the middle of whatever it does.
func work(t *testing.T, f *mixtest.Fleet, up *mixtest.Process, cut, enough int) []*batch {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), settles)
	defer stop()
	var mu sync.Mutex
	var begun []*batch
	accepted := make(chan struct{}, callers*most)
	var calling sync.WaitGroup
	for caller := range callers {
		calling.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				b := newBatch(f, fmt.Sprintf("%d-%d-%d", cut, caller, n))
				mu.Lock()
				begun = append(begun, b)
				mu.Unlock()
				if !b.submit(ctx, t, f) {
					return
				}
				accepted <- struct{}{}
				if n%2 == 0 {
					b.read(ctx, f)
				}
			}
		})
	}
	for range enough {
		select {
		case <-accepted:
		case <-ctx.Done():
			t.Errorf("%d batches were not accepted in time", enough)
		}
	}
	freeze(t, up)
	stop()
	calling.Wait()
	return begun
}

// freeze stops a process, and returns when none of its threads is in a call of the system any more.
func freeze(t *testing.T, p *mixtest.Process) {
	t.Helper()
	p.Signal(t, syscall.SIGSTOP)
	running := ""
	if !mixtest.Until(settles, func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.PID()))
		running = fmt.Sprint(threads, err)
		for _, thread := range threads {
			stat, err := os.ReadFile(thread)
			if _, rest, _ := bytes.Cut(stat, []byte(") ")); err == nil && !bytes.HasPrefix(rest, []byte("T")) {
				running = string(stat)
				return false
			}
		}
		return err == nil && len(threads) > 0
	}) {
		t.Fatalf("the process runs still: %s", running)
	}
}

// newBatch makes a batch of little files and objects, whose names tell their place.
func newBatch(f *mixtest.Fleet, name string) *batch {
	b := &batch{key: name, Batch: make(mixtest.Batch, items)}
	for i := range b.Batch {
		path := fmt.Sprintf("%s/%d.txt", name, i)
		c := mixtest.Copy{ID: fmt.Sprintf("%s-%d", name, i), Content: fmt.Appendf(nil, "item %d of %s", i, name)}
		c.MayFail = protocol.Lost // one that ran at each of three cuts is taken for their cause
		c.Src, c.Dest = mixtest.FromURL(f.Give("/get/"+path, c.Content)), mixtest.ToSandbox("/out/"+path)
		if i%8 == 0 {
			c.Dest = f.ToObject(path)
		}
		b.Batch[i] = c
	}
	return b
}

// submit submits a batch, and reports whether it was accepted. What was not has no answer: the context has ended.
func (b *batch) submit(ctx context.Context, t *testing.T, f *mixtest.Fleet) bool {
	t.Helper()
	header := map[string]string{"Idempotency-Key": b.key}
	answer, err := f.API.Post(ctx, "/v1/batches", mixtest.NDJSON, header, bytes.NewReader(f.Lines(t, b.Batch)))
	switch {
	case err != nil && ctx.Err() != nil:
		return false
	case err != nil || answer.Status != http.StatusAccepted:
		t.Errorf("batch %s was not accepted: status %d, %v: %s", b.key, answer.Status, err, answer.Body)
		return false
	}
	b.id = answer.Batch()
	return true
}

// read waits for the end of a batch, and notes its receipts, unless the context ends before.
func (b *batch) read(ctx context.Context, f *mixtest.Fleet) {
	if !mixtest.Until(settles, func() bool {
		view, err := f.API.Batch(ctx, b.id)
		return ctx.Err() != nil || err == nil && view.State.Final()
	}) {
		return
	}
	if receipts, err := f.API.Receipts(ctx, b.id); err == nil {
		b.receipts = receipts
	}
}

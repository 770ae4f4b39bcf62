package worker

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// unwatched is a worker whose watch of what is wanted of batches never delivers anything, and whose claims do not grow old, for nobody keeps them.
func unwatched(t *testing.T) *Worker {
	t.Helper()
	w, err := New(t.Context(), Config{ID: "w1", PauseGrace: time.Hour}, brokerWaiting(t, time.Hour), Drivers{}, sealerFor(t))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// claim claims an item of the batch b.
func (w *Worker) claim(t *testing.T) *job {
	t.Helper()
	j := &job{work: protocol.Work{Org: "O", Batch: "b"}, delivery: &broker.Delivery{Asked: time.Now()}, clearance: newClearance()}
	j.ctx, j.cancel = context.WithCancelCause(t.Context())
	if !w.claims.reserve(j) {
		t.Fatal("it is held already")
	}
	if err := w.claims.add(t.Context(), []*job{j}, func() {}); err != nil {
		t.Fatal(err)
	}
	return j
}

func (w *Worker) want(t *testing.T, wanted protocol.Wanted) {
	t.Helper()
	value, err := protocol.Encode(protocol.Control{Version: protocol.ControlVersion, Org: "O", Batch: "b", Wanted: wanted})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.controls.bucket.Put(t.Context(), protocol.ControlKey("O", "b"), value); err != nil {
		t.Fatal(err)
	}
}

func TestStaleWatchCannotCommit(t *testing.T) {
	t.Parallel()
	w := unwatched(t)
	w.want(t, protocol.WantStop)
	j := w.claim(t)
	asked := make(chan error)
	go func() { asked <- w.fence(j.ctx, j) }() // the bytes are there before the answer is
	w.controls.confirm(t.Context(), j.clearance, []*job{j})
	if err := <-asked; !errors.Is(err, errStopped) {
		t.Errorf("the fence says %v", err)
	}
}

func TestRunningBatchPassesTheFence(t *testing.T) {
	t.Parallel()
	w := unwatched(t)
	for _, wanted := range []protocol.Wanted{"", protocol.WantPause, protocol.WantRun} { // a paused one has its grace
		if wanted != "" {
			w.want(t, wanted)
		}
		j := w.claim(t)
		w.controls.confirm(t.Context(), j.clearance, []*job{j})
		if err := w.fence(j.ctx, j); err != nil {
			t.Errorf("wanted %q: %v", wanted, err)
		}
		w.claims.drop(j.held)
	}
}

// TestPauseThatIsOverdueBreaksOffAtOnce claims an item of a batch whose grace is over.
func TestPauseThatIsOverdueBreaksOffAtOnce(t *testing.T) {
	t.Parallel()
	w := unwatched(t)
	w.want(t, protocol.WantPause)
	if err := w.controls.read(t.Context(), batchName{"O", "b"}); err != nil {
		t.Fatal(err)
	}
	if over, _ := w.controls.overdue(time.Now().Add(2 * time.Hour)); len(over) != 1 {
		t.Fatalf("%d batches are overdue", len(over))
	}
	j := w.claim(t)
	w.controls.confirm(t.Context(), j.clearance, []*job{j})
	if err := w.fence(j.ctx, j); !errors.Is(err, errPaused) {
		t.Errorf("the fence says %v", err)
	}
}

func TestWhatCannotBeConfirmedIsNotCommitted(t *testing.T) {
	t.Parallel()
	w := unwatched(t)
	j := w.claim(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	w.controls.confirm(gone, j.clearance, []*job{j})
	if err := w.fence(j.ctx, j); err != nil {
		t.Errorf("a second look is to decide: %v", err)
	}
	w.want(t, protocol.WantStop)
	if err := w.fence(j.ctx, j); !errors.Is(err, errStopped) {
		t.Errorf("the second look says %v", err)
	}
	other := &job{work: protocol.Work{Org: "O", Batch: "other"}, clearance: j.clearance}
	j.clearance.failed[nameOf(&other.work)] = errUnconfirmed
	if err := w.controls.clear(gone, other); !errors.Is(err, errUnconfirmed) && !errors.Is(err, context.Canceled) {
		t.Errorf("without an answer: %v", err)
	}
}

// TestOldClaimDoesNotCount lets the record of a worker grow old, so that who stops a batch takes the worker for dead.
func TestOldClaimDoesNotCount(t *testing.T) {
	t.Parallel()
	w := unwatched(t)
	j := w.claim(t)
	w.controls.confirm(t.Context(), j.clearance, []*job{j})
	w.want(t, protocol.WantStop)
	if err := w.fence(j.ctx, j); err != nil {
		t.Fatalf("with a fresh claim, of which the stop takes notice: %v", err)
	}
	w.claims.mu.Lock()
	w.claims.written = time.Now().Add(-w.conn.AckWait())
	w.claims.mu.Unlock()
	if err := w.fence(j.ctx, j); !errors.Is(err, errStopped) {
		t.Errorf("the fence says %v", err)
	}
	if w.claims.age() >= w.conn.AckWait() {
		t.Error("the claim was not written anew")
	}
}

// TestStalePauseDoesNotDropWhatWasFedAfterAResume looks at an item with a watch that does not know of the resume yet.
func TestStalePauseDoesNotDropWhatWasFedAfterAResume(t *testing.T) {
	t.Parallel()
	w := unwatched(t)
	work := protocol.Work{Org: "O", Batch: "b"}
	w.want(t, protocol.WantPause)
	if err := w.controls.read(t.Context(), nameOf(&work)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		wanted protocol.Wanted
		drop   bool
	}{{protocol.WantPause, true}, {protocol.WantRun, false}} {
		w.want(t, c.wanted)
		j := &job{work: work, delivery: &broker.Delivery{}}
		drop, err := w.unwanted(t.Context(), j, map[batchName]bool{})
		if err != nil || drop != c.drop {
			t.Errorf("wanted %s: dropped %t, %v", c.wanted, drop, err)
		}
	}
}

func TestStoppedBatchIsStillToldOf(t *testing.T) {
	t.Parallel()
	w := unwatched(t)
	w.controls.note(batchName{"O", "b"}, protocol.WantStop, 1)
	for _, c := range []struct {
		name        string
		work        protocol.Work
		repeated    bool
		drop, sweep bool
	}{
		{name: "item", drop: true},
		{name: "item that a dead worker may have had", repeated: true, sweep: true},
		{name: "notice", work: protocol.Work{Kind: protocol.KindWebhook, Index: protocol.WebhookIndex}},
	} {
		j := &job{work: c.work, delivery: &broker.Delivery{Repeated: c.repeated}}
		j.work.Org, j.work.Batch = "O", "b"
		drop, err := w.unwanted(t.Context(), j, nil)
		if err != nil || drop != c.drop || j.sweep != c.sweep {
			t.Errorf("%s: dropped %t, only swept %t, %v", c.name, drop, j.sweep, err)
		}
	}
}

// TestWhatIsFedToBeRemovedIsNotDropped looks at items that are fed after the stop of a batch, for what dead owners left of them to be removed, with
// a watch that knows of a pause only, or of nothing.
func TestWhatIsFedToBeRemovedIsNotDropped(t *testing.T) {
	t.Parallel()
	for _, known := range []protocol.Wanted{"", protocol.WantPause} {
		w := unwatched(t)
		name := batchName{"O", "b"}
		if known != "" {
			w.want(t, known)
			if err := w.controls.read(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		w.want(t, protocol.WantStop)
		value, err := protocol.Encode(protocol.Summary{
			Version: protocol.SummaryVersion, Org: name.org, Batch: name.batch, Total: 3, State: protocol.BatchCanceled, Rest: protocol.ItemCanceled,
			Receipts: []protocol.Receipt{{Index: 2, State: protocol.ItemSucceeded}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.settled.bucket.Put(t.Context(), protocol.SummaryKey(name.org, name.batch), value); err != nil {
			t.Fatal(err)
		}
		w.settled.delivered()
		paused := map[batchName]bool{}
		for index := range 2 {
			j := &job{work: protocol.Work{Org: name.org, Batch: name.batch, Index: index, Total: 3, Recheck: true}, delivery: &broker.Delivery{}}
			drop, err := w.unwanted(t.Context(), j, paused)
			if err != nil || drop || !j.sweep {
				t.Errorf("%q is known: item %d: dropped %t, only swept %t, %v", known, index, drop, j.sweep, err)
			}
		}
	}
}

// TestBatchThatGetsTheIDOfAStoppedOneRuns removes what is wanted of a batch, as retention does.
func TestBatchThatGetsTheIDOfAStoppedOneRuns(t *testing.T) {
	t.Parallel()
	w := unwatched(t)
	following, end := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.controls.follow(following)
	}()
	defer func() { end(); <-ended }()
	becomes := func(wanted protocol.Wanted) {
		t.Helper()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for limit := time.After(3 * time.Minute); w.controls.wanted(batchName{"O", "b"}) != wanted; {
			select {
			case <-tick.C:
			case <-limit:
				t.Fatalf("it did not become %s", wanted)
			}
		}
	}
	w.want(t, protocol.WantStop)
	becomes(protocol.WantStop)
	entry, err := w.controls.bucket.Get(t.Context(), protocol.ControlKey("O", "b"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.controls.bucket.DeleteAt(t.Context(), entry.Key, entry.Revision); err != nil {
		t.Fatal(err)
	}
	becomes(protocol.WantRun)
}

// TestRecordIsWrittenWhenSomebodyWaitsForIt ends an item in order in a batch that somebody paused or stopped, as its last one here: until the record
// is written, its worker seems to be at it.
func TestRecordIsWrittenWhenSomebodyWaitsForIt(t *testing.T) {
	t.Parallel()
	name := batchName{"O", "b"}
	for _, c := range []struct {
		wanted protocol.Wanted
		before bool // it is known before the item ends, or right after
		write  bool
	}{
		{protocol.WantRun, true, false}, {protocol.WantRun, false, false},
		{protocol.WantPause, true, true}, {protocol.WantPause, false, true},
		{protocol.WantStop, true, true}, {protocol.WantStop, false, true},
	} {
		w := unwatched(t)
		j := w.claim(t)
		if c.before {
			w.controls.note(name, c.wanted, 1)
		}
		w.letGo([]*job{j})
		if !c.before {
			w.controls.note(name, c.wanted, 1)
		}
		written := false
		select {
		case <-w.claims.untidy:
			written = true
		default:
		}
		if written != c.write {
			t.Errorf("%s, known before: %v: the record is written: %v", c.wanted, c.before, written)
		}
	}
}

package target_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/target"
	"github.com/copyfleet/copyfleet/protocol"
)

// event is a batch as its events tell it.
func event(state string, ended int) string {
	return fmt.Sprintf("id: %d-%s\nevent: batch\ndata: {\"id\":%q,\"org\":\"ORG-1\",\"state\":%q,\"counts\":{\"succeeded\":%d}}\n\n", ended, state, batchID, state, ended)
}

// batches answers for one batch of copies, of which as many have ended as the events have told.
type batches struct {
	total int
	ended int      // of the items
	began int      // streams
	gate  chan int // lets items end
	size  int64
	mu    sync.Mutex
}

func (b *batches) answers() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		newBatch:  text(http.StatusAccepted, `{"id":"`+batchID+`","org":"ORG-1","state":"queued"}`),
		stopCall:  text(http.StatusOK, "{}"),
		heard:     b.stream,
		itemsCall: b.items,
		oneBatch: func(w http.ResponseWriter, _ *http.Request) {
			_, data, _ := strings.Cut(event("running", b.count()), "data: ")
			_, _ = io.WriteString(w, data)
		},
	}
}

func (b *batches) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

func (b *batches) stream(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	b.began++
	b.mu.Unlock()
	for {
		select {
		case n, more := <-b.gate:
			if !more {
				return
			}
			b.mu.Lock()
			b.ended = n
			b.mu.Unlock()
			state := "running"
			if n == b.total {
				state = "succeeded"
			}
			_, _ = io.WriteString(w, ": comment\n\nevent: item\ndata: {}\n\n"+event(state, n))
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

func (b *batches) items(w http.ResponseWriter, _ *http.Request) {
	list := make([]protocol.Receipt, b.total)
	for i := range list {
		list[i] = protocol.Receipt{Index: i, State: protocol.ItemQueued}
		if i < b.count() {
			list[i] = protocol.Receipt{Index: i, State: protocol.ItemSucceeded, Bytes: b.size, Verified: true, Attempts: []protocol.Attempt{{Worker: "w1"}}}
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"items": list})
}

func inBatches(n int) func(*target.FleetConfig) {
	return func(c *target.FleetConfig) { c.Batch, c.Linger = n, time.Hour }
}

// start begins copies at once and returns where their results come.
func start(ctx context.Context, f *target.Fleet, n int) chan loadtest.Result {
	results := make(chan loadtest.Result, n)
	for i := range n {
		go func() { results <- f.Do(ctx, copyOf(uint64(i))) }()
	}
	return results
}

func next(t *testing.T, results chan loadtest.Result) loadtest.Result {
	t.Helper()
	select {
	case r := <-results:
		return r
	case <-time.After(limit):
		t.Fatal("no copy ended")
		return loadtest.Result{}
	}
}

// A copy of a batch ends when it has ended itself, not when all have; the batch is asked for once, and followed once.
func TestCopiesOfABatchEndOneByOne(t *testing.T) {
	t.Parallel()
	b := &batches{total: 3, gate: make(chan int), size: 100}
	a := newAPI(t, b.answers())
	results := start(t.Context(), a.target(t, inBatches(3)), 3)
	for n := range 3 {
		b.gate <- n + 1
		if r := next(t, results); r.Fault != nil || r.Host != "w1" {
			t.Errorf("copy %d: %+v", n, r)
		}
		if n < 2 && len(results) > 0 {
			t.Error("a copy ended before it had")
		}
	}
	if a.called(newBatch) != 1 || a.called(heard) != 1 || strings.Count(a.bodies[0], "\n") != 3 || strings.Count(a.bodies[0], `"size":100,"conflict":"overwrite"`) != 3 {
		t.Errorf("%v: %s", a.calls, a.bodies[0])
	}
}

// Copies wait for others only as long as they may.
func TestABatchIsSentThoughItIsNotFull(t *testing.T) {
	t.Parallel()
	b := &batches{total: 2, gate: make(chan int, 1), size: 100}
	a := newAPI(t, b.answers())
	f := a.target(t, func(c *target.FleetConfig) { c.Batch, c.Linger = 1000, 5*time.Second })
	b.gate <- 2
	results := start(t.Context(), f, 2)
	for range 2 {
		if r := next(t, results); r.Fault != nil {
			t.Errorf("%+v", r)
		}
	}
	if a.called(newBatch) != 1 {
		t.Errorf("%v", a.calls)
	}
}

// Events that break off are followed again where they were; what they did not tell is looked at.
func TestABatchIsFollowedAgain(t *testing.T) {
	t.Parallel()
	b := &batches{total: 2, gate: make(chan int), size: 100}
	a := newAPI(t, b.answers())
	var ids []string
	a.answers[heard] = func(w http.ResponseWriter, r *http.Request) {
		ids = append(ids, r.Header.Get("Last-Event-ID"))
		if len(ids) == 1 {
			_, _ = io.WriteString(w, event("running", 0)+"id: x\nevent: batch\ndata: {")
			b.mu.Lock()
			b.ended = 1
			b.mu.Unlock()
			return
		}
		b.stream(w, r)
	}
	results := start(t.Context(), a.target(t, inBatches(2)), 2)
	if r := next(t, results); r.Fault != nil {
		t.Errorf("%+v", r)
	}
	b.gate <- 2
	if r := next(t, results); r.Fault != nil {
		t.Errorf("%+v", r)
	}
	if !slices.Equal(ids, []string{"", "0-running"}) {
		t.Errorf("%q", ids)
	}
}

// However the API fails, each copy of a batch has an end, and the batch does not go on.
func TestEveryCopyOfABatchEnds(t *testing.T) {
	t.Parallel()
	plain := func(b *batches) map[string]http.HandlerFunc { return b.answers() }
	with := func(call string, answer http.HandlerFunc) func(*batches) map[string]http.HandlerFunc {
		return func(b *batches) map[string]http.HandlerFunc {
			answers := b.answers()
			answers[call] = answer
			return answers
		}
	}
	abort := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for name, c := range map[string]struct {
		answers     func(*batches) map[string]http.HandlerFunc
		size        int64
		class, code string
		down, stops bool
	}{
		"wrong sizes":       {plain, 99, "corrupt", "wrong_length", false, false},
		"throttled":         {with(newBatch, func(w http.ResponseWriter, _ *http.Request) { refuse(w, 429, "queue_full", "full") }), 100, "throttled", "queue_full", false, false},
		"lost":              {with(newBatch, abort), 100, "interrupted", "api_broken_off", true, false},
		"no batch":          {with(newBatch, text(202, `{"id":"../../x","org":"o"}`)), 100, "invalid", "unknown_answer", false, false},
		"no org":            {with(newBatch, text(202, `{"id":"`+batchID+`","org":"../x"}`)), 100, "invalid", "unknown_answer", false, false},
		"no events":         {with(heard, func(w http.ResponseWriter, _ *http.Request) { refuse(w, 503, "busy", "too many") }), 100, "unavailable", "busy", false, false},
		"events end":        {with(heard, text(200, "")), 100, "interrupted", "api_broken_off", true, false},
		"other events":      {with(heard, text(200, strings.Repeat("data: {}\n\n", 100))), 100, "interrupted", "api_broken_off", true, false},
		"no items":          {with(itemsCall, text(200, `{"items":[]}`)), 100, "invalid", "unknown_answer", false, true},
		"API dies":          {with(itemsCall, abort), 100, "interrupted", "api_broken_off", true, false},
		"final, not ended":  {with(itemsCall, text(200, `{"items":[{"state":"running"},{"state":"queued"}]}`)), 100, "internal", "not_copied", false, false},
		"the batch is gone": {with(itemsCall, func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404, "batch_not_found", "gone") }), 100, "not_found", "batch_not_found", false, false},
	} {
		b := &batches{total: 2, gate: make(chan int, 1), size: c.size}
		b.gate <- 2
		a := newAPI(t, c.answers(b))
		f := a.target(t, inBatches(2))
		results := start(t.Context(), f, 2)
		for range 2 {
			if r := next(t, results); r.Fault == nil || r.Fault.Class != c.class || r.Fault.Code != c.code || r.Down != c.down {
				t.Errorf("%s: %+v, down %v", name, r.Fault, r.Down)
			}
		}
		f.Close()
		if (a.called(stopCall) > 0) != c.stops {
			t.Errorf("%s: %v", name, a.calls)
		}
	}
}

// When the run ends, what is under way is canceled before its copies end.
func TestABatchThatIsGivenUpIsCanceled(t *testing.T) {
	t.Parallel()
	b := &batches{total: 2, gate: make(chan int), size: 100}
	a := newAPI(t, b.answers())
	f := a.target(t, inBatches(2))
	ctx, cancel := context.WithCancel(t.Context())
	results := start(ctx, f, 2)
	b.gate <- 1
	if r := next(t, results); r.Fault != nil {
		t.Errorf("%+v", r)
	}
	cancel()
	if r := next(t, results); r.Fault == nil || r.Fault.Code != "given_up" {
		t.Errorf("%+v", r)
	}
	if a.called(stopCall) != 1 {
		t.Errorf("%v", a.calls)
	}
	// One that was not sent yet is never sent.
	again, stop := context.WithCancel(t.Context())
	alone := start(again, f, 1)
	stop()
	if r := next(t, alone); r.Fault == nil || a.called(newBatch) != 1 {
		t.Errorf("%+v, %v", r, a.calls)
	}
}

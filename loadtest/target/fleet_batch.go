package target

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/copyfleet/copyfleet/internal/sse"
	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/workload"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// batch is some copies that are asked for together.
type batch struct {
	copies []*pending
	timer  *time.Timer // sends it although it is not full
	sent   bool
	left   int // copies that somebody waits for
	ctx    context.Context
	stop   context.CancelFunc // when nobody waits any more
	done   chan struct{}      // closed when nobody follows it any more
}

// pending is one copy of a batch.
type pending struct {
	op    *workload.Op
	dest  string
	ended chan loadtest.Result // takes one; it is never waited for
	told  bool
}

// inBatch copies one object together with others.
func (f *Fleet) inBatch(ctx context.Context, op *workload.Op) loadtest.Result {
	p := &pending{op: op, dest: f.Destination(op.N), ended: make(chan loadtest.Result, 1)}
	b := f.enter(ctx, p)
	select {
	case result := <-p.ended:
		f.leave(b)
		return result
	case <-ctx.Done():
	}
	ended := time.Now()
	if last := f.leave(b); last {
		f.dispatch(b) // if it was not sent, it never is
		<-b.done      // else it is canceled
	}
	result := f.faulted(f.unreached(ctx, &request{method: http.MethodPost, path: batchesPath}, ctx.Err()))
	result.After = time.Since(ended)
	return result
}

// enter adds a copy to the batch that is open, and sends the batch when it is full.
func (f *Fleet) enter(ctx context.Context, p *pending) *batch {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.open
	if b == nil {
		b = &batch{done: make(chan struct{})}
		b.ctx, b.stop = context.WithCancel(context.WithoutCancel(ctx)) // it is not the first copy's alone
		f.running.Add(1)
		b.timer = time.AfterFunc(f.cfg.Linger, func() { f.dispatch(b) })
		f.open = b
	}
	b.copies = append(b.copies, p)
	b.left++
	if len(b.copies) == f.cfg.Batch {
		go f.dispatch(b)
		f.open = nil
	}
	return b
}

// leave says that nobody waits for one of the copies any more. It returns true if it was the last.
func (f *Fleet) leave(b *batch) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	b.left--
	if b.left > 0 {
		return false
	}
	if f.open == b {
		f.open = nil
	}
	b.stop()
	return true
}

// dispatch sends a batch, unless that was done, and follows it until it has ended or nobody waits for it.
func (f *Fleet) dispatch(b *batch) {
	f.mu.Lock()
	if f.open == b {
		f.open = nil
	}
	again := b.sent
	b.sent = true
	f.mu.Unlock()
	if again {
		return
	}
	b.timer.Stop()
	defer f.running.Done()
	defer close(b.done)
	if b.ctx.Err() != nil {
		return
	}
	f.run(b)
}

const batchesPath = "/v1/batches"

func batchPath(id protocol.BatchID) string { return batchesPath + "/" + string(id) }

// batchView is what is looked at of a batch.
type batchView struct {
	ID     protocol.BatchID    `json:"id"`
	Org    protocol.OrgID      `json:"org"`
	State  protocol.BatchState `json:"state"`
	Counts struct {
		Succeeded int `json:"succeeded"`
		Failed    int `json:"failed"`
		Canceled  int `json:"canceled"`
		Skipped   int `json:"skipped"`
	} `json:"counts"`
}

func (v *batchView) ended() int {
	return v.Counts.Succeeded + v.Counts.Failed + v.Counts.Canceled + v.Counts.Skipped
}

// manifestItem is a line of a manifest.
type manifestItem struct {
	copyFile

	Size     int64                   `json:"size"`
	Conflict protocol.ConflictPolicy `json:"conflict"`
}

// run makes a batch and tells its copies how they ended.
func (f *Fleet) run(b *batch) {
	r := request{method: http.MethodPost, path: batchesPath + "?label=" + url.QueryEscape("copyfleet bench"), media: "application/x-ndjson", key: f.another()}
	var manifest bytes.Buffer
	encoder := json.NewEncoder(&manifest)
	for _, p := range b.copies {
		item := manifestItem{copyFile: copyFile{ID: strconv.FormatUint(p.op.N, 10)}, Size: p.op.Object.Size, Conflict: protocol.Overwrite}
		item.Src, item.Dest = f.ends(p.op)
		if err := encoder.Encode(&item); err != nil {
			b.fail(f.faulted(err))
			return
		}
	}
	r.body = manifest.Bytes()
	asking, cancel := context.WithTimeout(b.ctx, answerTime)
	defer cancel()
	var view batchView
	if _, err := f.ask(asking, &r, &view); err != nil {
		b.fail(f.faulted(err))
		if org := f.org.Load(); org != nil {
			f.giveUp(b.ctx, err, &r, protocol.KeyedBatchID(*org, r.key))
		}
		return
	}
	if !view.ID.Valid() || !f.belongs(view.Org) {
		b.fail(f.faulted(f.unknownAnswer(&r, "it names no batch")))
		return
	}
	if err := f.follow(b, &view); err != nil {
		b.fail(f.faulted(err))
		f.giveUp(b.ctx, err, &r, view.ID)
	}
}

// fail ends all copies that have not ended.
func (b *batch) fail(result loadtest.Result) {
	for _, p := range b.copies {
		p.tell(result)
	}
}

func (p *pending) tell(result loadtest.Result) {
	if !p.told {
		p.told = true
		p.ended <- result
	}
}

const (
	quiet     = 40 * time.Second // without a word on a stream, which has a heartbeat every 15 s
	mostSilly = 3                // streams in a row that tell nothing
)

// follow hears of a batch until it has ended, and looks at its items when some of them have. A stream that breaks off is begun again where it was.
func (f *Fleet) follow(b *batch, view *batchView) error {
	known, silly, last := 0, 0, ""
	for {
		heard := 0
		err := f.hear(b.ctx, view.ID, &last, func(now *batchView) error {
			heard++
			if now.ended() == known && !now.State.Final() {
				return nil
			}
			known = now.ended()
			return f.look(b, now)
		})
		switch silly++; {
		case b.allTold():
			return nil
		case err != nil:
			return err
		case heard > 0:
			silly = 0
		case silly == mostSilly:
			return f.failed(&request{method: http.MethodGet, path: eventsPath(view.ID)},
				storage.Errorf(storage.Interrupted, "api_broken_off", "", "", "the events of the batch break off again and again"))
		}
		// What the stream did not tell may have happened all the same.
		var now batchView
		if err := f.view(b.ctx, view.ID, &now); err != nil {
			return err
		}
		if err := f.look(b, &now); err != nil {
			return err
		}
		if b.allTold() {
			return nil
		}
	}
}

func (b *batch) allTold() bool {
	for _, p := range b.copies {
		if !p.told {
			return false
		}
	}
	return true
}

func eventsPath(id protocol.BatchID) string { return batchPath(id) + "/events" }

// view asks for a batch.
func (f *Fleet) view(ctx context.Context, id protocol.BatchID, into *batchView) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	_, err := f.ask(ctx, &request{method: http.MethodGet, path: batchPath(id)}, into)
	return err
}

// hear follows the events of a batch until they end. That they break off is no error; that there are none is one.
func (f *Fleet) hear(ctx context.Context, id protocol.BatchID, last *string, tell func(*batchView) error) error {
	hearing, cancel := context.WithCancel(ctx)
	defer cancel()
	watchdog := time.AfterFunc(quiet, cancel)
	defer watchdog.Stop()
	resp, err := f.send(hearing, &request{method: http.MethodGet, path: eventsPath(id), after: *last})
	if err != nil && hearing.Err() != nil && ctx.Err() == nil {
		return nil // it is asked in another way
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	in := sse.NewReader(resp.Body, *last, func() { watchdog.Reset(quiet) })
	for {
		event, err := in.Next()
		if err != nil {
			return nil // what it means is found out by asking
		}
		var now batchView
		if event.Name != "batch" || json.Unmarshal(event.Data, &now) != nil {
			continue
		}
		*last = event.ID
		if err := tell(&now); err != nil || now.State.Final() {
			return err
		}
	}
}

// look reads the receipts of a batch, and tells those copies that have ended. Once the batch has, all have.
func (f *Fleet) look(b *batch, now *batchView) error {
	ctx, cancel := context.WithTimeout(b.ctx, answerTime)
	defer cancel()
	var page struct {
		Items []protocol.Receipt `json:"items"`
	}
	r := request{method: http.MethodGet, path: batchPath(now.ID) + "/items?limit=" + strconv.Itoa(MostBatch)}
	if _, err := f.ask(ctx, &r, &page); err != nil {
		return err
	}
	if len(page.Items) != len(b.copies) {
		return f.unknownAnswer(&r, "it has %d items of a batch of %d", len(page.Items), len(b.copies))
	}
	for i := range page.Items {
		receipt, p := &page.Items[i], b.copies[i]
		if !receipt.State.Final() && !now.State.Final() {
			continue
		}
		result := loadtest.Result{Host: f.host, Fault: f.outcome(receipt, p.op.Object.Size, p.dest)}
		if by := worker(receipt); by != "" {
			result.Host = by
		}
		p.tell(result)
	}
	return nil
}

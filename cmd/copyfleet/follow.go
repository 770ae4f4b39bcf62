package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/copyfleet/copyfleet/internal/sse"
	"github.com/copyfleet/copyfleet/protocol"
)

// follow waits for the end of a batch: by its stream of events, which it opens again where it broke off, and by asking wherever
// there is no stream (some proxies hold streams back).
type follow struct {
	api  *client
	id   string
	view view
	// throughPauses goes on waiting while the batch is paused.
	throughPauses bool

	last    *batch // the latest that is known
	eventID string
	away    time.Time // since when nothing answers; zero: something does
}

// view shows how a batch goes on. Its methods are called from one goroutine, and close once, at the end.
type view interface {
	batch(b *batch)
	item(p *itemProgress)
	note(text string)
	close(b *batch) error
}

// itemProgress is how far a large item is.
type itemProgress struct {
	Index  int       `json:"index"`
	ID     string    `json:"id"`
	Worker string    `json:"worker"`
	Bytes  int64     `json:"bytes"`
	Size   *int64    `json:"size"`
	Start  time.Time `json:"start"`
}

const (
	firstEvent = 5 * time.Second  // in which a stream must say something
	quiet      = 40 * time.Second // without a word on a stream, which has a heartbeat every 15 s
	firstPause = 250 * time.Millisecond
	longPause  = 5 * time.Second
	// awayLimit is how long an API that does not answer is waited for.
	awayLimit = 5 * time.Minute
)

// run returns when the batch has ended, when it stands still, or when there is no use in waiting any more. The batch's own end
// comes back as its outcome.
func (f *follow) run(ctx context.Context) error {
	// From the first Ctrl-C on, the next one ends this process at once.
	defer context.AfterFunc(ctx, func() { signal.Reset(syscall.SIGINT, syscall.SIGTERM) })()
	err := f.wait(ctx)
	if closed := f.view.close(f.last); err == nil {
		err = closed
	}
	switch {
	case ctx.Err() != nil && !f.over():
		return &exitError{code: exitCanceled, reason: "stopped_waiting", err: fmt.Errorf("stopped waiting; batch %s goes on", f.id),
			hint: fmt.Sprintf("copyfleet watch %s; copyfleet cancel %s", f.id, f.id)}
	case err != nil:
		return err
	}
	return f.last.outcome()
}

// wait returns nil once the batch is over.
func (f *follow) wait(ctx context.Context) error {
	for pause := firstPause; ; pause = min(pause*2, longPause) {
		if f.last != nil {
			before := f.eventID
			if f.stream(ctx); f.over() {
				return nil
			}
			if f.eventID != before {
				pause = firstPause
			}
		}
		if err := f.ask(ctx); err != nil || f.over() {
			return err
		}
		select {
		case <-ctx.Done():
			return interrupted(ctx)
		case <-time.After(pause):
		}
	}
}

// over reports whether there is nothing to wait for.
func (f *follow) over() bool {
	return f.last != nil && (f.last.State.Final() || f.last.State == protocol.BatchPaused && !f.throughPauses)
}

func (f *follow) tell(b *batch) {
	f.away = time.Time{}
	f.last = b
	f.view.batch(b)
}

// ask reads the batch once. An API that is away for a while is no error.
func (f *follow) ask(ctx context.Context) error {
	var b batch
	err := f.api.get(ctx, batchPath(f.id), nil, &b)
	if err == nil {
		f.tell(&b)
		return nil
	}
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	if _, again := temporary(err); !again || f.last == nil {
		return err
	}
	if f.away.IsZero() {
		f.away = time.Now()
		f.view.note("the API does not answer; waiting for it. The batch is safe.")
	}
	if time.Since(f.away) > awayLimit {
		return hinted(fmt.Errorf("waited %s: %w", span(awayLimit), err), "The batch is safe. Go on later: copyfleet watch "+f.id)
	}
	return nil
}

// errSilent ends a stream that says nothing.
var errSilent = errors.New("the stream said nothing for too long")

// stream follows the events until the stream ends, for whatever reason: what it means is found out by asking.
func (f *follow) stream(ctx context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(firstEvent, func() { cancel(errSilent) })
	defer watchdog.Stop()
	header := http.Header{"Accept": {"text/event-stream"}}
	if f.eventID != "" {
		header.Set("Last-Event-ID", f.eventID)
	}
	resp, err := f.api.send(ctx, http.MethodGet, batchPath(f.id, "events"), header, nil, 0)
	if err != nil {
		return
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if resp.StatusCode != http.StatusOK {
		return // 204: there is no more to come
	}
	in := sse.NewReader(resp.Body, f.eventID, func() { watchdog.Reset(quiet) })
	for !f.over() {
		ev, err := in.Next()
		if err != nil {
			return
		}
		if !f.take(ev) {
			return
		}
	}
}

// take carries out one event. It returns false for one that cannot be right.
func (f *follow) take(ev sse.Event) bool {
	switch ev.Name {
	case "batch":
		var b batch
		if err := json.Unmarshal(ev.Data, &b); err != nil || b.ID != f.id {
			return false
		}
		f.eventID = ev.ID
		f.tell(&b)
	case "item":
		var p itemProgress
		if json.Unmarshal(ev.Data, &p) == nil {
			f.view.item(&p)
		}
	}
	return true
}

package producer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// heard is one event, or a comment, as a watcher gets it.
type heard struct {
	id, name, data, comment string
}

func (h *heard) view(t *testing.T) batchView {
	t.Helper()
	var v batchView
	if err := json.Unmarshal([]byte(h.data), &v); err != nil {
		t.Fatalf("event %+v: %v", h, err)
	}
	return v
}

// watcher reads an event stream.
type watcher struct {
	*stage

	status int
	header http.Header
	events chan heard // closed at the end of the stream
	hangUp context.CancelFunc
}

// watch opens a stream. last is the id of the last event that was heard; "" none.
func (s *stage) watch(a *protocol.Acceptance, last string) *watcher {
	s.Helper()
	ctx, cancel := context.WithCancel(s.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/v1/batches/"+string(a.Batch)+"/events", nil)
	if err != nil {
		s.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.keys["one/read"])
	req.Header.Set("Accept", "application/json") // all the same
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	w := &watcher{stage: s, status: resp.StatusCode, header: resp.Header, events: make(chan heard, 10_000), hangUp: cancel}
	go func() {
		defer cancel()
		defer resp.Body.Close()
		defer close(w.events)
		parse(resp.Body, w.events)
	}()
	s.Cleanup(func() {
		cancel()
		for range w.events { // to its end
		}
	})
	return w
}

func parse(in io.Reader, out chan<- heard) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	var h heard
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "":
			if h != (heard{}) {
				out <- h
			}
			h = heard{}
		case field == "":
			h.comment = value
		case field == "id":
			h.id = value
		case field == "event":
			h.name = value
		case field == "data":
			h.data = value
		}
	}
}

// next returns the next event of a name; "" is a comment.
func (w *watcher) next(name string) heard {
	w.Helper()
	limit := time.After(3 * time.Minute)
	for {
		select {
		case h, ok := <-w.events:
			if !ok {
				w.Fatalf("the stream ended before an event %q", name)
			}
			if h.name == name {
				return h
			}
		case <-limit:
			w.Fatalf("no event %q came", name)
		}
	}
}

// end reads the stream to its end and returns the batch events on the way.
func (w *watcher) end() (batches []heard) {
	w.Helper()
	limit := time.After(3 * time.Minute)
	for {
		select {
		case h, ok := <-w.events:
			if !ok {
				return batches
			}
			if h.name == "batch" {
				batches = append(batches, h)
			}
		case <-limit:
			w.Fatal("the stream does not end")
		}
	}
}

// TestWatch tells of every state until the end, then 204; and what was missed after a reconnect and after a restart.
func TestWatch(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	d := newDescription(t, apiDescription)
	a := s.accept(10)
	w := s.watch(&a, "")
	if got := w.header.Get("Content-Type"); w.status != 200 || got != "text/event-stream" {
		t.Fatalf("%d %s", w.status, got)
	}
	first := w.next("batch")
	d.validate(t, []byte(first.data), "components", "schemas", "Batch")
	if v := first.view(t); v.State != protocol.BatchQueued || first.id == "" {
		t.Errorf("first: %s %+v", first.id, v)
	}
	s.tell(&a, receiptsOf(protocol.ItemSucceeded, 0))
	second := w.next("batch")
	if v := second.view(t); v.Counts.Succeeded != 1 || second.id == first.id {
		t.Errorf("second: %s %+v", second.id, v)
	}
	w.hangUp()
	w.end()

	s.tell(&a, receiptsOf(protocol.ItemSucceeded, 0, 1, 2)) // nobody listens
	w = s.watch(&a, second.id)
	third := w.next("batch")
	if v := third.view(t); v.Counts.Succeeded != 3 {
		t.Errorf("after a reconnect: %+v", v)
	}
	w.hangUp()
	w.end()

	s.open() // another front: the old one's memory does not count
	w = s.watch(&a, third.id)
	s.wanted(&a, protocol.WantPause, protocol.ReasonCaller)
	fourth := w.next("batch")
	if v := fourth.view(t); v.State != protocol.BatchPaused {
		t.Errorf("the first event after a restart tells again what was heard: %+v", v)
	}
	s.tell(&a, receiptsOf(protocol.ItemSucceeded, upTo(10)...))
	last := w.end()
	if n := len(last); n == 0 || last[n-1].view(t).State != protocol.BatchSucceeded {
		t.Fatalf("the end: %+v", last)
	}
	final := last[len(last)-1].id
	for _, id := range []string{final, first.id, ""} {
		w = s.watch(&a, id)
		events := w.end()
		switch {
		case id == final && (w.status != 204 || len(events) != 0):
			t.Errorf("after the end, with its id: %d %+v", w.status, events)
		case id != final && (w.status != 200 || len(events) != 1 || events[0].id != final):
			t.Errorf("after the end, with id %q: %d %+v", id, w.status, events)
		}
	}
	// The notice of the end changes the summary, not the end.
	s.tell(&a, receiptsOf(protocol.ItemSucceeded, upTo(10)...), func(sum *protocol.Summary) {
		sum.Webhook = &protocol.Receipt{Index: protocol.WebhookIndex, State: protocol.ItemSucceeded}
	})
	if w = s.watch(&a, final); w.status != 204 {
		t.Errorf("after the notice of the end: %d", w.status)
	}
	s.until("no hub", func() bool { return s.watching() == 0 })
}

// watching is the number of open streams.
func (s *stage) watching() int {
	streams := &s.pipeline.views.streams
	streams.mu.Lock()
	defer streams.mu.Unlock()
	if len(streams.hubs) > streams.watchers {
		s.Errorf("%d hubs for %d watchers", len(streams.hubs), streams.watchers)
	}
	return streams.watchers
}

// TestManyChangesAreFewEvents counts the events of a batch whose state changes all the time.
func TestManyChangesAreFewEvents(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.accept(1_000_000, func(a *protocol.Acceptance) { a.Total, a.Chunks, a.State = 0, 0, protocol.AcceptComplete })
	a.Total = 1_000_000
	s.put(s.batches, protocol.AcceptKey(a.Org, a.Batch), a)
	w, other := s.watch(&a, ""), s.watch(&a, "")
	w.next("batch")
	other.next("batch")
	start := time.Now()
	changes := 0
	sum := protocol.Summary{Version: protocol.SummaryVersion, Batch: a.Batch, Org: a.Org, Lane: a.Lane, Total: a.Total, State: protocol.BatchRunning}
	const usual, most = 2 * time.Second, 3 * time.Minute
	heard := func() bool { return len(w.events) > 0 && len(other.events) > 0 }
	for time.Since(start) < usual || !heard() && time.Since(start) < most {
		changes++
		sum.Tally.Succeeded += 20 // stays below the total on the fastest of disks
		s.put(s.batches, protocol.SummaryKey(a.Org, a.Batch), sum)
		if err := s.conn.Changed(a.Org, a.Batch, false); err != nil {
			t.Fatal(err)
		}
	}
	sum.Tally.Succeeded, sum.State = a.Total, protocol.BatchSucceeded
	s.put(s.batches, protocol.SummaryKey(a.Org, a.Batch), sum)
	if err := s.conn.Changed(a.Org, a.Batch, true); err != nil {
		t.Fatal(err)
	}
	for _, w := range []*watcher{w, other} {
		events := w.end()
		bound := int(time.Since(start)/tellEvery) + 2
		if len(events) < 2 || len(events) > bound {
			t.Errorf("%d events for %d changes, want 2 to %d", len(events), changes, bound)
		}
		if got := events[len(events)-1].view(t); got.State != protocol.BatchSucceeded {
			t.Errorf("the last event: %+v", got)
		}
		before := 0
		for i := range events {
			v := events[i].view(t)
			if v.Counts.Succeeded <= before {
				t.Errorf("%d succeeded after %d", v.Counts.Succeeded, before)
			}
			before = v.Counts.Succeeded
		}
	}
	t.Logf("%d changes", changes)
}

// TestProgressOfLargeItems is passed on, of the largest ones only.
func TestProgressOfLargeItems(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	d := newDescription(t, apiDescription)
	a := s.accept(200)
	w := s.watch(&a, "")
	w.next("batch")
	ctx, stop := context.WithCancel(t.Context())
	telling := make(chan struct{})
	go func() {
		defer close(telling)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for times := int64(0); ctx.Err() == nil; times++ {
			for i := range 100 {
				size := int64(1000 + i)
				data, _ := json.Marshal(protocol.Progress{Index: i, ID: fmt.Sprint("item-", i), Worker: "w", Bytes: times, Size: &size, Start: time.Now()})
				_ = s.conn.TellProgress(a.Org, a.Batch, data)
			}
			_ = s.conn.TellProgress(a.Org, a.Batch, []byte("no JSON"))
			<-tick.C
		}
	}()
	// What was told at once is passed on as one round: the 20 largest. A round may come in the middle of the telling; the next one does not.
	var round []int
	for times, rounds := int64(-1), 0; ; {
		h := w.next("item")
		d.validate(t, []byte(h.data), "components", "schemas", "Progress")
		var p protocol.Progress
		if err := json.Unmarshal([]byte(h.data), &p); err != nil || h.id != "" {
			t.Fatalf("%+v, want progress without an id: %v", h, err)
		}
		if p.Bytes != times {
			if slices.Equal(round, upTo(100)[80:]) {
				break
			}
			if rounds++; rounds > 100 {
				t.Fatalf("no round is of the 20 largest items; the last is of %v", round)
			}
			round, times = nil, p.Bytes
		}
		round = append(round, p.Index)
	}
	stop()
	<-telling
	s.tell(&a, nil, rest)
	w.end()
}

// TestStreamShowsThatItLives by comments.
func TestStreamShowsThatItLives(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.open(func(p *Pipeline) { p.views.streams.heartbeat = 20 * time.Millisecond })
	a := s.accept(1)
	w := s.watch(&a, "")
	w.next("batch")
	for range 3 {
		if got := w.next(""); got.comment == "" {
			t.Errorf("%+v", got)
		}
	}
}

// TestWatcherThatNeverReads is cut off, and holds up nobody.
func TestWatcherThatNeverReads(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.accept(1000, func(a *protocol.Acceptance) { a.Label = strings.Repeat("x", 1000) })
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetReadBuffer(1 << 10); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /v1/batches/%s/events HTTP/1.1\r\nHost: x\r\nx-api-key: %s\r\n\r\n", a.Batch, s.keys["one/read"])
	good := s.watch(&a, "")
	good.next("batch")
	s.until("two watchers", func() bool { return s.watching() == 2 })
	h := s.hub(&a)
	large := bytes.Repeat([]byte(": "+strings.Repeat("x", 1<<16)+"\n\n"), 16)
	// A MiB of comments at a time: the buffers of the sockets are full after some of them.
	var told time.Time
	s.until("the one that does not read to be cut off", func() bool {
		for len(good.events) > 0 {
			<-good.events
		}
		if time.Since(told) > 200*time.Millisecond { // the other one reads it meanwhile, and must not be cut off
			told = time.Now()
			h.tell(func(now *tidings) { now.progress = &event{data: large} })
		}
		return s.watching() == 1
	})
	s.tell(&a, nil, rest)
	if events := good.end(); len(events) == 0 || events[len(events)-1].view(t).State != protocol.BatchCanceled {
		t.Errorf("the one that reads: %+v", events)
	}
}

func (s *stage) hub(a *protocol.Acceptance) *hub {
	streams := &s.pipeline.views.streams
	streams.mu.Lock()
	defer streams.mu.Unlock()
	return streams.hubs[protocol.ControlKey(a.Org, a.Batch)]
}

// TestWatchersAreLimited to a number, and a place is free again when one leaves.
func TestWatchersAreLimited(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.open(func(p *Pipeline) { p.views.streams.limit = 2 })
	a, b := s.accept(1), s.accept(1)
	one, two := s.watch(&a, ""), s.watch(&b, "")
	one.next("batch")
	two.next("batch")
	path := "/v1/batches/" + string(a.Batch) + "/events"
	if got := s.call("one/read", "GET", path, "").want(503, CodeBusy); got.header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	two.hangUp()
	s.until("a place", func() bool { return s.watching() == 1 })
	three := s.watch(&a, "")
	three.next("batch")
	if s.hub(&b) != nil {
		t.Error("a batch is read that nobody watches")
	}
}

// TestStreamsEndAtShutdown, so that their watchers go to another front.
func TestStreamsEndAtShutdown(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.accept(1)
	w := s.watch(&a, "")
	w.next("batch")
	s.server.Settle(time.Hour) // a stream is no call that waits for an end
	s.server.StopWaiting()
	w.end()
	s.until("the streams to end", func() bool { return s.watching() == 0 })
	if w = s.watch(&a, ""); len(w.end()) > 1 {
		t.Error("a stream that is opened later goes on")
	}
}

// TestStreamOfARemovedBatch ends.
func TestStreamOfARemovedBatch(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.accept(1)
	w := s.watch(&a, "")
	w.next("batch")
	if err := s.batches.DropAll(t.Context(), protocol.BatchFilter(a.Org, a.Batch)); err != nil {
		t.Fatal(err)
	}
	w.end()
	s.call("one/read", "GET", "/v1/batches/"+string(a.Batch)+"/events", "").want(404, CodeBatchNotFound)
}

// TestConnectionAfterAStream can be used again: no limit of the stream is left on it.
func TestConnectionAfterAStream(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.open(func(p *Pipeline) { p.views.streams.within = 500 * time.Millisecond })
	a := s.accept(1)
	s.tell(&a, receiptsOf(protocol.ItemSucceeded, 0))
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for _, method := range []string{"GET", "HEAD", "GET"} {
		fmt.Fprintf(conn, "%s /v1/batches/%s/events HTTP/1.1\r\nHost: x\r\nx-api-key: %s\r\n\r\n", method, a.Batch, s.keys["one/read"])
		req, err := http.NewRequest(method, "http://x", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 || (len(body) == 0) != (method == "HEAD") {
			t.Fatalf("%s: %d %q %v", method, resp.StatusCode, body, err)
		}
		timer := time.NewTimer(600 * time.Millisecond) // longer than the limit on a write
		<-timer.C
	}
}

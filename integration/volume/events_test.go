package volume

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// viewOf is the batch that an event tells of.
func viewOf(t *testing.T, e mixtest.Event) mixtest.BatchView {
	t.Helper()
	var view mixtest.BatchView
	if err := json.Unmarshal([]byte(e.Data), &view); err != nil {
		t.Fatalf("%v in %+v", err, e)
	}
	return view
}

// TestEvents follows a batch over a restart of the front to its end.
func TestEvents(t *testing.T) {
	t.Parallel()
	f, running := roles(t, "SLOTS=16")
	batch := slowly(f, "events", 1500, 5*time.Millisecond)
	large := &batch[3]
	large.Content = make([]byte, 8<<20)
	large.Src = mixtest.FromURL(f.GiveInPieces("/get/events/large", large.Content, 80, 100*time.Millisecond))
	id := f.Submit(t, batch, "")
	last, ended, seen, moved := "", -1, 0, false
	note := func(events []mixtest.Event) {
		for _, e := range events {
			if e.Name != "batch" {
				moved = moved || e.Name == "item" && e.ID == "" && strings.Contains(e.Data, `"index":3`)
				continue
			}
			view := viewOf(t, e)
			if view.ID != id || view.Total != len(batch) || e.ID == "" || view.Ended() < ended {
				t.Errorf("after %d ended items came %+v", ended, e)
			}
			last, ended, seen = e.ID, view.Ended(), seen+1
		}
	}
	progress := func(e mixtest.Event) bool {
		return e.Name == "batch" && e.ID != last && viewOf(t, e).Ended() > ended
	}
	for range 3 { // watchers that come and go
		status, events, err := f.API.Events(t.Context(), id, last, progress)
		if err != nil || status != http.StatusOK || len(events) == 0 {
			t.Fatalf("%d %v %+v", status, err, events)
		}
		note(events)
	}
	status, events, err := f.API.Events(t.Context(), id, last, func(e mixtest.Event) bool { return e.Name == "item" })
	if err != nil || status != http.StatusOK {
		t.Fatalf("%d %v", status, err)
	}
	note(events)
	kill(t, running, "api")
	start(t, f, running, "api")
	done := make(chan struct{})
	go func() {
		defer close(done)
		status, events, err = f.API.Events(t.Context(), id, last, nil) // to its end
	}()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatal("the stream did not end")
	}
	if err != nil || status != http.StatusOK || len(events) == 0 {
		t.Fatalf("%d %v %+v", status, err, events)
	}
	note(events)
	final := viewOf(t, events[len(events)-1])
	if final.State != protocol.BatchSucceeded || !moved {
		t.Errorf("the last event tells %+v; the bytes of the large item were told: %v", final, moved)
	}
	if seen > len(batch)/5 {
		t.Errorf("%d events of %d items", seen, len(batch))
	}
	if status, _, err := f.API.Events(t.Context(), id, last, nil); err != nil || status != http.StatusNoContent {
		t.Errorf("who has the last event is answered %d %v", status, err)
	}
	f.Check(t, id, batch, limit)
}

// TestWatcherThatNeverReads opens streams and reads nothing of them: neither the batch nor other watchers wait for that.
func TestWatcherThatNeverReads(t *testing.T) {
	t.Parallel()
	f, _ := up(t, "SLOTS=16")
	batch := slowly(f, "deaf", 1500, 5*time.Millisecond)
	id := f.Submit(t, batch, "")
	for range 20 {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(f.API.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.(*net.TCPConn).SetReadBuffer(1)
		_, err = conn.Write([]byte("GET /v1/batches/" + id + "/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + f.API.Key + "\r\n\r\n"))
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	status, events, err := f.API.Events(ctx, id, "", nil)
	if err != nil || status != http.StatusOK || !viewOf(t, events[len(events)-1]).State.Final() {
		t.Errorf("%d %v, %d events", status, err, len(events))
	}
	f.Check(t, id, batch, limit)
}

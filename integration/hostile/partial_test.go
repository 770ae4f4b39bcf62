package hostile

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// halves is a source that gives half of what it announced and waits. What then happens goes by the path.
type halves struct {
	gate    chan struct{} // closed: go on
	closing chan struct{}
	content []byte
}

func (h *halves) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/chunked" {
		w.Header().Set("Content-Length", strconv.Itoa(len(h.content)))
	}
	_, _ = w.Write(h.content[:len(h.content)/2]) // a reader that is gone asks again
	_ = http.NewResponseController(w).Flush()
	select {
	case <-h.gate:
	case <-r.Context().Done():
	case <-h.closing:
	}
	if r.URL.Path == "/stalled" {
		select {
		case <-r.Context().Done():
		case <-h.closing:
		}
	}
	panic(http.ErrAbortHandler) // breaks the connection off
}

// TestSourcesThatBreakOff watches destinations from the outside while their sources break off half-way: nothing is seen
// where nothing was, and what was there stays.
func TestSourcesThatBreakOff(t *testing.T) {
	t.Parallel()
	f, _ := up(t, "IDLE_TIMEOUT=10s", "HEADER_TIMEOUT=10s") // shorter, and a busy machine is taken for a slow peer
	source := &halves{gate: make(chan struct{}), closing: make(chan struct{}), content: make([]byte, 2<<20)}
	server := listenAt(t, "127.0.0.1", source.ServeHTTP)
	t.Cleanup(func() { close(source.closing) }) // before the server closes
	old := []byte("what was there before")
	var batch, watched mixtest.Batch
	for _, kind := range []string{"sized", "chunked", "stalled"} {
		for _, where := range []string{"new", "there"} {
			path := fmt.Sprintf("/out/%s-%s", kind, where)
			if where == "there" {
				f.FromSandbox(t, path, old)
			}
			fails := protocol.Interrupted
			if kind == "stalled" {
				fails = protocol.Timeout
			}
			c := mixtest.Copy{ID: kind + "-" + where, Src: mixtest.FromURL(server.URL + "/" + kind), Dest: mixtest.ToSandbox(path), Fails: fails}
			batch = append(batch, c)
			c.Content = old // the only thing that may be seen there
			watched = append(watched, c)
		}
	}
	seen := f.Watch(t, watched)
	called, err := f.API.Copy(t.Context(), f.Sandbox, map[string]string{"Prefer": "respond-async"}, batch.Files())
	if err != nil {
		t.Fatal(err)
	}
	if !mixtest.Until(limit, func() bool { return f.Hidden() >= 1 && len(server.visits()) >= len(batch) }) {
		t.Fatalf("%d hidden files, %d requests: the copies did not come half-way", f.Hidden(), len(server.visits()))
	}
	close(source.gate)
	f.Check(t, called.Batch(), batch, limit)
	if n := seen(); n != 3 {
		t.Errorf("%d files were seen, want the 3 that were there", n)
	}
	for _, c := range batch {
		content, err := f.Arrived(t.Context(), &c)
		if isNew := strings.HasSuffix(c.ID, "-new"); isNew != os.IsNotExist(err) || !isNew && !bytes.Equal(content, old) {
			t.Errorf("%s: %d bytes, %v", c.ID, len(content), err)
		}
	}
}

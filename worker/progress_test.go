package worker

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// TestProgressOfLongCopies: an item that takes long is told of while it runs, one that is quick never.
func TestProgressOfLongCopies(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	release := make(chan struct{})
	url := f.serve(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/quick" {
			_, _ = w.Write(make([]byte, 1<<20))
			return
		}
		w.Header().Set("Content-Length", "1000000000")
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := w.Write(make([]byte, 1000)); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-tick.C:
			case <-release: // short of what was announced
				return
			case <-r.Context().Done():
				return
			}
		}
	})
	p := newProgress("w1", f.conn)
	f.copier.progress = p
	work := &protocol.Work{Org: "ORG", Batch: protocol.NewBatchID(), Index: 7}
	news, stop, err := f.conn.WatchProgress(work.Org, work.Batch)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	copying := func(path string) error {
		_, err := f.copier.copy(t.Context(), transfer{
			org: "ORG", id: path, src: httpGet(url + path), dest: inSandbox(path), temp: "t" + path[1:], fence: func() error { return nil }, watched: work,
		})
		return err
	}
	if err := copying("/quick"); err != nil {
		t.Fatal(err)
	}
	p.tell() // there is nothing to tell
	ended := make(chan error, 1)
	go func() { ended <- copying("/slow") }()

	var last int64
	limit := time.After(5 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for told := 0; told < 3; {
		select {
		case <-tick.C:
			p.tell()
		case data := <-news:
			var got protocol.Progress
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			if got.Index != 7 || got.ID != "/slow" || got.Worker != "w1" || got.Size == nil || *got.Size != 1e9 || got.Start.IsZero() || got.Bytes < last {
				t.Fatalf("progress %+v", got)
			}
			if told == 0 && time.Since(got.Start) < progressAfter {
				t.Errorf("told after %s", time.Since(got.Start))
			}
			if got.Bytes > last {
				last = got.Bytes
				told++
			}
		case <-limit:
			t.Fatal("no progress within five minutes")
		}
	}
	close(release)
	if err := <-ended; err == nil {
		t.Error("a source that broke off was copied")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.large) != 0 {
		t.Errorf("%d copies are still told of", len(p.large))
	}
}

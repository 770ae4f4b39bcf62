package producer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// send sends a manifest with an idempotency key.
func (s *stage) send(key, query, body string) answer {
	s.Helper()
	return s.call("one/copy", "POST", "/v1/batches"+query, body, "Content-Type", ndjsonMedia, "Idempotency-Key", key)
}

// pagesOf counts the pages of a batch that are stored under a generation.
func (s *stage) pagesOf(id protocol.BatchID, generation int) int {
	s.Helper()
	n, err := s.manifests.Count(s.Context(), strings.TrimSuffix(protocol.ManifestKey("one", id, generation, 0), "0")+"*")
	if err != nil {
		s.Fatal(err)
	}
	return n
}

// TestRepeatedRequests get the same batch if they are the same.
func TestRepeatedRequests(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	for _, n := range []int{1, 2, 256, 257, 5000} {
		key, body := "key-"+itoa(n), lines(n, nil)
		first := decode[batchView](s.send(key, "?label=a", body).want(202, ""))
		again := decode[batchView](s.send(key, "?label=a", body).want(202, ""))
		if first.ID != again.ID || again.Total != n {
			t.Errorf("%d items: %+v, then %+v", n, first, again)
		}
		s.send(key, "?label=b", body).want(409, CodeIdempotencyConflict)
		s.send(key, "?label=a", lines(n+1, nil)).want(409, CodeIdempotencyConflict)
		s.send(key, "?label=a", body[:len(body)-1]).want(409, CodeIdempotencyConflict)
		got := s.load(first.ID)
		if got.record.Total != n || got.record.State == protocol.AcceptAbandoned {
			t.Errorf("%d items: %+v", n, got.record)
		}
		if got.record.Fed() && s.pagesOf(first.ID, 1) != protocol.Pages(n) {
			t.Errorf("%d items: %d pages", n, s.pagesOf(first.ID, 1))
		}
	}
	if other := decode[batchView](s.call("two/copy", "POST", "/v1/batches", `{"src":{"type":"httpGetLocation","url":"https://a.test/1"},"dest":{"type":"httpPutLocation","url":"https://a.test/2"}}`,
		"Content-Type", ndjsonMedia, "Idempotency-Key", "key-1").want(202, "")); other.Org != "two" {
		t.Errorf("another org's key: %+v", other)
	}
}

// TestFailedRequestFreesItsKey lets a manifest be sent again, mended, with the key that it had.
func TestFailedRequestFreesItsKey(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	s.send("k", "", lines(20_000, map[int]string{19_999: "{}"})).want(400, CodeInvalidRequest)
	s.nothingIsLeft()
	view := decode[batchView](s.send("k", "", lines(20_000, nil)).want(202, ""))
	if got := s.load(view.ID); got.record.Total != 20_000 || got.record.Generation != 2 {
		t.Errorf("record %+v", got.record)
	}
	s.send("small", "", lines(300, map[int]string{299: "{}"})).want(400, CodeInvalidRequest)
	view = decode[batchView](s.send("small", "", lines(2, nil)).want(202, ""))
	if got := s.load(view.ID); got.record.Total != 2 || got.record.Fed() || got.record.Generation != 2 {
		t.Errorf("record %+v", got.record)
	}
}

// TestTakeover sends a request again whose first try ended at each step of an acceptance.
func TestTakeover(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	const n = 2000
	for _, tc := range []struct {
		name  string
		pages int // that the first try had stored
		fed   bool
		state protocol.Accepted
	}{
		{"recorded", 0, false, protocol.AcceptPending},
		{"fed record", 0, true, protocol.AcceptPending},
		{"some pages", 3, true, protocol.AcceptPending},
		{"all pages", protocol.Pages(n), true, protocol.AcceptPending},
		{"abandoned", 0, false, protocol.AcceptAbandoned},
		{"abandoned, not cleaned", 3, true, protocol.AcceptAbandoned},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := s.within(t)
			key := strings.ReplaceAll(tc.name, " ", "-")
			id := protocol.KeyedBatchID("one", key)
			s.put(s.batches, protocol.AcceptKey("one", id), protocol.Acceptance{
				Version: protocol.AcceptanceVersion, Batch: id, Org: "one", Lane: protocol.Bulk, Pool: "default", Keyed: true,
				State: tc.state, Generation: 1, Created: time.Now().Add(-time.Minute),
			})
			for page := range tc.pages {
				s.put(s.manifests, protocol.ManifestKey("one", id, 1, page), "left")
			}
			if tc.fed {
				s.put(s.feeds, protocol.ControlKey("one", id), protocol.Feed{Version: protocol.FeedVersion, Org: "one", Batch: id, Created: time.Now().Add(-time.Minute)})
			}
			begun := time.Now()
			view := decode[batchView](s.send(key, "", lines(n, nil)).want(202, ""))
			got := s.load(id)
			if view.ID != id || got.record.Generation != 2 || got.record.State != protocol.AcceptComplete || got.items[n-1].ID != "item-2000" {
				t.Errorf("record %+v", got.record)
			}
			if left := s.pagesOf(id, 1); left > 0 {
				t.Errorf("%d pages of the first try are left", left)
			}
			var feed protocol.Feed
			if !s.get(s.feeds, protocol.ControlKey("one", id), &feed) || feed.At.Before(begun) {
				t.Errorf("feed %+v", feed)
			}
		})
	}
}

// TestTakeoverOfWhatRuns leaves a feed record as it is that tells how far the batch has come.
func TestTakeoverOfWhatRuns(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	body := lines(1000, nil)
	view := decode[batchView](s.send("k", "", body).want(202, ""))
	s.put(s.feeds, protocol.ControlKey("one", view.ID), protocol.Feed{Version: protocol.FeedVersion, Org: "one", Batch: view.ID, Next: 500, Owner: "a"})
	s.send("k", "", body).want(202, "")
	var feed protocol.Feed
	if s.get(s.feeds, protocol.ControlKey("one", view.ID), &feed); feed.Next != 500 || feed.Owner != "a" {
		t.Errorf("feed %+v", feed)
	}
}

// TestConcurrentTries sends one request several times at once: one of them stores it, and all answer for it.
func TestConcurrentTries(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	body := lines(3000, nil)
	half := len(body) / 2
	const tries = 4
	var (
		started, finished sync.WaitGroup
		answers           [tries]answer
	)
	started.Add(tries)
	for i := range tries {
		finished.Go(func() {
			answers[i] = s.stream(ndjsonMedia, func(send func(string)) {
				send(body[:half])
				started.Done()
				started.Wait()
				send(body[half:])
			}, "Idempotency-Key", "k")
		})
	}
	finished.Wait()
	id := protocol.KeyedBatchID("one", "k")
	for _, a := range answers {
		if view := decode[batchView](a.want(202, "")); view.ID != id || view.Total != 3000 {
			t.Errorf("batch %+v", view)
		}
	}
	got, all := s.load(id), 0
	for generation := range tries + 1 {
		all += s.pagesOf(id, generation)
	}
	if pages := s.pagesOf(id, got.record.Generation); pages != protocol.Pages(3000) || all != pages {
		t.Errorf("%d pages, %d with those of the other tries", pages, all)
	}
}

// TestConcurrentDifferentRequests with one key: one of them is stored, the other refused.
func TestConcurrentDifferentRequests(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	a, b := lines(3000, nil), lines(2000, nil)
	var first answer
	var sending, done sync.WaitGroup
	sending.Add(1)
	done.Add(1)
	var slow sync.WaitGroup
	slow.Go(func() {
		first = s.stream(ndjsonMedia, func(send func(string)) {
			send(a[:len(a)/2])
			sending.Done()
			done.Wait()
			send(a[len(a)/2:])
		}, "Idempotency-Key", "k")
	})
	sending.Wait()
	second := s.send("k", "", b)
	done.Done()
	slow.Wait()
	second.want(202, "")
	first.want(409, CodeIdempotencyConflict)
	got := s.load(protocol.KeyedBatchID("one", "k"))
	all, err := s.manifests.Count(t.Context(), ">")
	if err != nil || got.record.Total != 2000 || all != protocol.Pages(2000) {
		t.Errorf("%d pages of %+v: %v", all, got.record, err)
	}
}

// TestDisconnect gives up a batch whose client goes away in the middle of it.
func TestDisconnect(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	for _, key := range []string{"", "k"} {
		ctx, hangUp := context.WithCancel(t.Context())
		r, w := io.Pipe()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/batches", r)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.keys["one/copy"])
		req.Header.Set("Content-Type", ndjsonMedia)
		if key != "" {
			req.Header.Set("Idempotency-Key", key)
		}
		var sent sync.WaitGroup
		sent.Go(func() {
			if resp, err := s.client.Do(req); err == nil {
				resp.Body.Close()
				t.Errorf("answered %s", resp.Status)
			}
		})
		_, _ = io.WriteString(w, lines(20_000, nil))
		s.until("pages to be stored", func() bool {
			n, err := s.manifests.Count(t.Context(), ">")
			return err == nil && n > 0
		})
		hangUp()
		_ = w.CloseWithError(context.Canceled)
		sent.Wait()
		s.until("the try to be taken back", func() bool {
			n, err := s.manifests.Count(t.Context(), ">")
			return err == nil && n == 0
		})
		s.nothingIsLeft()
	}
}

// TestIdleUpload is cut off.
func TestIdleUpload(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	s.server.uploadPatience = 100 * time.Millisecond
	limited := &http.Server{Handler: s.server.Handler()}
	s.serveOn(limited)
	r, w := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/v1/batches", r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.keys["one/copy"])
	req.Header.Set("Content-Type", ndjsonMedia)
	var sent sync.WaitGroup
	sent.Go(func() { _, _ = io.WriteString(w, lines(1000, nil)) }) // and then nothing more
	resp, err := s.client.Do(req)
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("answered %s", resp.Status)
		}
	}
	_ = r.Close()
	sent.Wait()
	s.nothingIsLeft()
}

// TestQueueFull refuses what would exceed the limit on waiting items, whole, and takes it when there is room.
func TestQueueFull(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	s.pipeline.backlog.limit = 1000
	full := func(body string) {
		t.Helper()
		a := s.call("one/copy", "POST", "/v1/batches", body, "Content-Type", ndjsonMedia).want(429, CodeQueueFull)
		if a.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	s.call("one/copy", "POST", "/v1/batches", lines(1001, nil), "Content-Type", ndjsonMedia).want(413, CodeBodyTooLarge)
	s.nothingIsLeft()
	big := s.submit(ndjsonMedia, "", lines(900, nil))
	full(lines(101, nil))
	full(lines(300, nil))
	s.submit(ndjsonMedia, "", lines(100, nil))
	full(aItem)
	s.call("one/copy", "POST", "/api/orgs/one/sandboxes/box/file/copy", withURL("https://a.test/1")).want(429, CodeQueueFull)
	// All of the large batch is fed and has ended: nothing of it waits any more.
	s.put(s.feeds, protocol.ControlKey("one", big.record.Batch), protocol.Feed{Version: protocol.FeedVersion, Org: "one", Batch: big.record.Batch, Next: 900})
	s.pipeline.backlog.mu.Lock()
	s.pipeline.backlog.at = time.Time{}
	s.pipeline.backlog.mu.Unlock()
	s.submit(ndjsonMedia, "", lines(900, nil))
	full(aItem)
	if pages, err := s.manifests.Count(t.Context(), ">"); err != nil || pages != 2*protocol.Pages(900) {
		t.Errorf("%d pages: %v", pages, err)
	}
}

// TestNoSpace takes back what was stored of a manifest when the disk fills up.
func TestNoSpace(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	var asked atomic.Int32
	s.pipeline.room = func() error {
		if asked.Add(1) > 2 {
			return broker.ErrNoSpace
		}
		return nil
	}
	a := s.call("one/copy", "POST", "/v1/batches", lines(40_000, nil), "Content-Type", ndjsonMedia).want(503, CodeNoSpace)
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	s.nothingIsLeft()
}

// shelf are manifests by key.
type shelf map[string]string

var errShelf = errors.New("the shelf is gone")

func (m shelf) Open(_ context.Context, _, key string) (io.ReadCloser, error) {
	text, ok := m[key]
	switch {
	case !ok:
		return nil, ErrNoObject
	case strings.HasPrefix(text, "!"):
		return nil, errShelf
	case strings.HasSuffix(text, "!"):
		return io.NopCloser(io.MultiReader(strings.NewReader(strings.TrimSuffix(text, "!")), brokenReader{})), nil
	}
	return io.NopCloser(strings.NewReader(text)), nil
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errShelf }

// TestManifestInBucket reads the items from an object that the request names.
func TestManifestInBucket(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	objects := shelf{
		"a.ndjson": lines(3000, nil), "a.csv": "https://a.test/1,/1\n", "a.txt": "TsvHttpData-1.0\nhttps://a.test/1\n", "a.json": `{"items":[` + aItem + `]}`,
		"array.json": `[` + aItem + `,` + bItem + `]`, "options.json": `{"items":[` + aItem + `],"label":"x"}`, "plain": aItem, "bad.ndjson": aItem + "\n{}\n", "none.json": "{}",
		"down.csv": "!", "cut.ndjson": lines(5000, nil) + "!",
	}
	s.server.manifests = objects
	ask := func(key, more string) string {
		return `{"manifest":{"type":"objectLocation","bucket":"results","key":"` + key + `"}` + more + `}`
	}
	for key, total := range map[string]int{"a.ndjson": 3000, "a.csv": 1, "a.txt": 1, "a.json": 1, "array.json": 2} {
		if got := s.submit("application/json", "", ask(key, `,"sandbox":"box","label":"l"`)); got.record.Total != total || got.record.Label != "l" {
			t.Errorf("%s: %+v", key, got.record)
		}
	}
	if got := s.submit("application/json", "", ask("plain", `,"format":"ndjson"`)); got.record.Total != 1 {
		t.Errorf("record %+v", got.record)
	}
	before, err := s.manifests.Count(t.Context(), ">")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		body   string
		status int
		code   Code
		at     string
	}{
		{ask("nowhere.csv", ""), 404, CodeManifestNotFound, ""},
		{ask("down.csv", ""), 503, CodeStorageUnavailable, ""},
		{ask("cut.ndjson", ""), 503, CodeStorageUnavailable, ""},
		{ask("bad.ndjson", ""), 400, CodeInvalidRequest, "/line/2/src"},
		{ask("options.json", ""), 400, CodeInvalidRequest, "/label"},
		{ask("none.json", ""), 400, CodeInvalidRequest, "/items"},
		{ask("a.csv", ""), 400, CodeInvalidRequest, "/line/1/dest/sandbox"},
	} {
		a := s.call("one/copy", "POST", "/v1/batches", tc.body).want(tc.status, tc.code)
		if p := a.problem(); tc.at != "" && (len(p.Errors) == 0 || p.Errors[0].Pointer != tc.at) || strings.Contains(string(a.body), "shelf") {
			t.Errorf("%s: %s", tc.body, a.body)
		}
	}
	if after, err := s.manifests.Count(t.Context(), ">"); err != nil || after != before {
		t.Errorf("%d pages, %d before: %v", after, before, err)
	}
	// A repetition is the same request whatever has become of the object.
	first := decode[batchView](s.call("one/copy", "POST", "/v1/batches", ask("a.ndjson", ""), "Idempotency-Key", "k").want(202, ""))
	objects["a.ndjson"] = lines(4000, nil)
	again := decode[batchView](s.call("one/copy", "POST", "/v1/batches", ask("a.ndjson", ""), "Idempotency-Key", "k").want(202, ""))
	if first.ID != again.ID || again.Total != 3000 {
		t.Errorf("%+v, then %+v", first, again)
	}
	s.call("one/copy", "POST", "/v1/batches", ask("a.csv", `,"sandbox":"box"`), "Idempotency-Key", "k").want(409, CodeIdempotencyConflict)
}

// TestLargeCopyCall is fed as well.
func TestLargeCopyCall(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	list := make([]string, 300)
	for i := range list {
		list[i] = file(`{"type":"httpGetLocation","url":"https://a.test/`+itoa(i)+`"}`, `{"type":"sandboxFileLocation","path":"/`+itoa(i)+`"}`)
	}
	body := files(list...)
	call := func() protocol.BatchID {
		a := s.call("one/copy", "POST", "/api/orgs/one/sandboxes/box/file/copy", body, "Prefer", "respond-async", "Idempotency-Key", "k").want(202, "")
		return decode[batchView](a).ID
	}
	id := call()
	got := s.load(id)
	if !got.record.Fed() || got.record.Lane != protocol.Bulk || got.record.Total != 300 || got.items[299].Dest.Path != "/299" {
		t.Errorf("record %+v", got.record)
	}
	if again := call(); again != id {
		t.Errorf("repeated: %s, then %s", id, again)
	}
}

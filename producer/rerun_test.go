package producer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/protocol"
)

// TestRanges holds ranges against a set, in both forms on the wire.
func TestRanges(t *testing.T) {
	t.Parallel()
	for _, share := range []float64{0, 0.001, 0.1, 0.5, 0.999, 1} {
		random := rand.New(rand.NewPCG(1, 2))
		set := map[int]bool{}
		var r ranges
		for i := range 5000 {
			if random.Float64() < share {
				set[i] = true
				r.add(i)
			}
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var got ranges
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if len(r) != len(got) || len(r) > 0 && !cmp.Equal(r, got) || got.count() != len(set) {
			t.Fatalf("share %v: %d ranges became %d", share, len(r), len(got))
		}
		for i := range 5001 {
			if got.has(i) != set[i] || got.meets(i, i) != set[i] {
				t.Fatalf("share %v: %d is %v", share, i, got.has(i))
			}
		}
		if (len(r) > plainRanges) != (text[0] == '"') {
			t.Errorf("share %v: %.20s", share, text)
		}
	}
	for _, bad := range []string{`[[1,0]]`, `[[1,2],[2,3]]`, `[[-1,2]]`, `"AAAA"`, `"x"`, `7`} {
		var r ranges
		if json.Unmarshal([]byte(bad), &r) == nil {
			t.Errorf("%s is read as %v", bad, r)
		}
	}
	if a, b := (ranges{{1, 2}, {5, 9}}), (ranges{{3, 4}, {10, 10}}); a.overlap(b) || !a.overlap(ranges{{0, 0}, {9, 12}}) {
		t.Error("overlap")
	}
}

// failing is a batch whose items 1, 2 and the last have failed, the last on another host with another class.
func failing(s *stage, total int, change ...func(*protocol.Acceptance)) protocol.Acceptance {
	s.Helper()
	a := s.accept(total, append(change, func(a *protocol.Acceptance) { a.Pool = protocol.DefaultPool })...)
	receipts := receiptsOf(protocol.ItemSucceeded, upTo(total)...)
	for i, r := range receiptsOf(protocol.ItemFailed, 1, 2, total-1) {
		if i == 2 {
			r.Failure = &protocol.Failure{Class: protocol.Unavailable, Code: "source_http_503", Message: "Failed to download file: 503", Status: 503, Host: "other.test"}
		}
		receipts[r.Index] = r
	}
	s.tell(&a, receipts)
	return a
}

func (s *stage) grant() {
	s.Helper()
	if _, _, err := s.registry.PutGrant(s.Context(), "one", "results", ""); err != nil {
		s.Fatal(err)
	}
}

// retry asks for a retry and returns the new batch.
func (s *stage) retry(id protocol.BatchID, body string, header ...string) protocol.Acceptance {
	s.Helper()
	got := s.call("one/copy", "POST", "/v1/batches/"+string(id)+"/retry", body, header...).want(202, "")
	newDescription(s.T, apiDescription).check(s.T, "POST", "/v1/batches/{id}/retry", got)
	v := decode[rerunView](got)
	if got.header.Get("Location") != "/v1/batches/"+string(v.Batch.ID) {
		s.Errorf("Location %q", got.header.Get("Location"))
	}
	record, found, err := s.pipeline.acceptance(s.Context(), "one", v.Batch.ID)
	if err != nil || !found || v.Items != record.Total {
		s.Fatalf("the new batch %+v: %v", v, err)
	}
	return record
}

// asked returns what a batch is to copy.
func (s *stage) asked(a *protocol.Acceptance) []protocol.ManifestItem {
	s.Helper()
	var items []protocol.ManifestItem
	for item, err := range s.pipeline.manifestItems(s.Context(), a, 0) {
		if err != nil {
			s.Fatal(err)
		}
		items = append(items, item)
	}
	return items
}

func TestRetry(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.grant()
	for _, total := range []int{10, 1000} {
		hook := protocol.NewBatchID()
		a := failing(s, total, func(a *protocol.Acceptance) {
			hook = a.Batch
			a.Label, a.Options = "nightly", protocol.Options{Attempts: 7, Rate: 5, MaxFailed: protocol.Threshold{Given: true, Count: 3},
				Webhook: &protocol.Webhook{Sealed: s.sealer.SealText("one", hook, `{"url":"https://hook.test"}`), Shown: "https://hook.test"}}
		})
		other := s.retry(a.Batch, `{"filter":{"host":"other.test"},"rate":9.5,"label":null}`)
		if got := s.asked(&other); !cmp.Equal(got, []protocol.ManifestItem{asksFor(total - 1)}) {
			t.Errorf("runs %v", got)
		}
		if o := other.Options; o.Attempts != 7 || o.Rate != 9.5 || other.Label != "" || other.RerunOf != a.Batch || !o.MaxFailed.Given || other.State != protocol.AcceptComplete || !other.Fed() {
			t.Errorf("%+v", other)
		}
		if text, err := s.sealer.OpenText("one", other.Batch, other.Options.Webhook.Sealed); err != nil || text != `{"url":"https://hook.test"}` {
			t.Errorf("webhook %q %v", text, err)
		}
		s.call("one/copy", "POST", "/v1/batches/"+string(a.Batch)+"/retry", `{"filter":{"class":"unavailable"}}`).want(409, CodeNothingToRetry)
		rest := s.retry(a.Batch, ``)
		if got := s.asked(&rest); !cmp.Equal(got, []protocol.ManifestItem{asksFor(1), asksFor(2)}) {
			t.Errorf("runs %v", got)
		}
		s.call("one/copy", "POST", "/v1/batches/"+string(a.Batch)+"/retry", "").want(409, CodeNothingToRetry)
		v := decode[batchView](s.call("one/read", "GET", "/v1/batches/"+string(a.Batch), "").want(200, ""))
		if !cmp.Equal(v.Reruns, []protocol.BatchID{other.Batch, rest.Batch}) || v.Counts.Failed != 3 {
			t.Errorf("%+v", v)
		}
		var record rerunRecord
		if !s.get(s.batches, protocol.RerunKey("one", a.Batch), &record) || !record.Entries[0].Done || !record.Entries[1].Done {
			t.Errorf("%+v", record)
		}
	}
}

func TestRetryNamesItems(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.grant()
	a := failing(s, 600)
	got := s.retry(a.Batch, `{"filter":{"items":["item-599",2,3,"item-4"]}}`)
	if items := s.asked(&got); !cmp.Equal(items, []protocol.ManifestItem{asksFor(2), asksFor(599)}) {
		t.Errorf("runs %v", items)
	}
	for _, body := range []string{
		`{"filter":{"items":[true]}}`, `{"filter":{"items":[-1]}}`, `{"filter":{"items":[""]}}`, `{"filter":{"items":[1.5]}}`, `{"filter":{"state":"succeeded"}}`,
		`{"filter":{"klass":"x"}}`, `{"filters":{}}`, `{"attempts":21}`, `{"rate":"1"}`, `{"filter":{"class":7}}`, `{"max_failed":-1}`, `[]`,
	} {
		s.call("one/copy", "POST", "/v1/batches/"+string(a.Batch)+"/retry", body).want(400, CodeInvalidRequest)
	}
	s.call("one/copy", "POST", "/v1/batches/"+string(a.Batch)+"/retry", `{"filter":{},"filter":{}}`).want(400, CodeInvalidJSON)
}

func TestRetryOfACanceledBatch(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.grant()
	a := s.accept(1000)
	s.tell(&a, append(receiptsOf(protocol.ItemSucceeded, upTo(500)...), receiptsOf(protocol.ItemFailed, 700)...), rest)
	failed := s.retry(a.Batch, `{"filter":{"code":"source_http_404"}}`)
	if failed.Total != 1 {
		t.Errorf("%d items", failed.Total)
	}
	canceled := s.retry(a.Batch, `{"filter":{"state":"canceled"}}`)
	if items := s.asked(&canceled); len(items) != 499 || items[0].ID != "item-500" || items[498].ID != "item-999" {
		t.Errorf("%d items", len(items))
	}
}

// TestRetryWithAKey answers a repetition with the same batch, whatever became of the first try.
func TestRetryWithAKey(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.grant()
	a := failing(s, 600)
	key := []string{"Idempotency-Key", "again"}
	first := s.retry(a.Batch, `{"filter":{"class":"not_found"}}`, key...)
	if again := s.retry(a.Batch, `{"filter":{"class":"not_found"}}`, key...); again.Batch != first.Batch || again.Total != 2 {
		t.Errorf("%+v", again)
	}
	s.call("one/copy", "POST", "/v1/batches/"+string(a.Batch)+"/retry", `{}`, key...).want(409, CodeIdempotencyConflict)
}

// crashed leaves what a front leaves that dies after it has entered a rerun of the items 1 and 2.
func (s *stage) crashed(a *protocol.Acceptance, id protocol.BatchID, age time.Duration) {
	s.Helper()
	s.put(s.batches, protocol.RerunKey("one", a.Batch), rerunRecord{Version: 1, Entries: []rerunEntry{
		{Batch: id, Ranges: ranges{{1, 2}}, At: time.Now().Add(-age).UTC()},
	}})
}

func TestRetryAfterACrash(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.grant()
	path := func(a *protocol.Acceptance) string { return "/v1/batches/" + string(a.Batch) + "/retry" }

	t.Run("the same call goes on", func(t *testing.T) {
		a := failing(s, 600)
		id := protocol.KeyedBatchID("one", "k1")
		s.crashed(&a, id, 0)
		got := s.retry(a.Batch, `{}`, "Idempotency-Key", "k1")
		if items := s.asked(&got); got.Batch != id || len(items) != 2 { // what it took, not what it would take now
			t.Errorf("%s runs %v", got.Batch, items)
		}
	})
	t.Run("another waits for it a while", func(t *testing.T) {
		a := failing(s, 600)
		s.crashed(&a, protocol.NewBatchID(), -time.Hour) // so that the while is not over, however long this takes
		s.call("one/copy", "POST", path(&a), `{"filter":{"class":"not_found"}}`).want(409, CodeRerunPending)
		if got := s.retry(a.Batch, `{}`); got.Total != 1 {
			t.Errorf("%d items", got.Total)
		}
	})
	t.Run("another takes over in the end", func(t *testing.T) {
		for _, begun := range []bool{false, true} {
			a := failing(s, 600)
			dead := protocol.KeyedBatchID("one", fmt.Sprintf("k2-%v", begun))
			s.crashed(&a, dead, time.Hour)
			if begun {
				s.put(s.batches, protocol.AcceptKey("one", dead), protocol.Acceptance{Version: 2, Batch: dead, Org: "one", State: protocol.AcceptPending, Generation: 1, Lane: protocol.Bulk, Pool: protocol.DefaultPool})
			}
			got := s.retry(a.Batch, `{"filter":{"class":"not_found"}}`)
			if got.Total != 2 {
				t.Errorf("%d items", got.Total)
			}
			// The dead one never runs, even if it wakes up or is repeated.
			s.call("one/copy", "POST", path(&a), `{}`, "Idempotency-Key", fmt.Sprintf("k2-%v", begun)).want(409, CodeRerunTaken)
			o := order{org: "one", batch: dead, keyed: true, terms: terms{lane: protocol.Bulk, pool: protocol.DefaultPool, fed: true, request: [32]byte{1}}}
			front := s.pipeline
			at := 0
			_, err := front.acceptItems(t.Context(), o, func() (protocol.ManifestItem, error) { at++; return asksFor(at), eofAfter(at, 3) })
			if !errors.Is(err, errKeyReused) {
				t.Errorf("it woke up and got %v", err)
			}
		}
	})
	t.Run("one that was accepted keeps its items", func(t *testing.T) {
		a := failing(s, 600)
		done := s.accept(2, func(a *protocol.Acceptance) { a.Chunks, a.State = 0, protocol.AcceptComplete })
		s.crashed(&a, done.Batch, time.Hour)
		s.call("one/copy", "POST", path(&a), `{"filter":{"class":"not_found"}}`).want(409, CodeNothingToRetry)
		v := decode[batchView](s.call("one/read", "GET", "/v1/batches/"+string(a.Batch), "").want(200, ""))
		if !slices.Contains(v.Reruns, done.Batch) {
			t.Errorf("reruns %v", v.Reruns)
		}
	})
}

func eofAfter(at, last int) error {
	if at > last {
		return io.EOF
	}
	return nil
}

// TestRetryWithAKeyOfAnotherCall is refused, and does the batch of that call no harm, whatever is left of it.
func TestRetryWithAKeyOfAnotherCall(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.grant()
	a := failing(s, 600)
	id := protocol.KeyedBatchID("one", "taken")
	for _, chunks := range []int{0, 1} {
		other := s.accept(3, func(a *protocol.Acceptance) {
			a.Batch, a.Keyed, a.Request, a.Chunks = id, true, strings.Repeat("a", 64), chunks
			if chunks == 0 {
				a.State = protocol.AcceptComplete
			}
		})
		s.call("one/copy", "POST", "/v1/batches/"+string(a.Batch)+"/retry", `{}`, "Idempotency-Key", "taken").want(409, CodeIdempotencyConflict)
		s.crashed(&a, id, time.Hour)
		if got := s.retry(a.Batch, `{"filter":{"items":[1,2]}}`); got.Total != 2 {
			t.Errorf("%d items", got.Total)
		}
		record, _, err := s.pipeline.acceptance(t.Context(), "one", id)
		if err != nil || !cmp.Equal(record, other) {
			t.Errorf("%v %s", err, cmp.Diff(other, record))
		}
	}
}

// TestRetriesAtOnce run each item once.
func TestRetriesAtOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.grant()
	a := s.accept(3000)
	s.tell(&a, receiptsOf(protocol.ItemFailed, upTo(3000)...))
	var (
		calls sync.WaitGroup
		mu    sync.Mutex
		made  []protocol.BatchID
	)
	for i := range 8 {
		calls.Go(func() {
			body := `{}`
			if i%2 == 1 {
				body = fmt.Sprintf(`{"filter":{"items":[%d,%d,2999]}}`, i, i+1)
			}
			got := s.call("one/copy", "POST", "/v1/batches/"+string(a.Batch)+"/retry", body)
			switch got.status {
			case 202:
				mu.Lock()
				defer mu.Unlock()
				made = append(made, decode[rerunView](got).Batch.ID)
			case 409, 503:
			default:
				t.Errorf("%d %s", got.status, got.body)
			}
		})
	}
	calls.Wait()
	times := map[string]int{}
	for _, id := range made {
		record, _, err := s.pipeline.acceptance(t.Context(), "one", id)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range s.asked(&record) {
			times[item.ID]++
		}
	}
	for id, n := range times {
		if n != 1 {
			t.Errorf("%s runs %d times", id, n)
		}
	}
	if len(made) == 0 || len(times) == 0 {
		t.Error("nothing runs")
	}
}

// TestRetryIsValidated refuses what may not run any more, and leaves the items to others.
func TestRetryIsValidated(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := failing(s, 600)
	got := s.call("one/copy", "POST", "/v1/batches/"+string(a.Batch)+"/retry", `{}`).want(400, CodeInvalidRequest).problem()
	if got.Total != 3 || got.Errors[2].Code != faultNotGranted || !strings.Contains(got.Errors[2].Message, string(a.Batch)+".599") {
		t.Errorf("%+v", got)
	}
	s.grant()
	if got := s.retry(a.Batch, `{}`); got.Total != 3 {
		t.Errorf("%d items", got.Total)
	}
}

// TestRetryInTheInteractiveLane is refused where it has too many items, and leaves them to others.
func TestRetryInTheInteractiveLane(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.grant()
	a := s.accept(1001, func(*protocol.Acceptance) {})
	s.tell(&a, receiptsOf(protocol.ItemFailed, upTo(1001)...))
	got := s.call("one/copy", "POST", "/v1/batches/"+string(a.Batch)+"/retry", `{"lane":"interactive"}`).want(400, CodeInvalidRequest).problem()
	if got.Errors[0].Pointer != "/lane" || got.Errors[0].Code != faultTooMany {
		t.Errorf("%+v", got)
	}
	if got := s.retry(a.Batch, `{}`); got.Total != 1001 || got.Lane != protocol.Bulk {
		t.Errorf("%+v", got)
	}
}

// TestFailedReportIsAManifest posts the report of the failed items.
func TestFailedReportIsAManifest(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.grant()
	a := s.accept(600, func(a *protocol.Acceptance) {})
	for page := range 3 { // userinfo in a URL is refused nowadays
		var items []protocol.ManifestItem
		for i := page * protocol.PageSize; i < min(600, (page+1)*protocol.PageSize); i++ {
			item := asksFor(i)
			item.Src.URL = strings.Replace(item.Src.URL, "user:s3cret@", "", 1)
			if i%3 == 2 {
				item.Src.Headers = nil
			}
			if i%3 == 0 {
				item.Dest = protocol.Location{Type: protocol.HTTPPostForm, URL: "https://post.test/", Form: map[string]string{}, FileField: "file"}
				item.Conflict = protocol.Overwrite
			}
			items = append(items, item)
		}
		sealed, err := s.sealer.SealPage("one", a.Batch, page, items)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.manifests.Put(t.Context(), protocol.ManifestKey("one", a.Batch, 1, page), sealed); err != nil {
			t.Fatal(err)
		}
	}
	s.tell(&a, receiptsOf(protocol.ItemFailed, upTo(600)...))
	want := s.asked(&a)
	path := "/v1/batches/" + string(a.Batch) + "/report."
	run := func(media, text string) []protocol.ManifestItem {
		t.Helper()
		v := decode[batchView](s.call("one/copy", "POST", "/v1/batches", text, "Content-Type", media).want(202, ""))
		record, _, err := s.pipeline.acceptance(t.Context(), "one", v.ID)
		if err != nil {
			t.Fatal(err)
		}
		return s.asked(&record)
	}
	report := s.call("one/admin", "GET", path+"ndjson?state=failed&secrets=true", "").want(200, "")
	if got := run(ndjsonMedia, string(report.body)); !cmp.Equal(want, got) {
		t.Errorf("the report runs other items: %.500s", cmp.Diff(want, got))
	}
	// Without secrets the URLs have lost their queries: nothing runs.
	for format, media := range map[string]string{"ndjson": ndjsonMedia, "csv": "text/csv"} {
		report := s.call("one/admin", "GET", path+format+"?state=failed", "").want(200, "")
		refused := s.call("one/copy", "POST", "/v1/batches", string(report.body), "Content-Type", media).want(400, CodeInvalidRequest).problem()
		if e := refused.Errors[0]; refused.Total != 100 || e.Code != faultRedacted || e.Line == 0 || !strings.Contains(e.Message, "secrets=true") {
			t.Errorf("%s: %d faults, the first %+v", format, refused.Total, e)
		}
	}
	// A table has no place for headers and forms: their rows are refused by line, the others are as they were.
	report = s.call("one/admin", "GET", path+"csv?secrets=true", "").want(200, "")
	refused := s.call("one/copy", "POST", "/v1/batches", string(report.body), "Content-Type", "text/csv").want(400, CodeInvalidRequest).problem()
	if refused.Total < 100 || refused.Errors[0].Line != 2 {
		t.Errorf("%d faults, the first %+v", refused.Total, refused.Errors[0])
	}
	var kept []string
	for i, line := range strings.SplitAfter(string(report.body), "\r\n") {
		if i == 0 || i%3 == 0 {
			kept = append(kept, line)
		}
	}
	got := run("text/csv", strings.Join(kept, ""))
	if len(got) != 200 || !cmp.Equal(got[0], want[2]) {
		t.Errorf("%d items, the first %v", len(got), got[0])
	}
}

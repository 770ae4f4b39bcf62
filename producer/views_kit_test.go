package producer

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// stage is a front on a real broker. The test plays the other roles: it writes the records that they would.
type stage struct {
	*bundle

	conn                             *broker.Conn
	pipeline                         *Pipeline
	batches, controls, feeds, claims *broker.Bucket
	manifests                        *broker.Bucket
	sealer                           *protocol.Sealer
	clock                            time.Time // when the next batch was made
}

func newStage(t *testing.T) *stage {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	server, err := broker.StartServer(broker.ServerConfig{Dir: t.TempDir(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	conn, err := broker.Connect(broker.Config{Server: server, Name: t.Name(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if err := conn.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	sealer, err := protocol.NewSealer(protocol.NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{bundle: newBundle(t, Config{}), conn: conn, sealer: sealer, clock: time.Date(2030, 1, 1, 0, 0, 0, 1, time.UTC)}
	for name, bucket := range map[string]**broker.Bucket{
		broker.BatchBucket: &s.batches, broker.ControlBucket: &s.controls, broker.FeedBucket: &s.feeds,
		broker.ClaimBucket: &s.claims, broker.ManifestBucket: &s.manifests,
	} {
		if *bucket, err = conn.Bucket(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	s.open()
	return s
}

// open puts a new front on the same broker, as after a restart.
func (s *stage) open(tune ...func(*Pipeline)) {
	s.Helper()
	pipeline := s.front()
	for _, f := range tune {
		f(pipeline)
	}
	s.serve(pipeline)
	var following sync.WaitGroup
	ctx, stop := context.WithCancel(s.Context())
	following.Go(func() { pipeline.Follow(ctx) })
	s.Cleanup(func() {
		stop()
		following.Wait()
	})
}

// front is a pipeline on the same broker; it follows nothing yet.
func (s *stage) front() *Pipeline {
	s.Helper()
	pipeline, err := NewPipeline(s.Context(), s.conn, s.sealer, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		s.Fatal(err)
	}
	return pipeline
}

// serve answers calls from pipeline.
func (s *stage) serve(pipeline *Pipeline) {
	s.Helper()
	server, err := New(Config{Logger: slog.New(slog.NewJSONHandler(s.log, nil))},
		Dependencies{Pipeline: pipeline, Registry: s.registry, Presigner: s.signer, Health: s.health})
	if err != nil {
		s.Fatal(err)
	}
	s.pipeline, s.server = pipeline, server
	srv := httptest.NewServer(server.Handler())
	s.url, s.client = srv.URL, srv.Client()
	s.Cleanup(func() {
		server.StopWaiting()
		srv.Close()
	})
}

// put writes a record.
func (s *stage) put(bucket *broker.Bucket, key string, v any) {
	s.Helper()
	value, err := protocol.Encode(v)
	if err != nil {
		s.Fatal(err)
	}
	if _, err := bucket.Put(s.Context(), key, value); err != nil {
		s.Fatal(err)
	}
}

// get reads a record; it returns false if there is none.
func (s *stage) get(bucket *broker.Bucket, key string, into any) bool {
	s.Helper()
	revision, err := readInto(s.Context(), bucket, key, into)
	if err != nil {
		s.Fatal(err)
	}
	return revision > 0
}

// accept makes a batch of org one of so many items, each newer than the one before. Up to a page is published, more is fed.
func (s *stage) accept(total int, change ...func(*protocol.Acceptance)) protocol.Acceptance {
	s.Helper()
	s.clock = s.clock.Add(time.Second)
	a := protocol.Acceptance{
		Version: protocol.AcceptanceVersion, Batch: protocol.NewBatchID(), Org: "one", Lane: protocol.Bulk, Pool: protocol.DefaultPool,
		Total: total, Chunks: 1, State: protocol.AcceptPending, Created: s.clock,
	}
	if !protocol.Inline(total) {
		a.Chunks, a.State, a.Generation = 0, protocol.AcceptComplete, 1
	}
	for _, f := range change {
		f(&a)
	}
	for page := range protocol.Pages(a.Total) {
		var items []protocol.ManifestItem
		for i := page * protocol.PageSize; i < min(a.Total, (page+1)*protocol.PageSize); i++ {
			items = append(items, asksFor(i))
		}
		sealed, err := s.sealer.SealPage(a.Org, a.Batch, page, items)
		if err != nil {
			s.Fatal(err)
		}
		if protocol.Inline(a.Total) {
			a.Manifest = sealed
		} else if _, err := s.manifests.Put(s.Context(), protocol.ManifestKey(a.Org, a.Batch, a.Generation, page), sealed); err != nil {
			s.Fatal(err)
		}
	}
	s.put(s.batches, protocol.AcceptKey(a.Org, a.Batch), a)
	return a
}

// asksFor is item i of every batch.
func asksFor(i int) protocol.ManifestItem {
	n := strconv.Itoa(i)
	return protocol.ManifestItem{
		ID:   "item-" + n,
		Src:  protocol.Location{Type: protocol.HTTPGet, URL: "https://user:s3cret@src.test/" + n + "?sig=s3cret", Headers: map[string]string{"Authorization": "s3cret"}},
		Dest: protocol.Location{Type: protocol.Object, Bucket: "results", Key: n},

		Conflict: protocol.FailIfThere, Digest: protocol.DigestNone,
	}
}

// tell stores the receipts of a batch and the summary that is derived from them, as the aggregator does. Items without a receipt have
// no news. It returns the summary.
func (s *stage) tell(a *protocol.Acceptance, receipts []protocol.Receipt, change ...func(*protocol.Summary)) protocol.Summary {
	s.Helper()
	sum := protocol.Summary{Version: protocol.SummaryVersion, Batch: a.Batch, Org: a.Org, Lane: a.Lane, Total: a.Total, Started: s.clock}
	pages := map[int]*protocol.Page{}
	for i := range receipts {
		r := &receipts[i]
		sum.Tally.Count(r)
		n := protocol.PageOf(r.Index)
		if pages[n] == nil {
			pages[n] = &protocol.Page{Version: protocol.SummaryVersion, First: n * protocol.PageSize}
		}
		pages[n].Receipts = append(pages[n].Receipts, *r)
	}
	sum.State = sum.Tally.State(a.Total)
	if protocol.Inline(a.Total) {
		sum.Receipts = receipts
	} else {
		for n, page := range pages {
			s.put(s.batches, protocol.PageKey(a.Org, a.Batch, n), page)
		}
	}
	for _, f := range change {
		f(&sum)
	}
	s.put(s.batches, protocol.SummaryKey(a.Org, a.Batch), sum)
	if err := s.conn.Changed(a.Org, a.Batch, sum.State.Final()); err != nil {
		s.Fatal(err)
	}
	return sum
}

// rest ends a batch as a stop does: what has not ended is canceled.
func rest(s *protocol.Summary) {
	s.Rest, s.Reason = protocol.ItemCanceled, protocol.ReasonCaller
	s.Tally.Retrying = 0
	s.Tally.Canceled = s.Total - s.Tally.Succeeded - s.Tally.Failed - s.Tally.Skipped
	s.State, s.Ended = s.Tally.State(s.Total), time.Now().UTC()
}

// wanted stores a control, as another front or the aggregator does.
func (s *stage) wanted(a *protocol.Acceptance, w protocol.Wanted, reason string) {
	s.Helper()
	s.put(s.controls, protocol.ControlKey(a.Org, a.Batch), protocol.Control{
		Version: protocol.ControlVersion, Org: a.Org, Batch: a.Batch, Wanted: w, Reason: reason, At: time.Now().UTC(),
	})
	if err := s.conn.Changed(a.Org, a.Batch, false); err != nil {
		s.Fatal(err)
	}
}

// holds stores the claim of a worker that is alive, however long the test takes: its clock is ahead.
func (s *stage) holds(worker, pool string, refs ...protocol.Ref) {
	s.Helper()
	claim := protocol.Claim{Version: protocol.ClaimVersion, Worker: worker, Written: time.Now().Add(time.Hour).UTC(), Pool: pool, Slots: 8, Held: []protocol.HeldClaim{}}
	for _, ref := range refs {
		claim.Held = append(claim.Held, protocol.HeldClaim{Ref: ref, Fence: 1})
	}
	s.put(s.claims, worker, claim)
	s.pipeline.views.claims.mu.Lock()
	s.pipeline.views.claims.read = time.Time{} // the next look reads it
	s.pipeline.views.claims.mu.Unlock()
}

func ref(a *protocol.Acceptance, index int) protocol.Ref {
	return protocol.Ref{Org: a.Org, Batch: a.Batch, Index: index}
}

// receipts of items that ended in a state, or wait for a retry, each after an attempt; canceled ones without.
func receiptsOf(state protocol.ItemState, indexes ...int) []protocol.Receipt {
	list := make([]protocol.Receipt, len(indexes))
	for i, index := range indexes {
		r := protocol.Receipt{Index: index, ID: "item-" + strconv.Itoa(index), State: state}
		at := time.Date(2030, 1, 1, 1, 0, 0, 0, time.UTC)
		if state != protocol.ItemCanceled {
			r.Attempts = []protocol.Attempt{{Number: 1, Worker: "w", Start: at, End: at.Add(time.Second)}}
		}
		switch state {
		case protocol.ItemSucceeded:
			r.Bytes, r.Verified = 10, true
		case protocol.ItemFailed, protocol.ItemRetrying:
			r.Failure = &protocol.Failure{Class: protocol.NotFound, Code: "source_http_404", Message: "Failed to download file: 404 Not Found", Status: 404, Host: "src.test"}
		default:
		}
		list[i] = r
	}
	return list
}

func upTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// until waits for something that another goroutine brings about.
func (s *stage) until(what string, ok func() bool) {
	s.Helper()
	limit := time.After(3 * time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-limit:
			s.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

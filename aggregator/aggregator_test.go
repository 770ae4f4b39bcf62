package aggregator_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/aggregator"
	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bundle is a broker with aggregators on it.
type bundle struct {
	testing.TB

	conn    *broker.Conn
	batches *broker.Bucket
}

func newBundle(t *testing.T) *bundle {
	t.Helper()
	return newBundleOf(t)
}

func newBundleOf(t testing.TB) *bundle {
	t.Helper()
	server, err := broker.StartServer(broker.ServerConfig{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	conn, err := broker.Connect(broker.Config{Server: server, Name: t.Name(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if err := conn.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	batches, err := conn.Bucket(t.Context(), broker.BatchBucket)
	if err != nil {
		t.Fatal(err)
	}
	return &bundle{TB: t, conn: conn, batches: batches}
}

// run starts an aggregator; the returned function stops it and waits.
func (b *bundle) run(cfg aggregator.Config) (stop func()) {
	b.Helper()
	a, err := aggregator.New(b.Context(), cfg, b.conn)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context())) // a cleanup may be what stops it
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			b.Errorf("the aggregator ended with %v", err)
		}
	}
}

func (b *bundle) publish(reports ...protocol.Report) {
	b.Helper()
	data, err := json.Marshal(protocol.ReportBundle{Version: protocol.ReportVersion, Worker: "w", Reports: reports})
	if err != nil {
		b.Fatal(err)
	}
	if err := b.conn.PublishReports(b.Context(), data); err != nil {
		b.Fatal(err)
	}
}

func (b *bundle) summary(batch protocol.BatchID) (protocol.Summary, bool) {
	b.Helper()
	entry, err := b.batches.Get(b.Context(), protocol.SummaryKey("ORG", batch))
	if errors.Is(err, broker.ErrNotFound) {
		return protocol.Summary{}, false
	}
	if err != nil {
		b.Fatal(err)
	}
	var s protocol.Summary
	if err := json.Unmarshal(entry.Value, &s); err != nil {
		b.Fatal(err)
	}
	return s, true
}

// final waits until a batch has ended.
func (b *bundle) final(batch protocol.BatchID) protocol.Summary {
	b.Helper()
	var s protocol.Summary
	b.eventually(func() bool {
		var found bool
		s, found = b.summary(batch)
		return found && s.State.Final()
	})
	return s
}

func (b *bundle) eventually(ok func() bool) {
	b.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(4 * time.Minute)
	defer limit.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit.C:
			b.Fatal("it does not come to that")
		}
	}
}

// pages reads all receipts of a batch from its pages, or from its summary.
func (b *bundle) pages(batch protocol.BatchID, total int) []protocol.Receipt {
	b.Helper()
	if protocol.Inline(total) {
		s, _ := b.summary(batch)
		return s.Receipts
	}
	var all []protocol.Receipt
	for n := range protocol.Pages(total) {
		entry, err := b.batches.Get(b.Context(), protocol.PageKey("ORG", batch, n))
		if err != nil {
			b.Fatal(err)
		}
		var page protocol.Page
		if err := json.Unmarshal(entry.Value, &page); err != nil {
			b.Fatal(err)
		}
		all = append(all, page.Receipts...)
	}
	return all
}

// report makes the news of an item; every third item fails.
func report(batch protocol.BatchID, index, total int) protocol.Report {
	r := protocol.Report{Ref: protocol.Ref{Org: "ORG", Batch: batch, Index: index}, Total: total, Lane: protocol.Bulk}
	r.Receipt = protocol.Receipt{Index: index, State: protocol.ItemSucceeded, Bytes: 10, Attempts: []protocol.Attempt{{Number: 1, Start: time.Now(), End: time.Now()}}}
	if index%3 == 0 {
		r.Receipt.State, r.Receipt.Bytes = protocol.ItemFailed, 0
		r.Receipt.Failure = &protocol.Failure{Class: protocol.NotFound, Code: "source_http_404", Message: "Failed to download file: 404 Not Found"}
	}
	return r
}

func checkWhole(b *bundle, batch protocol.BatchID, total int) {
	b.Helper()
	s := b.final(batch)
	failed := (total + 2) / 3
	want := protocol.Tally{Succeeded: total - failed, Failed: failed, Bytes: int64(10 * (total - failed))}
	if s.Tally != want {
		b.Errorf("%s: tally %+v, want %+v", batch, s.Tally, want)
	}
	if total > 1 && s.State != protocol.BatchCompletedWithErrors {
		b.Errorf("%s: state %s", batch, s.State)
	}
	all := b.pages(batch, total)
	if len(all) != total {
		b.Fatalf("%s: %d receipts, want %d", batch, len(all), total)
	}
	for i, r := range all {
		if r.Index != i || !r.State.Final() {
			b.Fatalf("%s: receipt %d is of item %d, %s", batch, i, r.Index, r.State)
		}
	}
}

func TestReportsBecomeReceipts(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{})()
	for _, total := range []int{1, 2, protocol.PageSize, protocol.PageSize + 1, 1000} {
		batch := protocol.NewBatchID()
		var reports []protocol.Report
		for i := range total {
			reports = append(reports, report(batch, i, total))
		}
		rand.Shuffle(total, func(i, j int) { reports[i], reports[j] = reports[j], reports[i] })
		for len(reports) > 0 {
			n := min(len(reports), 1+rand.IntN(200))
			b.publish(reports[:n]...)
			if rand.IntN(2) == 0 {
				b.publish(reports[:n]...) // delivered twice
			}
			reports = reports[n:]
		}
		checkWhole(b, batch, total)
	}
}

// TestAggregatorsSideBySide runs aggregators side by side on the same batches: their commits meet, and the loser folds again.
func TestAggregatorsSideBySide(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	for range 3 {
		t.Cleanup(b.run(aggregator.Config{Interval: time.Millisecond}))
	}
	const total = 700
	batches := []protocol.BatchID{protocol.NewBatchID(), protocol.NewBatchID(), protocol.NewBatchID()}
	for i := range total {
		for _, batch := range batches {
			b.publish(report(batch, i, total))
		}
	}
	for _, batch := range batches {
		checkWhole(b, batch, total)
	}
}

func TestOutcomeNeverChanges(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{})()
	batch := protocol.NewBatchID()
	first := report(batch, 1, 2)
	b.publish(first)
	b.eventually(func() bool { s, found := b.summary(batch); return found && s.Tally.Succeeded == 1 })
	late := first
	late.Receipt.State, late.Receipt.Bytes = protocol.ItemFailed, 0
	retrying := first
	retrying.Receipt.State, retrying.Receipt.Attempts = protocol.ItemRetrying, make([]protocol.Attempt, 9)
	b.publish(late, retrying)
	outside := report(batch, 7, 2) // no item of this batch
	b.publish(outside, report(batch, 0, 2))
	s := b.final(batch)
	if want := (protocol.Tally{Succeeded: 1, Failed: 1, Bytes: 10}); s.Tally != want {
		t.Errorf("tally %+v, want %+v", s.Tally, want)
	}
}

func TestRestartGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	const total = 600
	batch := protocol.NewBatchID()
	for i := 0; i < total; i += 50 {
		stop := b.run(aggregator.Config{})
		var reports []protocol.Report
		for j := range 50 {
			reports = append(reports, report(batch, i+j, total))
		}
		b.publish(reports...)
		stop() // wherever it is
	}
	defer b.run(aggregator.Config{})()
	checkWhole(b, batch, total)
}

func TestBrokenBundleDoesNotStopTheRest(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{})()
	if err := b.conn.PublishReports(b.Context(), []byte("no JSON")); err != nil {
		t.Fatal(err)
	}
	batch := protocol.NewBatchID()
	b.publish(report(batch, 0, 1))
	b.final(batch)
}

func TestQueueIsTrimmedUpToWhatIsAcknowledged(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	org := protocol.OrgID("ORG")
	batch := protocol.NewBatchID()
	subject := protocol.WorkSubject(protocol.Bulk, protocol.DefaultPool, protocol.ShardOf(org), org, batch)
	guard := func(chunk int) string { return protocol.GuardSubject(protocol.Bulk, org, batch, 0, chunk) }
	for chunk, items := range [][][]byte{{[]byte("gone")}, {[]byte("held"), []byte("done")}} {
		if _, err := b.conn.PublishChunk(b.Context(), guard(chunk), subject, items); err != nil {
			t.Fatal(err)
		}
	}
	stop := b.run(aggregator.Config{TrimEvery: 20 * time.Millisecond, TrimAfter: time.Millisecond, TrimLeast: 1})
	in, err := b.conn.Intake(b.Context(), protocol.DefaultPool)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	items, err := in.Fetch(b.Context(), 3, 3)
	if err != nil || len(items) != 3 {
		t.Fatalf("fetched %d, %v", len(items), err)
	}
	for _, i := range []int{0, 2} {
		if err := items[i].Ack(); err != nil {
			t.Fatal(err)
		}
	}
	b.eventually(func() bool {
		published, err := b.conn.Published(b.Context(), protocol.Bulk, guard(0))
		return err == nil && !published
	})
	stop() // a purge that meets a redelivery delays it
	// The item in between is not acknowledged: it must come again, whatever was acknowledged behind it.
	if err := items[1].Nak(0); err != nil {
		t.Fatal(err)
	}
	var again []*broker.Delivery
	for len(again) == 0 {
		if again, err = in.Fetch(b.Context(), 3, 3); err != nil {
			t.Fatal(err)
		}
		if len(again) == 0 {
			if err := in.Wait(b.Context(), true, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(again) != 1 || string(again[0].Data) != "held" {
		t.Errorf("got %d items, first %q, want the one that was not acknowledged", len(again), again[0].Data)
	}
}

func TestAbandonedAcceptance(t *testing.T) {
	t.Parallel()
	for _, chunks := range []int{1, 3} {
		b := newBundle(t)
		record := protocol.Acceptance{Version: 1, Batch: protocol.NewBatchID(), Org: "ORG", Lane: protocol.Bulk, Total: 5, Chunks: chunks, State: protocol.AcceptPending, Created: time.Now().Add(-time.Hour)}
		value, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		key := protocol.AcceptKey("ORG", record.Batch)
		if _, err := b.batches.Create(b.Context(), key, value); err != nil {
			t.Fatal(err)
		}
		stop := b.run(aggregator.Config{SweepEvery: 20 * time.Millisecond})
		b.eventually(func() bool {
			entry, err := b.batches.Get(b.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			var now protocol.Acceptance
			if err := json.Unmarshal(entry.Value, &now); err != nil {
				t.Fatal(err)
			}
			return now.State == protocol.AcceptAbandoned
		})
		stop()
	}
}

// TestPageThatIsTooLargeHoldsUpNobody reports failures whose texts no broker would take in one message. Workers do not
// make such; an older one might.
func TestPageThatIsTooLargeHoldsUpNobody(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	defer b.run(aggregator.Config{})()
	const total = 40
	large := protocol.NewBatchID()
	text := strings.Repeat("x", 150<<10)
	for i := range total {
		r := report(large, i, total)
		r.Receipt.State, r.Receipt.Bytes = protocol.ItemFailed, 0
		r.Receipt.Failure = &protocol.Failure{Class: protocol.NotFound, Code: "x", Message: text, Cause: text, Host: "host"}
		b.publish(r)
	}
	small := protocol.NewBatchID()
	b.publish(report(small, 0, 1))
	b.final(small)
	s := b.final(large)
	if s.Tally.Failed != total || len(s.Groups) != 1 || s.Groups[0].Count != total || s.GroupsLeft != 0 {
		t.Errorf("tally %+v, %d groups, %d in none", s.Tally, len(s.Groups), s.GroupsLeft)
	}
	for _, r := range b.pages(large, total) {
		if r.Failure.Host != "host" {
			t.Fatalf("item %d has lost the host of its failure", r.Index)
		}
	}
	b.eventually(func() bool {
		floors, err := b.conn.Floors(b.Context())
		last, lastErr := b.conn.LastReport(b.Context())
		return err == nil && lastErr == nil && floors.Folded(last)
	})
}

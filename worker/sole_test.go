package worker

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// summary reads that of the kit's batch.
func (k *earlyKit) summary(t *testing.T) (s protocol.Summary, revision uint64) {
	t.Helper()
	entry, err := bucketFor(t, k.conn, broker.BatchBucket).Get(t.Context(), protocol.SummaryKey(k.ref.Org, k.ref.Batch))
	if errors.Is(err, broker.ErrNotFound) {
		return s, 0
	}
	if err == nil {
		err = json.Unmarshal(entry.Value, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s, entry.Revision
}

// TestSoleItemIsCommittedByItsWorker has no aggregator, and finds the batch ended.
func TestSoleItemIsCommittedByItsWorker(t *testing.T) {
	t.Parallel()
	k := newEarlyKit(t)
	news, stop, err := k.conn.WatchChanges(k.ref.Org, k.ref.Batch)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	end := k.listen(t, k.worker(t))
	k.publish(t, interactive)
	var told protocol.Summary
	select {
	case data := <-news:
		if err := json.Unmarshal(data, &told); err != nil {
			t.Fatalf("what is told of the end: %v: %s", err, data)
		}
	case <-time.After(partsLimit):
		t.Fatal("nobody is told of the end")
	}
	s, _ := k.summary(t)
	if s.State != protocol.BatchSucceeded || s.Tally.Succeeded != 1 || len(s.Receipts) != 1 || !s.Receipts[0].State.Final() {
		t.Errorf("the batch is %+v", s)
	}
	if told.State != s.State || len(told.Receipts) != 1 || told.Receipts[0].SHA256 != s.Receipts[0].SHA256 {
		t.Errorf("told is %+v", told)
	}
	end()
	if len(k.receipts) > 0 {
		t.Error("it is reported as well")
	}
}

// TestOutcomeThatStandsIsNotReplaced lets something be known of the batch before its item ends: that is left as it is, and the item reported.
func TestOutcomeThatStandsIsNotReplaced(t *testing.T) {
	t.Parallel()
	k := newEarlyKit(t)
	value, err := protocol.Encode(protocol.Summary{Version: protocol.SummaryVersion, Org: k.ref.Org, Batch: k.ref.Batch, Total: 1, State: protocol.BatchCanceled})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bucketFor(t, k.conn, broker.BatchBucket).Create(t.Context(), protocol.SummaryKey(k.ref.Org, k.ref.Batch), value); err != nil {
		t.Fatal(err)
	}
	_, before := k.summary(t)
	k.listen(t, k.worker(t))
	k.publish(t, interactive)
	if r := k.final(t); r.State != protocol.ItemSucceeded {
		t.Errorf("reported is %+v", r)
	}
	if _, now := k.summary(t); now != before {
		t.Error("the summary was written over")
	}
}

// TestWhatIsSole goes through all that speaks for the aggregator.
func TestWhatIsSole(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change   func(*protocol.Work, *protocol.Receipt)
		repeated bool
		sole     bool
	}{
		"copied":           {func(*protocol.Work, *protocol.Receipt) {}, false, true},
		"skipped":          {func(_ *protocol.Work, r *protocol.Receipt) { r.State = protocol.ItemSkipped }, false, true},
		"failed":           {func(_ *protocol.Work, r *protocol.Receipt) { r.State = protocol.ItemFailed }, false, false},
		"retrying":         {func(_ *protocol.Work, r *protocol.Receipt) { r.State = protocol.ItemRetrying }, false, false},
		"delivered before": {func(*protocol.Work, *protocol.Receipt) {}, true, false},
		"bulk":             {func(w *protocol.Work, _ *protocol.Receipt) { w.Lane = protocol.Bulk }, false, false},
		"one of two":       {func(w *protocol.Work, _ *protocol.Receipt) { w.Total = 2 }, false, false},
		"a notice":         {func(w *protocol.Work, _ *protocol.Receipt) { w.Kind = protocol.KindWebhook }, false, false},
		"second attempt":   {func(_ *protocol.Work, r *protocol.Receipt) { r.Attempts = append(r.Attempts, r.Attempts[0]) }, false, false},
		"long": {func(_ *protocol.Work, r *protocol.Receipt) {
			r.Attempts[0].Start = time.Now().Add(-soleTime)
		}, false, false},
	} {
		j := job{work: protocol.Work{Lane: protocol.Interactive, Total: 1}, delivery: &broker.Delivery{Repeated: c.repeated}}
		r := protocol.Receipt{State: protocol.ItemSucceeded, Attempts: []protocol.Attempt{{Start: time.Now()}}}
		c.change(&j.work, &r)
		if j.sole(&r) != c.sole {
			t.Errorf("%s: sole is %t", name, !c.sole)
		}
	}
}

// TestOutcomeThatWaitedIsReported: while the broker was away the batch may have ended by another worker, and been removed.
func TestOutcomeThatWaitedIsReported(t *testing.T) {
	t.Parallel()
	w := unwatched(t)
	report := &protocol.Report{Ref: protocol.Ref{Org: "O", Batch: "b"}, Total: 1, Lane: protocol.Interactive, Receipt: protocol.Receipt{
		State: protocol.ItemSucceeded, Attempts: []protocol.Attempt{{Number: 1, Start: time.Now().Add(-soleTime)}},
	}}
	if w.commitSole(t.Context(), []news{{sole: report}}) {
		t.Error("the outcome of a batch that may have been removed is committed")
	}
}

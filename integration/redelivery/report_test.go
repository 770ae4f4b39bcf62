package redelivery

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	settles      = 240 * time.Second
	reportStream = "CF_REPORT"
	batchBucket  = "cf-batches"
)

// fleet is a fleet of roles without an aggregator.
func fleet(t *testing.T) *mixtest.Fleet {
	t.Helper()
	f := mixtest.NewRoles(t, miniotest.Shared(t), mixtest.Steady)
	f.StartNATS(t)
	f.Start(t, "api")
	f.Start(t, "worker")
	return f
}

// run copies a batch with the call that waits. A front that has not found its NATS again is asked again.
func run(t *testing.T, f *mixtest.Fleet, batch mixtest.Batch) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settles)
	defer cancel()
	var answer mixtest.Answer
	var err error
	mixtest.Until(settles, func() bool {
		answer, err = f.API.Copy(ctx, f.Sandbox, map[string]string{"Idempotency-Key": batch[0].ID}, batch.Files())
		return err != nil || answer.Status != http.StatusServiceUnavailable
	})
	if err != nil || answer.Status != http.StatusOK {
		t.Fatalf("the call was answered %d, %v: %s", answer.Status, err, answer.Body)
	}
	return answer.Batch()
}

// withRetry is a mixed batch in which every seventh item succeeds at its second attempt, so that there are reports of
// retries too.
func withRetry(t *testing.T, f *mixtest.Fleet, name string, n int) mixtest.Batch {
	t.Helper()
	batch := f.Mixed(t, name, n)
	for i := 0; i < n; i += 7 {
		path := "/get/again/" + batch[i].ID
		batch[i].Src = mixtest.FromURL(f.GiveAfter(path, batch[i].Content, 1))
	}
	return batch
}

// stored returns the bundles in the report stream, oldest first.
func stored(t *testing.T, js jetstream.JetStream) [][]byte {
	t.Helper()
	stream, err := js.Stream(t.Context(), reportStream)
	if err != nil {
		t.Fatal(err)
	}
	var bundles [][]byte
	state := stream.CachedInfo().State
	for seq := max(1, state.FirstSeq); seq <= state.LastSeq; seq++ {
		msg, err := stream.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		bundle, err := broker.Unpack(msg.Data)
		if err != nil {
			t.Fatal(err)
		}
		bundles = append(bundles, bundle)
	}
	return bundles
}

func publish(t *testing.T, js jetstream.JetStream, bundles [][]byte) {
	t.Helper()
	for _, b := range bundles {
		if _, err := js.Publish(t.Context(), protocol.ReportSubject, b); err != nil {
			t.Fatal(err)
		}
	}
}

// folded waits until the aggregator has nothing left to fold.
func folded(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	consumed(t, js, reportStream, "aggregator")
}

// consumed waits until a consumer has nothing left to deliver and nothing that is not acknowledged.
func consumed(t *testing.T, js jetstream.JetStream, stream, consumer string) {
	t.Helper()
	var last *jetstream.ConsumerInfo
	if !mixtest.Until(settles, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c, err := js.Consumer(ctx, stream, consumer)
		if err != nil {
			return false
		}
		last = c.CachedInfo()
		return last.NumPending == 0 && last.NumAckPending == 0
	}) {
		t.Fatalf("%s of %s is not through within %s: %+v", consumer, stream, settles, last)
	}
}

// altered returns bundles that tell another end of the items that have one: late news of workers that lost them, and of
// items that do not exist.
func altered(t *testing.T, bundles [][]byte) [][]byte {
	t.Helper()
	out := make([][]byte, 0, len(bundles))
	for _, data := range bundles {
		var b protocol.ReportBundle
		if err := json.Unmarshal(data, &b); err != nil {
			t.Fatal(err)
		}
		b.Reports = slices.DeleteFunc(b.Reports, func(r protocol.Report) bool { return !r.Receipt.State.Final() })
		for i := range b.Reports {
			r := &b.Reports[i]
			attempt := protocol.Attempt{Number: 9, Worker: "stale", Start: time.Now(), End: time.Now()}
			r.Receipt.Attempts = append(r.Receipt.Attempts, attempt)
			switch i % 3 {
			case 0:
				r.Receipt.State, r.Receipt.Bytes, r.Receipt.SHA256 = protocol.ItemFailed, 0, ""
				r.Receipt.Failure = &protocol.Failure{Class: protocol.Interrupted, Code: "stale", Message: "late"}
			case 1:
				r.Receipt.State, r.Receipt.SHA256, r.Receipt.Bytes = protocol.ItemSucceeded, mixtest.SHA256([]byte("other")), 5
			case 2:
				r.Receipt.State = protocol.ItemRetrying
			}
			if i%10 == 9 {
				r.Receipt.Index, r.Ref.Index = r.Total, r.Total
			}
		}
		data, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, data)
	}
	return out
}

// unchanged compares all records of all batches.
func unchanged(t *testing.T, f *mixtest.Fleet, before map[string][]byte, what string) {
	t.Helper()
	after := f.Records(t, batchBucket)
	if !maps.EqualFunc(before, after, bytes.Equal) {
		for key, value := range after {
			if !bytes.Equal(before[key], value) {
				t.Errorf("%s changed %s\nbefore: %.300s\nafter:  %.300s", what, key, before[key], value)
			}
		}
		t.Fatalf("%s changed the records", what)
	}
}

func TestReportsThatComeAgainChangeNothing(t *testing.T) {
	t.Parallel()
	f := fleet(t)
	aggregator := f.Start(t, "aggregator")
	js := f.JetStream(t)
	small, large := withRetry(t, f, "small", 25), withRetry(t, f, "large", protocol.PageSize+44)
	ids := []string{run(t, f, small), run(t, f, large)}
	folded(t, js)
	bundles, before := stored(t, js), f.Records(t, batchBucket)
	backwards := slices.Clone(bundles)
	slices.Reverse(backwards)
	repeats := []struct {
		what    string
		bundles [][]byte
	}{{"the same reports", bundles}, {"the same reports backwards", backwards}, {"late and wrong reports", altered(t, bundles)}}
	for range 2 {
		for _, again := range repeats {
			publish(t, js, again.bundles)
			folded(t, js)
			unchanged(t, f, before, again.what)
		}
		aggregator.Kill9(t) // another one starts from what is stored, not from what it remembers
		aggregator = f.Start(t, "aggregator")
	}
	f.Check(t, ids[0], small, settles)
	f.Check(t, ids[1], large, settles)
	t.Logf("%d items, %d faults (bundles that came again, or late and wrong), 0 lost, 0 changed", len(small)+len(large), 6*len(bundles))
}

// The first that an aggregator hears of a batch is everything twice and backwards, and wrong news in between.
func TestReportsInAnyOrderComeToTheSameEnd(t *testing.T) {
	t.Parallel()
	f := fleet(t)
	js := f.JetStream(t)
	// As many as are published with the call: a larger batch is fed by the aggregator, which must not run yet.
	batch := withRetry(t, f, "order", protocol.PageSize)
	answer, err := f.API.Copy(t.Context(), f.Sandbox, map[string]string{"Prefer": "respond-async"}, batch.Files())
	if err != nil || answer.Status != 202 {
		t.Fatalf("the call was answered %d, %v: %s", answer.Status, err, answer.Body)
	}
	var bundles [][]byte
	if !mixtest.Until(settles, func() bool { bundles = stored(t, js); return outcomes(t, bundles) == len(batch) }) {
		t.Fatalf("%d of %d outcomes are stored", outcomes(t, bundles), len(batch))
	}
	// What the worker stored goes; it comes back twice, the last first.
	stream, err := js.Stream(t.Context(), reportStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(bundles)
	half := bundles[:len(bundles)/2]
	publish(t, js, half)
	publish(t, js, altered(t, half)) // while the batch runs
	publish(t, js, bundles)
	f.Start(t, "aggregator")
	receipts := f.Check(t, answer.Batch(), batch, settles)
	for i := range receipts {
		if want := 1 + b2i(i%7 == 0); len(receipts[i].Attempts) != want {
			t.Errorf("item %d: %d attempts in its receipt, made were %d", i, len(receipts[i].Attempts), want)
		}
	}
	t.Logf("%d items, %d faults (bundles backwards, twice, late and wrong), 0 lost", len(batch), len(bundles)+2*len(half))
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// outcomes counts the final reports.
func outcomes(t *testing.T, bundles [][]byte) int {
	t.Helper()
	n := 0
	for _, data := range bundles {
		var b protocol.ReportBundle
		if err := json.Unmarshal(data, &b); err != nil {
			t.Fatal(err)
		}
		for i := range b.Reports {
			n += b2i(b.Reports[i].Receipt.State.Final())
		}
	}
	return n
}

package aggregator_test

import (
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/aggregator"
	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// keys are the keys of a batch in all buckets, markers of deletions among them.
func (b *bundle) keys(a protocol.Acceptance) []string {
	b.Helper()
	var all []string
	for _, bucket := range []string{broker.BatchBucket, broker.ManifestBucket, broker.ControlBucket, broker.FeedBucket, broker.PartBucket} {
		subjects, err := b.bucket(bucket).Keys(b.Context(), ">")
		if err != nil {
			b.Fatal(err)
		}
		for _, key := range subjects {
			if strings.Contains(key, protocol.ControlKey(a.Org, a.Batch)) {
				all = append(all, bucket+" "+key)
			}
		}
	}
	return all
}

func TestRetentionLeavesNothingOfWhatEnded(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	const total = 600
	large, small, stopped, running, young := accepted("ORG", total, protocol.Options{}), accepted("ORG", 2, protocol.Options{}),
		accepted("ORG", total, protocol.Options{}), accepted("ORG", total, protocol.Options{}), accepted("ORG", 1, protocol.Options{})
	abandoned := accepted("ORG", 0, protocol.Options{})
	abandoned.State, abandoned.Created = protocol.AcceptPending, time.Now().Add(-time.Hour)
	for _, a := range []protocol.Acceptance{large, small, stopped, running} {
		b.accept(a)
		for page := range protocol.Pages(a.Total) {
			put(b, broker.ManifestBucket, protocol.ManifestKey(a.Org, a.Batch, 1, page), "page")
		}
	}
	put(b, broker.BatchBucket, protocol.RerunKey("ORG", large.Batch), "rerun")
	b.plan(large.Batch, 3, 9, "u")
	put(b, broker.PartBucket, protocol.PartPageKey("ORG", large.Batch, 3, 0), protocol.PartPage{Upload: "u"})
	b.want(stopped, stop)
	put(b, broker.BatchBucket, protocol.AcceptKey("ORG", abandoned.Batch), abandoned)
	put(b, broker.ManifestBucket, protocol.ManifestKey("ORG", abandoned.Batch, 1, 0), "page")
	b.publish(report(running.Batch, 0, total))
	for _, a := range []protocol.Acceptance{large, small} {
		for i := range a.Total {
			b.publish(report(a.Batch, i, a.Total))
		}
	}
	halt := b.run(aggregator.Config{AbandonAfter: time.Millisecond, SweepEvery: 20 * time.Millisecond})
	b.final(large.Batch)
	b.final(small.Batch)
	b.final(stopped.Batch)
	b.eventually(func() bool { s, _ := b.summary(running.Batch); return s.Tally.Ended() == 1 })
	b.eventually(func() bool {
		a, _ := get[protocol.Acceptance](b, broker.BatchBucket, protocol.AcceptKey("ORG", abandoned.Batch))
		return a.State == protocol.AcceptAbandoned
	})
	b.eventually(func() bool { return len(b.keys(abandoned)) == 1 }) // its manifest goes at once
	halt()

	// Long enough for the end of one to be seen before it is removed.
	defer b.run(aggregator.Config{Retention: 5 * time.Second, RetainEvery: 50 * time.Millisecond, TrimEvery: 50 * time.Millisecond, TrimAfter: time.Millisecond, TrimLeast: 1})()
	for _, a := range []protocol.Acceptance{large, small, stopped, abandoned} {
		b.eventually(func() bool { return len(b.keys(a)) == 0 })
	}
	if left := b.keys(running); len(left) < 6 { // acceptance, feed, summary, page, three pages of the manifest
		t.Errorf("of a batch that has not ended only %q are left", left)
	}
	b.publish(report(young.Batch, 0, 1))
	b.final(young.Batch)
	late := report(large.Batch, 5, total)
	late.Receipt.Attempts[0].Start = time.Now().Add(-2 * time.Hour)
	b.publish(late, report(protocol.NewBatchID(), 0, 1))
	b.eventually(func() bool { floor, last, err := b.conn.ReportFloor(t.Context()); return err == nil && floor == last })
	if left := b.keys(large); len(left) > 0 {
		t.Errorf("a late report brought %q back", left)
	}
}

package events

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/producer/triggers"
	"github.com/copyfleet/copyfleet/protocol"
)

// sweep has a rule swept, which must come to its end.
func (f *fleet) sweep(t *testing.T, rule, query string) triggers.Swept {
	t.Helper()
	answer, err := f.API.Call(t.Context(), http.MethodPost, "/v1/rules/"+rule+"/sweep"+query, nil, nil)
	var swept triggers.Swept
	if err == nil {
		err = json.Unmarshal(answer.Body, &swept)
	}
	if err != nil || answer.Status != http.StatusOK || swept.State != "done" {
		t.Fatalf("the sweep: status %d, %v: %s", answer.Status, err, answer.Body)
	}
	return swept
}

// some puts objects from one number to before another.
func (f *fleet) some(t *testing.T, bucket string, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		f.puts(t, bucket, objectName(i), objectContent(i))
	}
}

// TestFrontIsDownWhileObjectsAreWritten has MinIO publish while no process of ours reads: JetStream keeps what comes to our stream, and MinIO what it cannot
// deliver to the webhook.
func TestFrontIsDownWhileObjectsAreWritten(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	targets := map[string]string{"core": natsCore, "js": natsJetStream, "js-queue": natsQueued, "hook-queue": webhookQueued}
	buckets := map[string]string{}
	const before, n = 5, 25
	for rule, arn := range targets {
		buckets[rule] = f.publishing(t, arn)
		f.apply(t, f.toSandbox(rule, buckets[rule]))
		f.some(t, buckets[rule], 0, before)
		f.copied(t, rule, before)
	}
	f.roles["api"].Kill9(t)
	for rule := range targets {
		f.some(t, buckets[rule], before, n)
	}
	f.roles["api"] = f.Start(t, "api")
	for rule := range targets {
		f.holdsAll(t, rule, n)
		if v := f.counts(t, rule, func(c triggers.Counts) bool { return c.Copies == n }); v.Counts.Recovered != 0 {
			t.Errorf("%s: a sweep was needed: %+v", rule, v.Counts)
		}
		t.Logf("%s: %d objects, %d of them while the front was down, 0 lost", rule, n, n-before)
	}
}

// TestSweepFindsWhatWasLost stops NATS while objects are written: MinIO drops what it cannot send. What it could send is not copied again.
func TestSweepFindsWhatWasLost(t *testing.T) {
	t.Parallel()
	for rule, arn := range map[string]string{"core": natsCore, "js": natsJetStream} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, "SWEEP_INTERVAL=0")
			bucket := f.publishing(t, arn)
			f.apply(t, f.toSandbox(rule, bucket))
			const before, down = 10, 40
			f.some(t, bucket, 0, before)
			f.copied(t, rule, before)
			f.nats.Kill9(t)
			f.some(t, bucket, before, down)
			f.nats = f.StartNATS(t)
			n := f.untilHeard(t, rule, bucket, down)
			v := f.counts(t, rule, func(c triggers.Counts) bool { return c.Copies > before })
			came := v.Counts.Copies
			if came >= n {
				t.Fatalf("of %d objects %d were told of: none was lost", n, came)
			}
			swept := f.sweep(t, rule, "")
			if swept.Listed != n || swept.Known != came || swept.Recovered != n-came || swept.Refused != 0 {
				t.Errorf("of %d objects, %d of them known, the sweep found %+v", n, came, swept)
			}
			f.holdsAll(t, rule, n)
			if v := f.counts(t, rule, func(c triggers.Counts) bool { return c.Copies == n }); v.Counts.Recovered != n-came {
				t.Errorf("the rule counts %+v, must count %d that were recovered", v.Counts, n-came)
			}
			for _, query := range []string{"", "?all=true"} {
				if again := f.sweep(t, rule, query); again.Recovered != 0 {
					t.Errorf("another sweep%s found %+v", query, again)
				}
			}
			f.holdsAll(t, rule, n)
			t.Logf("%d objects, %d notifications lost, %d recovered, 0 by another sweep", n, n-came, swept.Recovered)
		})
	}
}

// untilHeard puts one object after another until one is copied: what MinIO had still to send of earlier ones was sent before. It returns how many objects there
// are.
func (f *fleet) untilHeard(t *testing.T, rule, bucket string, from int) int {
	t.Helper()
	n := from
	var before asked
	var err error
	if !mixtest.Until(comes, func() bool { before, err = f.asked(t.Context(), rule); return err == nil }) {
		t.Fatal(err)
	}
	copied := func() bool {
		a, err := f.asked(t.Context(), rule)
		if err != nil || a.total == before.total {
			return false
		}
		receipts, err := f.receipts(t.Context(), a.ended)
		return err == nil && slices.ContainsFunc(receipts, func(r protocol.Receipt) bool { return strings.HasPrefix(r.ID, objectName(n-1)+" ") })
	}
	if !mixtest.Until(comes, func() bool {
		f.some(t, bucket, n, n+1)
		n++
		return mixtest.Until(hears, copied)
	}) {
		t.Fatalf("MinIO publishes nothing %s after NATS was there again", comes)
	}
	return n
}

// hears is how long an object may take until another one is put, to see whether MinIO is connected again.
const hears = 5 * time.Second

// TestLateNotificationsOfWhatASweepFound has MinIO keep notifications on disk, which arrive after a sweep has found the objects.
func TestLateNotificationsOfWhatASweepFound(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "SWEEP_INTERVAL=0")
	const rule, n = "late", 20
	bucket := f.publishing(t, webhookQueued)
	f.apply(t, f.toSandbox(rule, bucket))
	f.roles["api"].Kill9(t)
	f.some(t, bucket, 0, n)
	f.roles["api"] = f.Start(t, "api")
	if swept := f.sweep(t, rule, ""); swept.Listed != n || swept.Known+swept.Recovered != n {
		t.Errorf("of %d objects the sweep found %+v", n, swept)
	}
	f.counts(t, rule, func(c triggers.Counts) bool { return c.Matched >= n && c.Copies+c.Duplicates >= c.Matched })
	f.holdsAll(t, rule, n)
}

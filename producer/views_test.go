package producer

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/copyfleet/copyfleet/protocol"
)

// TestStateOfABatch joins the records, the strongest word first.
func TestStateOfABatch(t *testing.T) {
	t.Parallel()
	fed := func(state protocol.Accepted) protocol.Acceptance { return protocol.Acceptance{Total: 10, State: state} }
	direct := protocol.Acceptance{Total: 10, Chunks: 1, State: protocol.AcceptPending}
	want := func(w protocol.Wanted) protocol.Control { return protocol.Control{Wanted: w} }
	told := func(state protocol.BatchState) protocol.Summary { return protocol.Summary{State: state} }
	for _, tc := range []struct {
		name string
		s    snapshot
		want protocol.BatchState
	}{
		{"published", snapshot{record: direct}, protocol.BatchQueued},
		{"published, held", snapshot{record: direct, held: map[int]bool{0: true}}, protocol.BatchRunning},
		{"published, abandoned", snapshot{record: protocol.Acceptance{Chunks: 1, State: protocol.AcceptAbandoned}}, protocol.BatchFailed},
		{"published, abandoned, and yet it ran", snapshot{record: protocol.Acceptance{Chunks: 1, State: protocol.AcceptAbandoned}, told: true, summary: told(protocol.BatchSucceeded)}, protocol.BatchSucceeded},
		{"fed, pending", snapshot{record: fed(protocol.AcceptPending)}, protocol.BatchAccepting},
		{"fed, pending, paused", snapshot{record: fed(protocol.AcceptPending), control: want(protocol.WantPause)}, protocol.BatchAccepting},
		{"fed, pending, stopped", snapshot{record: fed(protocol.AcceptPending), control: want(protocol.WantStop)}, protocol.BatchCanceling},
		{"fed", snapshot{record: fed(protocol.AcceptComplete)}, protocol.BatchQueued},
		{"fed, abandoned", snapshot{record: fed(protocol.AcceptAbandoned)}, protocol.BatchFailed},
		{"fed, abandoned, stopped", snapshot{record: fed(protocol.AcceptAbandoned), control: want(protocol.WantStop)}, protocol.BatchFailed},
		{"running", snapshot{record: fed(protocol.AcceptComplete), told: true, summary: told(protocol.BatchRunning)}, protocol.BatchRunning},
		{"no news, held", snapshot{record: fed(protocol.AcceptComplete), told: true, summary: told(protocol.BatchQueued), held: map[int]bool{0: true}}, protocol.BatchRunning},
		{"paused", snapshot{record: fed(protocol.AcceptComplete), told: true, summary: told(protocol.BatchRunning), control: want(protocol.WantPause)}, protocol.BatchPaused},
		{"resumed", snapshot{record: fed(protocol.AcceptComplete), told: true, summary: told(protocol.BatchRunning), control: want(protocol.WantRun)}, protocol.BatchRunning},
		{"stopped", snapshot{record: fed(protocol.AcceptComplete), told: true, summary: told(protocol.BatchRunning), control: want(protocol.WantStop)}, protocol.BatchCanceling},
		{"stopped, canceled", snapshot{record: direct, told: true, summary: told(protocol.BatchCanceled), control: want(protocol.WantStop)}, protocol.BatchCanceled},
		{"ended while paused", snapshot{record: direct, told: true, summary: told(protocol.BatchSucceeded), control: want(protocol.WantPause)}, protocol.BatchSucceeded},
	} {
		if got := tc.s.view(time.Now()).State; got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

// TestCountsAddUp whatever workers claim to hold.
func TestCountsAddUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.IntRange(1, 600).Draw(t, "total")
		s := snapshot{record: protocol.Acceptance{Total: total, State: protocol.AcceptComplete}, told: true, held: map[int]bool{}}
		running, retrying := 0, 0
		for i := range total {
			state := rapid.SampledFrom(append(itemStates, protocol.ItemQueued)).Draw(t, "state")
			held := rapid.Bool().Draw(t, "held")
			if held {
				s.held[i] = true
			}
			if held && !state.Final() {
				running++
			} else if state == protocol.ItemRetrying {
				retrying++
			}
			if state == protocol.ItemQueued || state == protocol.ItemRunning {
				continue
			}
			r := protocol.Receipt{Index: i, State: state}
			s.summary.Tally.Count(&r)
			if protocol.Inline(total) {
				s.summary.Receipts = append(s.summary.Receipts, r)
			}
		}
		if s.summary.State = s.summary.Tally.State(total); s.summary.State.Final() {
			s.held = nil
			running = 0
		}
		c := s.view(time.Now()).Counts
		if sum := c.Queued + c.Running + c.Retrying + c.Succeeded + c.Failed + c.Canceled + c.Skipped; sum != total {
			t.Fatalf("%+v adds up to %d, want %d", c, sum, total)
		}
		if min(c.Queued, c.Running, c.Retrying) < 0 {
			t.Fatalf("%+v", c)
		}
		if protocol.Inline(total) && (c.Running != running || c.Retrying != retrying) {
			t.Fatalf("%+v, want %d running, %d retrying", c, running, retrying)
		}
	})
}

// TestBatchView shows everything, as described, and no secret.
func TestBatchView(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	d := newDescription(t, apiDescription)
	a := s.accept(1000, func(a *protocol.Acceptance) {
		a.Label, a.RerunOf = "nightly", protocol.NewBatchID()
		a.Options = protocol.Options{
			Attempts: 7, Canary: 5, Rate: 12.5, MaxFailed: protocol.Threshold{Given: true, Share: 0.07},
			Webhook: &protocol.Webhook{Shown: "https://hook.test/x", Sealed: []byte("sealed")},
		}
	})
	receipts := append(receiptsOf(protocol.ItemSucceeded, upTo(100)...), receiptsOf(protocol.ItemFailed, 100, 101)...)
	s.tell(&a, receipts, func(sum *protocol.Summary) {
		sum.Groups = []protocol.ErrorGroup{{Class: protocol.NotFound, Code: "source_http_404", Host: "src.test", Count: 2, Example: 100, Message: "m"}}
		sum.Pace = protocol.Pace{At: time.Now().Add(time.Hour), Items: 49.96, Bytes: 500.04} // however long this takes, it is not old
	})
	s.holds("w", protocol.DefaultPool, ref(&a, 102), ref(&a, 103), protocol.Ref{Org: "two", Batch: a.Batch, Index: 104})
	show := func() batchView {
		t.Helper()
		got := s.call("one/read", "GET", "/v1/batches/"+string(a.Batch), "").want(200, "")
		d.check(t, "GET", "/v1/batches/{id}", got)
		return decode[batchView](got)
	}
	got := show()
	eta := int64(18)
	want := batchView{
		ID: a.Batch, Org: "one", State: protocol.BatchRunning, Lane: protocol.Bulk, Label: "nightly", Total: 1000,
		Counts: countsView{Queued: 896, Running: 2, Succeeded: 100, Failed: 2}, Bytes: 1000, CreatedAt: a.Created, StartedAt: &s.clock,
		Rates: ratesView{50, 500}, ETA: &eta, Attempts: 7, Rate: 12.5, Canary: 5, MaxFailed: "7%", RerunOf: a.RerunOf,
		ErrorGroups: []errorGroupView{{Class: protocol.NotFound, Code: "source_http_404", Host: "src.test", Count: 2, Example: 100, Message: "m"}},
		Webhook:     &webhookView{URL: "https://hook.test/x", State: webhookPending},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("shown (-want +got):\n%s", diff)
	}
	s.tell(&a, receipts, func(sum *protocol.Summary) {
		sum.Pace = protocol.Pace{At: time.Now().Add(-time.Minute), Items: 50, Bytes: 500}
		sum.GroupsLeft = 2
		sum.Webhook = &protocol.Receipt{Index: protocol.WebhookIndex, State: protocol.ItemRetrying, Attempts: make([]protocol.Attempt, 3)}
	})
	if got = show(); got.Rates != (ratesView{}) || got.ETA != nil {
		t.Errorf("an old pace is shown: %+v", got.Rates)
	}
	if got.Webhook.State != webhookRetrying || got.Webhook.Attempts != 3 || got.ErrorGroupsLeft != 2 {
		t.Errorf("webhook %+v, %d left", got.Webhook, got.ErrorGroupsLeft)
	}
	s.wanted(&a, protocol.WantPause, protocol.ReasonCanary)
	if got = show(); got.State != protocol.BatchPaused || got.Reason != protocol.ReasonCanary {
		t.Errorf("state %s, reason %q", got.State, got.Reason)
	}
	s.tell(&a, receipts, rest, func(sum *protocol.Summary) {
		sum.Reason = protocol.ReasonMaxFailed
		sum.Webhook = &protocol.Receipt{Index: protocol.WebhookIndex, State: protocol.ItemSucceeded, Attempts: make([]protocol.Attempt, 4)}
	})
	if got = show(); got.State != protocol.BatchCanceled || got.Counts != (countsView{Succeeded: 100, Failed: 2, Canceled: 898}) || got.Reason != protocol.ReasonMaxFailed ||
		got.Webhook.State != webhookDelivered || got.EndedAt == nil {
		t.Errorf("%+v", got)
	}
}

// TestThresholdIsEchoed in a form that is taken again.
func TestThresholdIsEchoed(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		t    protocol.Threshold
		want any
	}{
		{protocol.Threshold{}, nil},
		{protocol.Threshold{Given: true}, 0},
		{protocol.Threshold{Given: true, Count: 5}, 5},
		{protocol.Threshold{Given: true, Share: 0.05}, "5%"},
		{protocol.Threshold{Given: true, Share: 0.07}, "7%"},
		{protocol.Threshold{Given: true, Share: 1}, "100%"},
		{protocol.Threshold{Given: true, Share: 0.001}, "0.1%"},
	} {
		if got := shownThreshold(tc.t); got != tc.want {
			t.Errorf("%+v is shown as %v, want %v", tc.t, got, tc.want)
		}
	}
}

// TestStaleClaimsSayNothing of what runs, nor of who is alive.
func TestStaleClaimsSayNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.accept(3)
	s.holds("alive", protocol.DefaultPool, ref(&a, 0), protocol.Ref{Org: a.Org, Batch: a.Batch, Index: protocol.WebhookIndex})
	s.put(s.claims, "dead", protocol.Claim{
		Version: protocol.ClaimVersion, Worker: "dead", Written: time.Now().Add(-2 * time.Minute), Pool: "gpu",
		Held: []protocol.HeldClaim{{Ref: ref(&a, 1), Fence: 1}},
	})
	v := decode[batchView](s.call("one/read", "GET", "/v1/batches/"+string(a.Batch), "").want(200, ""))
	if v.Counts != (countsView{Queued: 2, Running: 1}) || v.State != protocol.BatchRunning {
		t.Errorf("%s %+v", v.State, v.Counts)
	}
	for pool, want := range map[string]bool{protocol.DefaultPool: true, "gpu": false, "none": false} {
		if got, err := s.pipeline.served(t.Context(), pool); err != nil || got != want {
			t.Errorf("pool %s is served: %v, %v, want %v", pool, got, err, want)
		}
	}
}

// TestAbandonedAcceptance is told as one, and has no rates or error groups of null.
func TestAbandonedAcceptance(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.accept(3, func(a *protocol.Acceptance) { a.State = protocol.AcceptAbandoned })
	got := s.call("one/read", "GET", "/v1/batches/"+string(a.Batch), "").want(200, "")
	newDescription(t, apiDescription).check(t, "GET", "/v1/batches/{id}", got)
	v := decode[batchView](got)
	if v.State != protocol.BatchFailed || v.Counts != (countsView{Canceled: 3}) || !strings.Contains(v.Reason, "never completed") {
		t.Errorf("%+v", v)
	}
}

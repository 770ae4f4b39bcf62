package aggregator

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// stage is a broker on which feeders are moved by hand.
type stage struct {
	t      *testing.T
	conn   *broker.Conn
	agg    *Aggregator
	intake *broker.Intake
}

func newStage(t *testing.T) *stage {
	t.Helper()
	conn := connected(t)
	agg, err := New(t.Context(), Config{}, conn)
	if err != nil {
		t.Fatal(err)
	}
	intake, err := conn.Intake(t.Context(), protocol.DefaultPool)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(intake.Close)
	return &stage{t, conn, agg, intake}
}

// feeder returns one that has just started and sees the batch.
func (s *stage) feeder(id string, a *protocol.Acceptance) *feeder {
	s.t.Helper()
	agg := *s.agg
	agg.cfg.ID = id
	f, err := newFeeder(s.t.Context(), &agg)
	if err != nil {
		s.t.Fatal(err)
	}
	f.caughtUp = [2]bool{true, true}
	s.see(f, a)
	return f
}

// fataler is a test of either kind.
type fataler interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// see lets a feeder hear how far the batch is. Whoever wrote that seems to be gone.
func (s *stage) see(f *feeder, a *protocol.Acceptance) *row {
	s.t.Helper()
	name := protocol.ControlKey(a.Org, a.Batch)
	entry, err := f.feeds.Get(s.t.Context(), name)
	if err != nil {
		s.t.Fatal(err)
	}
	f.fed(broker.Watched{Entry: entry})
	r := f.rows[name]
	r.seen = time.Now().Add(-time.Hour)
	if r.record == nil {
		r.record = briefly(a)
	}
	return r
}

func (s *stage) accept(t fataler, total int) *protocol.Acceptance {
	a := &protocol.Acceptance{
		Batch: protocol.NewBatchID(), Org: "ORG", Lane: protocol.Bulk, Pool: protocol.DefaultPool, Total: total, State: protocol.AcceptComplete, Generation: 1,
	}
	for bucket, v := range map[*broker.Bucket]any{
		s.agg.bucket:       a,
		s.agg.feeder.feeds: protocol.Feed{Version: 1, Org: a.Org, Batch: a.Batch, Created: time.Now()},
	} {
		value, err := protocol.Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		key := protocol.ControlKey(a.Org, a.Batch)
		if bucket == s.agg.bucket {
			key = protocol.AcceptKey(a.Org, a.Batch)
		}
		if _, err := bucket.Create(s.t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// take notes how often each item came, and fails on one that came again without a recheck.
func (s *stage) take(t fataler, seen map[int]int) {
	shard := broker.Shard{Lane: protocol.Bulk, Pool: protocol.DefaultPool, Index: protocol.ShardOf("ORG")}
	for {
		backlog, err := s.conn.Backlog(s.t.Context(), shard)
		if err != nil {
			t.Fatal(err)
		}
		if backlog.Waiting == 0 {
			return
		}
		if err := s.conn.Wake(shard); err != nil {
			t.Fatal(err)
		}
		items, err := s.intake.Fetch(s.t.Context(), 2000, 2000)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range items {
			var w protocol.Work
			if err := json.Unmarshal(item.Data, &w); err != nil {
				t.Fatal(err)
			}
			if seen[w.Index]++; seen[w.Index] > 1 && !w.Recheck {
				t.Fatalf("item %d came %d times, and the last one is not to be rechecked", w.Index, seen[w.Index])
			}
			_ = item.Ack()
		}
	}
}

// TestFeedersTakeOver moves feeders in any order: they feed, see how far the batch is or do not, and die between publishing a
// chunk and writing that down. Each item must reach the queue once; when guards are lost as well, again only to be rechecked.
func TestFeedersTakeOver(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	rapid.Check(t, func(rt *rapid.T) {
		total := rapid.IntRange(1, 1500).Draw(rt, "total")
		trims := rapid.Bool().Draw(rt, "trims")
		a := s.accept(rt, total)
		name := protocol.ControlKey(a.Org, a.Batch)
		feeders := []*feeder{s.feeder("f0", a), s.feeder("f1", a), s.feeder("f2", a)}
		seen := map[int]int{}
		for range rapid.IntRange(0, 12).Draw(rt, "steps") {
			i := rapid.IntRange(0, 2).Draw(rt, "feeder")
			f := feeders[i]
			r := f.rows[name]
			switch rapid.SampledFrom([]string{"feed", "feed", "see", "die", "trim"}).Draw(rt, "step") {
			case "feed":
				if _, err := f.feedSome(t.Context(), r, rapid.SampledFrom([]int{1, 40, 999}).Draw(rt, "most")); err != nil {
					rt.Fatal(err)
				}
			case "see":
				s.see(f, a)
			case "die":
				s.dieAfterPublishing(rt, f, r, rapid.SampledFrom([]int{1, 300, 999}).Draw(rt, "published"))
				feeders[i] = s.feeder("new", a)
			case "trim":
				if trims {
					s.take(rt, seen)
					s.trimAll(rt, feeders, name)
				}
			}
		}
		last := s.feeder("last", a)
		for r := last.rows[name]; r.feed.Next < total; {
			if _, err := last.feedSome(t.Context(), s.see(last, a), 999); err != nil {
				rt.Fatal(err)
			}
		}
		s.take(rt, seen)
		for i := range total {
			if n := seen[i]; n < 1 || n > 1 && !trims {
				rt.Fatalf("item %d came %d times", i, n)
			}
		}
		if len(seen) != total {
			rt.Fatalf("%d items came, want %d", len(seen), total)
		}
	})
}

// TestTakeoverRechecksWhatADeadFeederMayHavePublished goes on in small steps behind one that published a large chunk whose guard is gone.
func TestTakeoverRechecksWhatADeadFeederMayHavePublished(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	const total = 1500
	a := s.accept(t, total)
	name := protocol.ControlKey(a.Org, a.Batch)
	seen := map[int]int{}
	first := s.feeder("first", a)
	s.dieAfterPublishing(t, first, first.rows[name], 999)
	s.take(t, seen)
	second := s.feeder("second", a)
	s.trimAll(t, []*feeder{second}, name)
	for r := second.rows[name]; r.feed.Next < total; {
		if _, err := second.feedSome(t.Context(), r, 100); err != nil {
			t.Fatal(err)
		}
	}
	s.take(t, seen)
	for i := range total {
		if want := 1 + min(1, 998/max(i, 1)); i > 0 && seen[i] != want {
			t.Fatalf("item %d came %d times, want %d", i, seen[i], want)
		}
	}
}

// dieAfterPublishing publishes the next chunk and does not write that down.
func (s *stage) dieAfterPublishing(t fataler, f *feeder, r *row, n int) {
	n = min(n, r.record.total-r.feed.Next)
	if n <= 0 {
		return
	}
	f.own(r)
	forms, err := formsOf(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.publish(s.t.Context(), r, r.feed.Next, r.feed.Next+n, forms.works(r.feed.Next, n, r.feed.Next < r.rechecks)); err != nil {
		t.Fatal(err)
	}
}

// trimAll removes everything from the queue, guards too, as happens a minute after all was acknowledged.
func (s *stage) trimAll(t fataler, feeders []*feeder, name string) {
	floors, err := s.conn.Floors(s.t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for stream := range floors {
		floors[stream] += 2 // the guard right before the next item stays otherwise
	}
	if err := s.conn.Trim(s.t.Context(), floors, 1); err != nil {
		t.Fatal(err)
	}
	for _, f := range feeders {
		f.rows[name].confirm = time.Now().Add(-time.Minute)
	}
}

func TestWorkMessagesAreAsEncoded(t *testing.T) {
	t.Parallel()
	r := &row{key: batchKey{`O"index":0,RG`, "bat_1"}, record: &brief{lane: protocol.Bulk, pool: "p", total: 9, generation: 2, trace: "t", options: protocol.Options{Attempts: 3}}}
	forms, err := formsOf(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, recheck := range []bool{false, true} {
		for i, got := range forms.works(99, 3, recheck) {
			work := workOf(r)
			work.Index, work.Recheck = 99+i, recheck
			want, err := protocol.Encode(work)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("got %s, want %s", got, want)
			}
		}
	}
}

// TestSlowRetentionLeavesTheSuccessorAlone goes on with what it found of a batch that another aggregator has removed meanwhile, whose
// id a new batch has got.
func TestSlowRetentionLeavesTheSuccessorAlone(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.accept(t, 300)
	summary := protocol.Summary{Version: protocol.SummaryVersion, Org: a.Org, Batch: a.Batch, Total: 300, State: protocol.BatchRunning}
	value, err := protocol.Encode(summary)
	if err != nil {
		t.Fatal(err)
	}
	revision, err := s.agg.bucket.Create(t.Context(), protocol.SummaryKey(a.Org, a.Batch), value)
	if err != nil {
		t.Fatal(err)
	}
	old := glimpsed{Org: a.Org, Batch: a.Batch, Total: 300, State: protocol.BatchSucceeded, revision: revision - 1}
	if err := s.agg.remove(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	for bucket, key := range map[*broker.Bucket]string{
		s.agg.bucket: protocol.AcceptKey(a.Org, a.Batch), s.agg.feeder.feeds: protocol.ControlKey(a.Org, a.Batch),
	} {
		if _, err := bucket.Get(t.Context(), key); err != nil {
			t.Errorf("the new batch lost something: %v", err)
		}
	}
	old.revision = revision
	if err := s.agg.remove(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	keys, err := s.agg.bucket.Keys(t.Context(), ">")
	if err != nil || len(keys) != 0 {
		t.Errorf("%q are left, %v", keys, err)
	}
}

package producer

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/protocol"
)

// listed goes through a list as a caller does and returns the ids. between is called after each page.
func (s *stage) listed(who, query string, between func()) []protocol.BatchID {
	s.Helper()
	var ids []protocol.BatchID
	for cursor := ""; ; {
		page := decode[batchesView](s.call(who, "GET", "/v1/batches?"+query+"&cursor="+cursor, "").want(200, ""))
		for i := range page.Items {
			ids = append(ids, page.Items[i].ID)
		}
		if cursor = page.NextCursor; cursor == "" {
			return ids
		}
		if between != nil {
			between()
		}
	}
}

// knows waits until the index has so many batches of an org.
func (s *stage) knows(org protocol.OrgID, n int) {
	s.Helper()
	s.until(fmt.Sprintf("%d batches of %s in the index", n, org), func() bool { return len(s.pipeline.views.index.ids(org)) == n })
}

// TestListIsStable shows every batch once, the newest first, however many are accepted meanwhile, and after a restart.
func TestListIsStable(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	var want []protocol.BatchID
	for range 25 {
		want = append(want, s.accept(2).Batch)
	}
	other := s.accept(1, func(a *protocol.Acceptance) { a.Org = "two" })
	slices.Reverse(want)
	s.knows("one", 25)
	s.knows("two", 1)
	got := s.listed("one/read", "limit=4", func() { s.accept(2) })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
	if got := s.listed("two/read", "", nil); !slices.Equal(got, []protocol.BatchID{other.Batch}) {
		t.Errorf("org two sees %v", got)
	}
	s.knows("one", 31)
	before := s.listed("one/read", "limit=7", nil)
	s.open()
	s.knows("one", 31)
	if diff := cmp.Diff(before, s.listed("one/read", "limit=200", nil)); diff != "" {
		t.Errorf("after a restart (-before +now):\n%s", diff)
	}
	page := s.call("one/read", "GET", "/v1/batches?limit=3", "").want(200, "")
	newDescription(t, apiDescription).check(t, "GET", "/v1/batches", page)
}

// TestListIsFiltered by state, label and rule, also where the state is known from the index.
func TestListIsFiltered(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	byState := map[protocol.BatchState][]protocol.BatchID{}
	note := func(state protocol.BatchState, id protocol.BatchID) {
		byState[state] = append([]protocol.BatchID{id}, byState[state]...)
	}
	labeled := func(a *protocol.Acceptance) { a.Label = "x y" }
	for range 3 {
		a := s.accept(2, labeled)
		s.tell(&a, receiptsOf(protocol.ItemSucceeded, 0, 1))
		note(protocol.BatchSucceeded, a.Batch)
		a = s.accept(2)
		s.tell(&a, receiptsOf(protocol.ItemFailed, 0, 1))
		note(protocol.BatchFailed, a.Batch)
		note(protocol.BatchQueued, s.accept(2).Batch)
		a = s.accept(2)
		s.wanted(&a, protocol.WantPause, protocol.ReasonCaller)
		note(protocol.BatchPaused, a.Batch)
		note(protocol.BatchAccepting, s.accept(0, func(a *protocol.Acceptance) { a.Chunks = 0 }).Batch)
		s.accept(0, func(a *protocol.Acceptance) { a.Chunks, a.State = 0, protocol.AcceptAbandoned }) // refused: there is no such batch
	}
	s.knows("one", 18)
	var ruled []protocol.BatchID
	for range 3 {
		ruled = append([]protocol.BatchID{s.accept(2, func(a *protocol.Acceptance) { a.Rule, a.RuleVersion = "in", 2 }).Batch}, ruled...)
	}
	s.knows("one", 21)
	byState[protocol.BatchQueued] = append(slices.Clone(ruled), byState[protocol.BatchQueued]...)
	for range 2 { // the second time with what the index noted
		for _, state := range batchStates {
			if diff := cmp.Diff(byState[state], s.listed("one/read", "limit=2&state="+string(state), nil)); diff != "" {
				t.Errorf("state %s (-want +got):\n%s", state, diff)
			}
		}
		if diff := cmp.Diff(byState[protocol.BatchSucceeded], s.listed("one/read", "limit=1&label=x%20y", nil)); diff != "" {
			t.Errorf("label (-want +got):\n%s", diff)
		}
		if got := s.listed("one/read", "label=x", nil); got != nil {
			t.Errorf("label x: %v", got)
		}
		if got := len(s.listed("one/read", "", nil)); got != 18 {
			t.Errorf("%d batches, want 18", got)
		}
		if diff := cmp.Diff(ruled, s.listed("one/read", "limit=2&rule=in", nil)); diff != "" {
			t.Errorf("rule (-want +got):\n%s", diff)
		}
		if got := s.listed("one/read", "rule=i", nil); got != nil {
			t.Errorf("rule i: %v", got)
		}
	}
}

// TestListForgetsWhatIsRemoved by retention, which tells nobody.
func TestListForgetsWhatIsRemoved(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	var all []protocol.Acceptance
	for range 10 {
		all = append(all, s.accept(1))
	}
	s.knows("one", 10)
	for _, a := range []protocol.Acceptance{all[0], all[1], all[9]} {
		if err := s.batches.DropAll(t.Context(), protocol.BatchFilter(a.Org, a.Batch)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.pipeline.views.index.forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.knows("one", 7)
	if err := s.batches.DropAll(t.Context(), protocol.BatchFilter(all[5].Org, all[5].Batch)); err != nil {
		t.Fatal(err)
	}
	if got := s.listed("one/read", "limit=2", nil); len(got) != 6 {
		t.Errorf("%d batches, want 6", len(got))
	}
	s.knows("one", 6)
	if err := s.batches.Delete(t.Context(), protocol.AcceptKey(all[6].Org, all[6].Batch)); err != nil {
		t.Fatal(err)
	}
	s.knows("one", 5)
}

// TestListWhileLoading answers 503, and the front is ready all the same.
func TestListWhileLoading(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.accept(1)
	s.serve(s.front())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.pipeline.list(ctx, "one", batchesQuery{limit: 1}); !errors.Is(err, errLoading) {
		t.Errorf("list: %v", err)
	}
	s.call("", "GET", "/readyz", "").want(200, "")
}

// TestListRefuses queries that mean nothing.
func TestListRefuses(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	item := encodeCursor(1)
	for _, query := range []string{"limit=0", "limit=201", "limit=x", "state=done", "cursor=x", "cursor=" + item, "cursor=YjE6MQ"} {
		s.call("one/read", "GET", "/v1/batches?"+query, "").want(400, CodeInvalidRequest)
	}
}

// TestIndexIsInOrder whatever the order in which batches become known, also when one is begun anew.
func TestIndexIsInOrder(t *testing.T) {
	t.Parallel()
	x := newBatchIndex(nil)
	base := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	var ids []protocol.BatchID
	for i := range 100 {
		id := protocol.NewBatchID()
		ids = append(ids, id)
		x.add("o", indexed{place: place{base.Add(time.Duration(i*37%100) * time.Second).UnixNano(), id}})
	}
	moved := place{base.Add(time.Hour).UnixNano(), ids[40]}
	x.add("o", indexed{place: moved, label: "anew"})
	list := x.before("o", place{}, 1000)
	if len(list) != 100 || list[0].place != moved || list[0].label != "anew" {
		t.Fatalf("%d batches, the newest %+v", len(list), list[0])
	}
	for i := 1; i < len(list); i++ {
		if list[i-1].compare(list[i].place) <= 0 {
			t.Errorf("batch %d is not older than the one before", i)
		}
	}
	if got := x.before("o", list[10].place, 5); got[0] != list[11] || len(got) != 5 {
		t.Errorf("after the 11th: %+v", got)
	}
	for _, id := range ids[:90] {
		x.remove("o", id)
	}
	if o := x.orgs["o"]; len(o.byAge) > 2*len(o.byID)+1 || len(x.before("o", place{}, 1000)) != 10 {
		t.Errorf("%d places for %d batches", len(o.byAge), len(o.byID))
	}
}

// TestIndexIsSmall holds it to its figure.
func TestIndexIsSmall(t *testing.T) {
	const n, most = 200_000, 175
	x := newBatchIndex(nil)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range n {
		x.add("o", indexed{place: place{int64(i), protocol.NewBatchID()}})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n
	t.Logf("%d bytes a batch", each)
	if each > most {
		t.Errorf("%d bytes a batch, at most %d", each, most)
	}
	runtime.KeepAlive(x)
}

package producer

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/protocol"
)

// itemsOf goes through the items of a batch as a caller does, and counts the answers.
func (s *stage) itemsOf(a *protocol.Acceptance, query string) (items []itemView, answers int) {
	s.Helper()
	for cursor := ""; ; {
		got := s.call("one/read", "GET", "/v1/batches/"+string(a.Batch)+"/items?"+query+"&cursor="+cursor, "").want(200, "")
		if strings.Contains(string(got.body), "s3cret") {
			s.Fatalf("a secret is shown: %s", got.body)
		}
		page := decode[itemsView](got)
		items = append(items, page.Items...)
		answers++
		if cursor = page.NextCursor; cursor == "" {
			return items, answers
		}
	}
}

func indexesOf(items []itemView) []int {
	var list []int
	for i := range items {
		list = append(list, items[i].Index)
	}
	return list
}

// TestItemsOfALargeBatch come in order with what was asked for, by every filter, and end as the rest does after a stop.
func TestItemsOfALargeBatch(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	const total = 3000
	a := s.accept(total)
	receipts := receiptsOf(protocol.ItemSucceeded, upTo(2000)...)
	for _, i := range []int{5, 255, 256, 1999} {
		receipts[i] = receiptsOf(protocol.ItemFailed, i)[0]
	}
	receipts[256].Failure = &protocol.Failure{Class: protocol.Denied, Code: "source_http_403", Message: "m", Host: "other.test"}
	receipts = append(receipts, receiptsOf(protocol.ItemRetrying, 2005)...)
	s.tell(&a, receipts)
	s.holds("w", protocol.DefaultPool, ref(&a, 2000), ref(&a, 2001), ref(&a, 7))

	items, _ := s.itemsOf(&a, "limit=1000")
	if diff := cmp.Diff(upTo(total), indexesOf(items)); diff != "" {
		t.Fatalf("indexes (-want +got):\n%s", diff)
	}
	for _, i := range []int{0, 256, 2005, 2999} {
		if v := items[i]; v.ID != fmt.Sprintf("item-%d", i) || v.Src != fmt.Sprintf("https://src.test/%d", i) || v.Dest != fmt.Sprintf("s3://results/%d", i) {
			t.Errorf("item %d: %q from %q to %q", i, v.ID, v.Src, v.Dest)
		}
	}
	for query, want := range map[string][]int{
		"state=failed":                  {5, 255, 256, 1999},
		"state=running":                 {2000, 2001},
		"state=retrying":                {2005},
		"state=canceled":                nil,
		"class=not_found":               {5, 255, 1999, 2005},
		"class=not_found&state=failed":  {5, 255, 1999},
		"code=source_http_403":          {256},
		"host=other.test":               {256},
		"host=src.test&class=denied":    nil,
		"class=%22&state=failed":        nil,
		"state=failed&limit=1":          {5, 255, 256, 1999},
		"host=src.test&state=retrying":  {2005},
		"code=source_http_404&limit=2":  {5, 255, 1999, 2005},
		"state=queued&class=not_found":  nil,
		"state=succeeded&code=anything": nil,
	} {
		got, _ := s.itemsOf(&a, query)
		if diff := cmp.Diff(want, indexesOf(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
	}
	if got, _ := s.itemsOf(&a, "state=queued&limit=1000"); len(got) != 997 {
		t.Errorf("%d queued, want 997", len(got))
	}

	s.tell(&a, receipts, rest)
	items, _ = s.itemsOf(&a, "state=canceled&limit=1000")
	if want := append([]int{2000, 2001, 2002, 2003, 2004, 2005}, upTo(total)[2006:]...); !slices.Equal(indexesOf(items), want) {
		t.Errorf("%d canceled, want %d", len(items), len(want))
	}
	if v := items[5]; len(v.Attempts) != 1 || v.Waiting != nil || v.Failure != nil {
		t.Errorf("the one that was retrying: %+v", v)
	}
	if got, answers := s.itemsOf(&a, "state=failed"); len(got) != 4 || answers != 1 {
		t.Errorf("%d failed in %d answers", len(got), answers)
	}
}

// TestFilteredSearchIsBounded and goes on from where it stopped.
func TestFilteredSearchIsBounded(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	const total = 60 * protocol.PageSize
	a := s.accept(0, func(a *protocol.Acceptance) { a.Chunks, a.State, a.Generation = 0, protocol.AcceptComplete, 1 })
	a.Total = total // without pages of a manifest: they are not what this is about
	s.put(s.batches, protocol.AcceptKey(a.Org, a.Batch), a)
	s.tell(&a, receiptsOf(protocol.ItemFailed, total-1))
	got, answers := s.itemsOf(&a, "state=failed")
	if !slices.Equal(indexesOf(got), []int{total - 1}) || answers != 1 {
		t.Errorf("failed: %v in %d answers; pages that are not there cost nothing", indexesOf(got), answers)
	}
	if got, answers = s.itemsOf(&a, "state=running"); len(got) != 0 || answers != 2 {
		t.Errorf("running: %v in %d answers, want 2 of 40 pages", indexesOf(got), answers)
	}
}

// TestShowItem shows one, as described, and knows which there are.
func TestShowItem(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	d := newDescription(t, apiDescription)
	a := s.accept(300)
	s.tell(&a, receiptsOf(protocol.ItemFailed, 299))
	path := "/v1/batches/" + string(a.Batch) + "/items/"
	got := s.call("one/read", "GET", path+"299", "").want(200, "")
	d.check(t, "GET", "/v1/batches/{id}/items/{index}", got)
	if v := decode[itemView](got); v.Index != 299 || v.State != protocol.ItemFailed || v.Src != "https://src.test/299" || v.Failure.Host != "src.test" {
		t.Errorf("%+v", v)
	}
	d.check(t, "GET", "/v1/batches/{id}/items", s.call("one/read", "GET", strings.TrimSuffix(path, "/")+"?limit=1000", "").want(200, ""))
	for _, index := range []string{"300", "-1", "x", "01", "+1", "99999999999999999999", "%20"} {
		s.call("one/read", "GET", path+url.PathEscape(index), "").want(404, CodeItemNotFound)
	}
}

// TestBatchWithoutManifest is of an older version, and shows what there is.
func TestBatchWithoutManifest(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.accept(2)
	a.Manifest, a.IDs = nil, []string{"a", "b"}
	s.put(s.batches, protocol.AcceptKey(a.Org, a.Batch), a)
	items, _ := s.itemsOf(&a, "")
	if len(items) != 2 || items[1].ID != "b" || items[1].Src != "" {
		t.Errorf("%+v", items)
	}
}

// TestWhyItemsWait says it for every reason.
func TestWhyItemsWait(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	first, second := s.accept(1000), s.accept(10)
	third := s.accept(4, func(a *protocol.Acceptance) { a.Pool = "gpu" })
	s.knows("one", 3)
	why := func(a *protocol.Acceptance, index int) waitingView {
		t.Helper()
		v := decode[itemView](s.call("one/read", "GET", fmt.Sprintf("/v1/batches/%s/items/%d", a.Batch, index), "").want(200, ""))
		if v.Waiting == nil {
			return waitingView{}
		}
		return *v.Waiting
	}
	check := func(what string, got, want waitingView) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	check("nobody is there", why(&first, 0), waitingView{Reason: waitNoWorker})
	s.holds("w", "", ref(&first, 0))
	check("held", why(&first, 0), waitingView{})
	check("the next", why(&first, 1), waitingView{Reason: waitShare})
	check("one behind", why(&first, 2), waitingView{Reason: waitBehind, Behind: 1})
	check("the last", why(&first, 999), waitingView{Reason: waitBehind, Behind: 998})
	check("of a younger batch", why(&second, 3), waitingView{Reason: waitBehind, Behind: 999 + 3})
	check("of another pool", why(&third, 0), waitingView{Reason: waitNoWorker})
	s.holds("g", "gpu")
	check("of another pool with a worker", why(&third, 0), waitingView{Reason: waitShare})

	due := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	retrying := receiptsOf(protocol.ItemRetrying, 1, 2, 3, 4)
	retrying[0].RetryAt, retrying[1].RetryAt = due, due
	retrying[1].Failure = &protocol.Failure{Class: protocol.Unavailable, Code: codeHostRest, Message: "m"}
	// Nobody knows yet whether the host of one that has just become due rests. An answer that took longer than that is asked for again.
	s.until("an answer in time", func() bool {
		just := time.Now().UTC()
		retrying[3].RetryAt = just
		s.tell(&second, retrying)
		got := why(&second, 4)
		if time.Since(just) >= justDue {
			return false
		}
		check("a retry that has just become due", got, waitingView{Reason: waitBackoff, Until: &just})
		return true
	})
	check("backoff", why(&second, 1), waitingView{Reason: waitBackoff, Until: &due})
	check("host rest", why(&second, 2), waitingView{Reason: waitHostRest, Until: &due})
	check("a retry that is due", why(&second, 3), waitingView{Reason: waitShare})
	// A worker has put away what it held, and has not rewritten its claim yet.
	s.holds("w", "", ref(&second, 1), ref(&second, 2), ref(&second, 3))
	check("backoff, claimed", why(&second, 1), waitingView{Reason: waitBackoff, Until: &due})
	check("host rest, claimed", why(&second, 2), waitingView{Reason: waitHostRest, Until: &due})
	check("a retry that runs", why(&second, 3), waitingView{})
	if got, _ := s.itemsOf(&second, "state=running"); !slices.Equal(indexesOf(got), []int{3}) {
		t.Errorf("running: %v", indexesOf(got))
	}
	counts := decode[batchView](s.call("one/read", "GET", "/v1/batches/"+string(second.Batch), "").want(200, "")).Counts
	if counts.Running != 1 || counts.Retrying != 3 || counts.Queued != 6 {
		t.Errorf("counts %+v", counts)
	}
	s.holds("w", "")

	s.wanted(&first, protocol.WantPause, protocol.ReasonCaller)
	check("paused", why(&first, 5), waitingView{Reason: waitPaused})
	check("behind a paused batch", why(&second, 0), waitingView{Reason: waitShare})
	s.tell(&first, nil, rest)
	check("ended", why(&first, 5), waitingView{})
	s.wanted(&second, protocol.WantStop, protocol.ReasonCaller)
	check("canceling", why(&second, 5), waitingView{})
}

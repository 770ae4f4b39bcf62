package aggregator

import (
	"slices"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// fold puts one receipt into a page, which is in index order, and reports whether the page changed. It is idempotent and
// does not depend on the order of reports: a final receipt never changes, and of two that are not final the one
// that has seen more attempts stays, or else the one that is to be tried later: an item may wait again and again.
func fold(page []protocol.Receipt, news protocol.Receipt) ([]protocol.Receipt, bool) {
	at, found := slices.BinarySearchFunc(page, news.Index, func(r protocol.Receipt, index int) int { return r.Index - index })
	if !found {
		return slices.Insert(page, at, news), true
	}
	if !supersedes(&news, &page[at]) {
		return page, false
	}
	page[at] = news
	return page, true
}

func supersedes(news, old *protocol.Receipt) bool {
	switch {
	case old.State.Final():
		return false
	case news.State.Final():
		return true
	case len(news.Attempts) != len(old.Attempts):
		return len(news.Attempts) > len(old.Attempts)
	default:
		return news.RetryAt.After(old.RetryAt)
	}
}

// tally counts a page.
func tally(page []protocol.Receipt) protocol.Tally {
	var t protocol.Tally
	for i := range page {
		t.Count(&page[i])
	}
	return t
}

// rest ends a batch that was stopped: every item without an outcome was canceled; of those that dead workers held it is not known how
// far they came.
func rest(s protocol.Summary, reason string, unsure []int, now time.Time) protocol.Summary {
	s.Version, s.Rest, s.Reason, s.Unsure = protocol.SummaryVersion, protocol.ItemCanceled, reason, unsure
	s.Tally.Retrying = 0
	s.Tally.Canceled += s.Total - s.Tally.Ended()
	s.State = s.Tally.State(s.Total)
	s.Ended = now
	return s
}

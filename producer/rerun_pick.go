package producer

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// rerunFilter says which items of a batch are to run again: failed ones, of the class, code and host that are not "". The zero value
// means all failed ones.
type rerunFilter struct {
	class    protocol.Class
	code     string
	host     string
	canceled bool            // canceled items, too
	named    bool            // only those below
	ids      map[string]bool // by the callers' ids
	indexes  map[int]bool
}

// picked is what a rerun takes of one batch.
type picked struct {
	record   protocol.Acceptance
	ranges   ranges
	earlier  rerunRecord // what was run again before
	revision uint64      // of the stored one
	sources  int         // of an earlier try of the same rerun that picked these items; 0: there is none
	more     bool        // there are more that match
	busy     bool        // another rerun that is being accepted has items that match
}

// query is the part of a filter that receipts tell.
func (f *rerunFilter) query() *itemsQuery {
	q := &itemsQuery{class: f.class, code: f.code, host: f.host}
	if !f.canceled {
		q.state = protocol.ItemFailed
	}
	return q
}

// takes reports whether an item in this state is to run again.
func (f *rerunFilter) takes(state protocol.ItemState) bool {
	return state == protocol.ItemFailed || f.canceled && state == protocol.ItemCanceled
}

// mayMatch reports whether any item of a batch can match, as far as its summary tells.
func (f *rerunFilter) mayMatch(s *protocol.Summary) bool {
	if s.Tally.Failed == 0 {
		return f.canceled && s.Tally.Canceled > 0
	}
	if f.canceled || s.GroupsLeft > 0 || len(s.Groups) == 0 {
		return true
	}
	for _, g := range s.Groups {
		if (f.class == "" || g.Class == f.class) && (f.code == "" || g.Code == f.code) && (f.host == "" || g.Host == f.host) {
			return true
		}
	}
	return false
}

// errEnough ends a search that has found as much as was wanted.
var errEnough = errors.New("enough was found")

// search calls found for the receipts of a batch that match, in order, until it returns false.
func (p *Pipeline) search(ctx context.Context, now *snapshot, f *rerunFilter, found func(*protocol.Receipt) bool) error {
	if !now.told || !f.mayMatch(&now.summary) {
		return nil
	}
	q, pages := f.query(), f.pages()
	read := func(ctx context.Context, number int) ([]protocol.Receipt, error) {
		if pages != nil && !pages[number] {
			return nil, nil
		}
		first := number * protocol.PageSize
		receipts, _, err := p.pageOf(ctx, now, first, min(protocol.PageSize, now.record.Total-first), q)
		if err != nil {
			return nil, err
		}
		matching := receipts[:0]
		for i := range receipts {
			if f.takes(receipts[i].State) && q.matches(&receipts[i]) {
				matching = append(matching, receipts[i])
			}
		}
		return p.named(ctx, now, f, number, matching)
	}
	err := inOrder(ctx, 0, protocol.Pages(now.record.Total), read, func(_ int, receipts []protocol.Receipt) error {
		for i := range receipts {
			if !found(&receipts[i]) {
				return errEnough
			}
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// pages returns the pages that can hold items that are named; nil: all can.
func (f *rerunFilter) pages() map[int]bool {
	if !f.named || len(f.ids) > 0 {
		return nil
	}
	pages := map[int]bool{}
	for index := range f.indexes {
		pages[protocol.PageOf(index)] = true
	}
	return pages
}

// named keeps the receipts of the items that are named, if any are.
func (p *Pipeline) named(ctx context.Context, now *snapshot, f *rerunFilter, number int, receipts []protocol.Receipt) ([]protocol.Receipt, error) {
	if !f.named || len(receipts) == 0 {
		return receipts, nil
	}
	var items []protocol.ManifestItem
	if len(f.ids) > 0 {
		var err error
		if items, err = p.manifestPage(ctx, &now.record, number); err != nil {
			return nil, err
		}
	}
	kept := receipts[:0]
	for i := range receipts {
		r := &receipts[i]
		at := r.Index % protocol.PageSize
		if f.indexes[r.Index] || at < len(items) && items[at].ID != "" && f.ids[items[at].ID] {
			kept = append(kept, *r)
		}
	}
	return kept, nil
}

// pick chooses at most that many items of a batch for a rerun: those that match and that no other rerun has. What an earlier try of the
// same rerun chose stays chosen. seen is called for each; nil: nobody looks.
func (p *Pipeline) pick(
	ctx context.Context, now *snapshot, f *rerunFilter, id protocol.BatchID, most int, seen func(*protocol.Receipt),
) (*picked, error) {
	out := &picked{record: now.record}
	var err error
	if out.earlier, out.revision, err = p.rerunOf(ctx, now.record.Org, now.record.Batch); err != nil {
		return nil, err
	}
	before, err := p.sort(ctx, out, id)
	if err != nil || out.sources > 0 {
		return out, err
	}
	n := 0
	err = p.search(ctx, now, f, func(r *protocol.Receipt) bool {
		switch {
		case anyHas(before.taken, r.Index):
			return true
		case anyHas(before.pending, r.Index):
			out.busy = true
			return true
		}
		if n == most {
			out.more = true
			return false
		}
		n++
		out.ranges.add(r.Index)
		if seen != nil {
			seen(r)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	if id != "" {
		err = p.displace(ctx, out, before.stale)
	}
	return out, err
}

// earlierReruns are the entries of a record by what they say.
type earlierReruns struct {
	taken, pending []ranges
	stale          []rerunEntry
}

// sort looks at what was run again before. It drops the entries that say nothing any more, and finds that of an earlier try of the same
// rerun.
func (p *Pipeline) sort(ctx context.Context, out *picked, id protocol.BatchID) (earlierReruns, error) {
	var found earlierReruns
	kept := out.earlier.Entries[:0:0]
	for _, e := range out.earlier.Entries {
		if e.Batch == id {
			out.ranges, out.sources = e.Ranges, max(e.Sources, 1)
			continue
		}
		stands, err := p.standing(ctx, out.record.Org, &e)
		switch {
		case err != nil:
			return found, err
		case stands == standsVoid:
			continue
		case stands == standsStale:
			found.stale = append(found.stale, e)
		case stands == standsPending:
			found.pending = append(found.pending, e.Ranges)
		case stands == standsTaken:
			e.Done = true
			found.taken = append(found.taken, e.Ranges)
		}
		kept = append(kept, e)
	}
	out.earlier.Entries = kept
	return found, nil
}

func anyHas(list []ranges, index int) bool {
	for _, r := range list {
		if r.has(index) {
			return true
		}
	}
	return false
}

// displace makes sure that reruns which seem to be dead never run what was picked. One that turns out to have been accepted keeps its items:
// the error is [errTaken], and another look finds the others.
func (p *Pipeline) displace(ctx context.Context, out *picked, stale []rerunEntry) error {
	for _, e := range stale {
		if !e.Ranges.overlap(out.ranges) {
			continue
		}
		gone, err := p.supersede(ctx, out.record.Org, &e)
		if err != nil {
			return err
		}
		if !gone {
			return errTaken
		}
		kept := out.earlier.Entries[:0:0]
		for _, other := range out.earlier.Entries {
			if other.Batch != e.Batch {
				kept = append(kept, other)
			}
		}
		out.earlier.Entries = kept
	}
	return nil
}

// entered is the record of a batch once a rerun has taken what was picked of it.
func (k *picked) entered(r *rerun, sources int, at time.Time) *rerunRecord {
	entry := rerunEntry{Batch: r.id, Ranges: k.ranges, At: at, Request: r.digest()}
	if sources > 1 {
		entry.Sources = sources
	}
	record := rerunRecord{Version: rerunVersion, Entries: append(slices.Clip(k.earlier.Entries), entry)}
	return &record
}

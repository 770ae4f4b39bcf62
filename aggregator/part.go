package aggregator

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/copyfleet/copyfleet/protocol"
)

// news is a state of a part as it is kept: a failure with the epoch of who met it.
func news(r *protocol.PartReport) protocol.PartState {
	s := r.State
	s.Epoch = 0
	if s.Failure != nil {
		s.Epoch, s.Chain, s.ETag, s.Checksum = r.Epoch, nil, "", ""
	}
	return s
}

// admits reports whether a plan has to do with a report: the part is one of its upload. A failure counts only for the owner
// under whom it was met.
func admits(plan *protocol.PartPlan, r *protocol.PartReport) bool {
	if r.State.Upload != plan.Upload || r.State.Number < 1 || r.State.Number > plan.Count {
		return false
	}
	return r.State.Failure == nil || r.Epoch == plan.Epoch
}

// foldPart puts the state of a part into a page, and reports whether the page changed. Like [fold] it is idempotent and does not depend on
// the order: the page is a function of the set of states that came. A part that was stored stays so. A state of
// another upload replaces the page: the caller has seen that the upload is the plan's.
func foldPart(page protocol.PartPage, state protocol.PartState) (protocol.PartPage, bool) {
	if page.Upload != state.Upload {
		page = protocol.PartPage{Upload: state.Upload}
	}
	page.Version = protocol.PartVersion
	at, found := slices.BinarySearchFunc(page.Parts, state.Number, func(s protocol.PartState, n int) int { return s.Number - n })
	if !found {
		page.Parts = slices.Insert(page.Parts, at, state)
	}
	old := page.Parts[at]
	page.Parts[at] = merge(old, state)
	if covered(page.Parts, at) {
		page.Parts[at].Chain = nil
	}
	if found && compareStates(&old, &page.Parts[at]) == 0 {
		return page, false
	}
	for i := range at {
		if covered(page.Parts, i) {
			page.Parts[i].Chain = nil
		}
	}
	return page, true
}

// covered reports whether the digest can go on from a later part of the same stretch of stored ones. Then the chain of this one is
// worth nothing, and would make most of the page.
func covered(parts []protocol.PartState, at int) bool {
	for i := at + 1; i < len(parts) && parts[at].Failure == nil; i++ {
		if parts[i].Number != parts[i-1].Number+1 || parts[i].Failure != nil {
			break
		}
		if len(parts[i].Chain) > 0 {
			return true
		}
	}
	return false
}

// merge makes one of two states of a part: of two workers' words the greater counts, in an order that is the same everywhere, and which
// knows that something stored is more than a failure, and a later failure more than an earlier one.
func merge(a, b protocol.PartState) protocol.PartState {
	stored := a.Failure == nil && b.Failure == nil
	twice := a.Twice || b.Twice || stored && (a.Worker != b.Worker || a.ETag != b.ETag || a.Checksum != b.Checksum)
	chain := a.Chain // of the same bytes, whoever computed it
	if bytes.Compare(b.Chain, chain) > 0 {
		chain = b.Chain
	}
	a.Chain, b.Chain = nil, nil
	if compareStates(&a, &b) < 0 {
		a = b
	}
	a.Twice = twice
	if a.Failure == nil {
		a.Chain = chain
	}
	return a
}

func compareStates(a, b *protocol.PartState) int {
	if (a.Failure == nil) != (b.Failure == nil) {
		if a.Failure == nil {
			return 1
		}
		return -1
	}
	return cmp.Or(
		cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Worker, b.Worker), cmp.Compare(a.ETag, b.ETag), cmp.Compare(a.Checksum, b.Checksum),
		cmp.Compare(a.Size, b.Size), compareFailures(a.Failure, b.Failure), compareBools(a.Twice, b.Twice), bytes.Compare(a.Chain, b.Chain),
	)
}

func compareFailures(a, b *protocol.Failure) int {
	if a == nil || b == nil {
		return 0 // neither has one
	}
	return cmp.Or(
		cmp.Compare(a.Class, b.Class), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Message, b.Message), cmp.Compare(a.Cause, b.Cause),
		cmp.Compare(a.Hint, b.Hint), cmp.Compare(a.Status, b.Status), cmp.Compare(a.Host, b.Host),
	)
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

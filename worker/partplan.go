package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// partRecords are the plans of items that are moved in parts, which their owners write, and the pages of what became of the parts,
// which the aggregator writes.
type partRecords struct{ bucket *broker.Bucket }

// plan reads the plan of an item. Revision 0: it has none.
func (r partRecords) plan(ctx context.Context, ref protocol.Ref) (protocol.PartPlan, uint64, error) {
	var plan protocol.PartPlan
	entry, err := r.bucket.Get(ctx, protocol.PartPlanKey(ref.Org, ref.Batch, ref.Index))
	if errors.Is(err, broker.ErrNotFound) {
		return plan, 0, nil
	}
	if err != nil {
		return plan, 0, unconfirmed(err)
	}
	if err := json.Unmarshal(entry.Value, &plan); err != nil {
		return protocol.PartPlan{}, 0, unconfirmed(fmt.Errorf("read the plan %s: %w", entry.Key, err))
	}
	return plan, entry.Revision, nil
}

// save writes a plan over the one that has the revision; 0: there must be none. That somebody else wrote meanwhile is [errLeaseLost]: only the
// item's next owner does.
func (r partRecords) save(ctx context.Context, ref protocol.Ref, plan *protocol.PartPlan, revision uint64) (uint64, error) {
	value, err := protocol.Encode(plan)
	if err != nil {
		return 0, fmt.Errorf("save a plan: %w", err)
	}
	key := protocol.PartPlanKey(ref.Org, ref.Batch, ref.Index)
	var saved uint64
	if revision == 0 {
		saved, err = r.bucket.Create(ctx, key, value)
	} else {
		saved, err = r.bucket.Update(ctx, broker.Change{Key: key, Value: value, Revision: revision})
	}
	if err == nil {
		return saved, nil
	}
	// It may be our own, of which the answer was lost.
	there, found, lookErr := r.plan(ctx, ref)
	switch {
	case lookErr != nil:
		return 0, unconfirmed(err)
	case found != revision && there.Fence == plan.Fence && there.Epoch == plan.Epoch && there.Upload == plan.Upload && there.Completing == plan.Completing:
		return found, nil
	case errors.Is(err, broker.ErrConflict), errors.Is(err, broker.ErrExists):
		return 0, fmt.Errorf("%w: %w", errLeaseLost, err)
	}
	return 0, unconfirmed(err)
}

// fill reads what became of the parts of a plan's upload into states, of which those that are stored already are not asked for. A failure
// of an earlier epoch is none any more.
func (r partRecords) fill(ctx context.Context, ref protocol.Ref, plan *protocol.PartPlan, states []protocol.PartState) error {
	for page := 0; page*protocol.PageSize < len(states); page++ {
		some := states[page*protocol.PageSize : min((page+1)*protocol.PageSize, len(states))]
		if whole(some) {
			continue
		}
		found, err := r.page(ctx, ref, page)
		if err != nil {
			return err
		}
		if found.Upload != plan.Upload {
			continue
		}
		for _, s := range found.Parts {
			if s.Number < 1 || s.Number > len(states) || protocol.PartPageOf(s.Number) != page || isStored(&states[s.Number-1]) {
				continue
			}
			if s.Failure == nil || s.Epoch == plan.Epoch {
				states[s.Number-1] = s
			}
		}
	}
	return nil
}

// stored is how many parts of a plan's upload are known to be stored.
func (r partRecords) stored(ctx context.Context, ref protocol.Ref, plan *protocol.PartPlan) (int, error) {
	states := make([]protocol.PartState, plan.Count)
	if err := r.fill(ctx, ref, plan, states); err != nil {
		return 0, err
	}
	n := 0
	for i := range states {
		if isStored(&states[i]) {
			n++
		}
	}
	return n, nil
}

func (r partRecords) page(ctx context.Context, ref protocol.Ref, page int) (protocol.PartPage, error) {
	var found protocol.PartPage
	entry, err := r.bucket.Get(ctx, protocol.PartPageKey(ref.Org, ref.Batch, ref.Index, page))
	if errors.Is(err, broker.ErrNotFound) {
		return found, nil
	}
	if err != nil {
		return found, unconfirmed(err)
	}
	if err := json.Unmarshal(entry.Value, &found); err != nil {
		return found, unconfirmed(fmt.Errorf("read the parts %s: %w", entry.Key, err))
	}
	return found, nil
}

// remove removes all that is known of an item's parts: the plan first, for without it nobody writes a page.
func (r partRecords) remove(ctx context.Context, ref protocol.Ref) error {
	if err := r.bucket.Drop(ctx, protocol.PartPlanKey(ref.Org, ref.Batch, ref.Index)); err != nil {
		return unconfirmed(err)
	}
	if err := r.bucket.DropAll(ctx, protocol.PartFilter(ref.Org, ref.Batch, ref.Index)); err != nil {
		return unconfirmed(err)
	}
	return nil
}

// unconfirmed has the item handed back: what its records say is not known.
func unconfirmed(err error) error { return fmt.Errorf("%w: %w", errUnconfirmed, err) }

// isStored reports whether a part is known to be stored.
func isStored(s *protocol.PartState) bool { return s.Number > 0 && s.Failure == nil }

func whole(states []protocol.PartState) bool {
	for i := range states {
		if !isStored(&states[i]) {
			return false
		}
	}
	return true
}

func planMark(plan *protocol.PartPlan) storage.Mark {
	return storage.Mark{ETag: plan.ETag, Modified: plan.Modified, Size: plan.Size}
}

// partSize is how large the parts of content are made: as configured, but not so small that there are too many.
func partSize(size, asked int64, limits storage.PartLimits) int64 {
	const unit, most = 1 << 20, 10_000
	count := int64(most)
	if limits.Count > 0 {
		count = min(count, int64(limits.Count))
	}
	part := max(asked, limits.Min, (size+count-1)/count)
	part = (part + unit - 1) / unit * unit
	if limits.Max > 0 {
		part = min(part, limits.Max)
	}
	return part
}

package aggregator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	// partsKept is how long the plan of an item that has ended waits for a worker that removes what it names. Object stores
	// give up unfinished uploads by themselves after a day.
	partsKept = 24 * time.Hour
	// sweptAtOnce bounds how many items are given to workers in a pass.
	sweptAtOnce = 256
)

// leftPlan is the plan of an item that nobody may need any more.
type leftPlan struct {
	key      itemKey
	name     string
	revision uint64
	written  time.Time
}

// sweepParts finds what deaths left of items that were moved in parts: plans of items that have ended, which name uploads that only a worker
// can remove, and pages without a plan.
func (a *Aggregator) sweepParts(ctx context.Context) error {
	left, err := a.leftPlans(ctx)
	if err != nil {
		return err
	}
	asked := 0
	over := map[batchKey]bool{}
	for _, p := range left {
		gone, known := over[p.key.batchKey]
		if !known {
			if gone, err = a.ended(ctx, protocol.Ref{Org: p.key.org, Batch: p.key.batch}); err != nil {
				return err
			}
			over[p.key.batchKey] = gone
		}
		if !gone {
			if gone, err = a.itemEnded(ctx, p.key); err != nil {
				return err
			}
		}
		if !gone || asked >= sweptAtOnce {
			continue
		}
		told, err := a.sweepItem(ctx, p)
		if err != nil {
			return err
		}
		if told {
			asked++
		}
	}
	return a.sweepPages(ctx)
}

// leftPlans are the plans that were not written for a while.
func (a *Aggregator) leftPlans(ctx context.Context) ([]leftPlan, error) {
	var left []leftPlan
	err := a.parts.bucket.Scan(ctx, "*.*.*"+protocol.PartPlanEnd, func(s broker.Scanned) bool {
		if time.Since(s.Written) < a.cfg.PartsAfter {
			return false
		}
		if key, ok := a.itemOf(s.Key); ok {
			left = append(left, leftPlan{key, s.Key, s.Revision, s.Written})
		}
		return true
	})
	return left, err //nolint:wrapcheck // says what it was
}

// itemOf takes apart a key of the bucket of parts.
func (a *Aggregator) itemOf(name string) (itemKey, bool) {
	org, rest, _ := strings.Cut(name, ".")
	batch, rest, _ := strings.Cut(rest, ".")
	index, _, ok := strings.Cut(rest, ".")
	n, err := strconv.Atoi(index)
	o, okOrg := protocol.FromToken(org)
	b, okBatch := protocol.FromToken(batch)
	if !ok || err != nil || !okOrg || !okBatch {
		a.cfg.Logger.Error("a key in the bucket of parts cannot be read", "key", name)
		return itemKey{}, false
	}
	return itemKey{batchKey{protocol.OrgID(o), protocol.BatchID(b)}, n}, true
}

// itemEnded reports whether an item of a running batch has its outcome.
func (a *Aggregator) itemEnded(ctx context.Context, key itemKey) (bool, error) {
	for _, name := range []string{protocol.SummaryKey(key.org, key.batch), protocol.PageKey(key.org, key.batch, protocol.PageOf(key.index))} {
		entry, err := a.bucket.Get(ctx, name)
		if errors.Is(err, broker.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("look for the outcome of %d of %s: %w", key.index, key.batch, err)
		}
		var p struct {
			Receipts []protocol.Receipt `json:"receipts"` // so named in a page and in a summary
		}
		if err := json.Unmarshal(entry.Value, &p); err != nil {
			return false, fmt.Errorf("read the receipts %s: %w", name, err)
		}
		if slices.ContainsFunc(p.Receipts, func(r protocol.Receipt) bool { return r.Index == key.index && r.State.Final() }) {
			return true, nil
		}
	}
	return false, nil
}

// sweepItem has a worker remove what an item left, and reports whether it asked for that. What no worker removed for a day, or belongs to a
// batch that is no more, is forgotten.
func (a *Aggregator) sweepItem(ctx context.Context, p leftPlan) (bool, error) {
	record, found, err := a.accepted(ctx, p.key.batchKey)
	if err != nil {
		return false, err
	}
	if !found || record.empty || time.Since(p.written) > partsKept {
		a.cfg.Logger.Warn("forgetting parts of an item that has ended", "batch", p.key.batch, "index", p.key.index)
		return false, a.forgetParts(ctx, p)
	}
	work := workOf(&row{key: p.key.batchKey, record: record})
	work.Index, work.Recheck, work.Sweep = p.key.index, true, true
	value, err := protocol.Encode(work)
	if err != nil {
		return false, fmt.Errorf("sweep item %d of %s: %w", p.key.index, p.key.batch, err)
	}
	// It is asked again when the plan is twice as old, and so on: a broker that is killed right after a plan was removed may bring an earlier
	// revision of it back, one that this was asked about already.
	times := bits.Len64(uint64(time.Since(p.written) / a.cfg.PartsAfter)) //nolint:gosec // it is at least PartsAfter old
	guard := fmt.Sprintf("%s.sweep.%d.%d", protocol.GuardSubject(work.Lane, work.Org, work.Batch, 0, work.Index), p.revision, times)
	subject := protocol.WorkSubject(work.Lane, work.Pool, work.Shard, work.Org, work.Batch)
	_, err = a.conn.PublishChunk(ctx, guard, subject, [][]byte{value})
	if errors.Is(err, broker.ErrCommitted) {
		return false, nil // no worker came to it yet
	}
	if err != nil {
		return false, fmt.Errorf("sweep item %d of %s: %w", p.key.index, p.key.batch, err)
	}
	failpoint.Hit(failpoint.SweepAsked)
	if err := a.conn.Wake(broker.Shard{Lane: work.Lane, Pool: work.Pool, Index: work.Shard}); err != nil {
		a.cfg.Logger.Debug("workers were not woken and will look by themselves", "error", err)
	}
	return true, nil
}

func (a *Aggregator) accepted(ctx context.Context, key batchKey) (*brief, bool, error) {
	entry, err := a.bucket.Get(ctx, protocol.AcceptKey(key.org, key.batch))
	if errors.Is(err, broker.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read an accept record: %w", err)
	}
	var record protocol.Acceptance
	if err := json.Unmarshal(entry.Value, &record); err != nil {
		return nil, false, fmt.Errorf("read the accept record of %s: %w", key.batch, err)
	}
	return briefly(&record), true, nil
}

// forgetParts removes the records of an item, the plan first: without one no page is written.
func (a *Aggregator) forgetParts(ctx context.Context, p leftPlan) error {
	if err := a.parts.bucket.DropAt(ctx, p.name, p.revision); err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	return a.parts.bucket.DropAll(ctx, strings.TrimSuffix(p.name, protocol.PartPlanEnd)+".*") //nolint:wrapcheck // as above
}

// sweepPages removes pages without a plan. There is a plan before there are pages; so no new item is hurt.
func (a *Aggregator) sweepPages(ctx context.Context) error {
	names, err := a.parts.bucket.Keys(ctx, "*.*.*.*")
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	planned := map[string]bool{}
	for _, name := range names {
		if item, is := strings.CutSuffix(name, protocol.PartPlanEnd); is {
			planned[item] = true
		}
	}
	for _, name := range names {
		item := name[:strings.LastIndexByte(name, '.')]
		if planned[item] {
			continue
		}
		page, err := a.parts.bucket.Get(ctx, name)
		if errors.Is(err, broker.ErrNotFound) {
			continue
		}
		if err != nil {
			return err //nolint:wrapcheck // says what it was
		}
		_, err = a.parts.bucket.Get(ctx, item+protocol.PartPlanEnd) // it may have been made since the list was
		if err == nil {
			continue
		}
		if !errors.Is(err, broker.ErrNotFound) {
			return err //nolint:wrapcheck // says what it was
		}
		if err := a.parts.bucket.DropAt(ctx, name, page.Revision); err != nil {
			return err //nolint:wrapcheck // says what it was
		}
	}
	return nil
}

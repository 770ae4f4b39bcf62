package aggregator

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// clean feeds the items of a stopped batch that dead workers held when they died, and those that were moved in parts and nobody held, being
// paused or waiting for a retry: the next worker finds that they are not wanted, and removes the hidden files that lie beside their
// destinations, and unfinished uploads. Nothing waits for that. It is done once by each feeder that stops
// the batch; once too often harms nobody.
func (f *feeder) clean(ctx context.Context, r *row) error {
	if r.cleaned || r.record.empty {
		return nil
	}
	indexes, err := f.held.ofDead(ctx, r.key, r.recalledAt)
	if err != nil {
		return err
	}
	indexes, err = f.open(ctx, r, indexes)
	if err != nil {
		return err
	}
	r.unsure = indexes
	planned, err := f.planned(ctx, r.key)
	if err != nil {
		return err
	}
	indexes = slices.Concat(indexes, planned)
	slices.Sort(indexes)
	indexes = slices.Compact(indexes)
	if len(indexes) == 0 {
		r.cleaned = true
		return nil
	}
	feed := r.feed
	feed.Pass++ // the guards of this one are its own
	if saved, err := f.save(ctx, r, feed); err != nil || !saved {
		return err
	}
	forms, err := formsOf(r)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(indexes, broker.MaxChunk) {
		var works [][]byte
		for _, index := range some {
			works = append(works, forms.works(index, 1, true)...)
		}
		if _, err := f.publish(ctx, r, some[0], some[len(some)-1]+1, works); err != nil {
			return fmt.Errorf("clean up after batch %s: %w", r.key.batch, err)
		}
	}
	r.cleaned = true
	if err := f.conn.Wake(r.record.shard(r.key.org)); err != nil {
		f.log.Debug("workers were not woken and will look by themselves", "batch", r.key.batch, "error", err)
	}
	return nil
}

// planned returns the indexes of the items of a batch that are moved in parts.
func (f *feeder) planned(ctx context.Context, key batchKey) ([]int, error) {
	names, err := f.parts.Keys(ctx, protocol.PartPlanFilter(key.org, key.batch))
	if err != nil {
		return nil, fmt.Errorf("look for parts of batch %s: %w", key.batch, err)
	}
	indexes := make([]int, 0, len(names))
	for _, name := range names {
		name = strings.TrimSuffix(name, protocol.PartPlanEnd)
		index, err := strconv.Atoi(name[strings.LastIndexByte(name, '.')+1:])
		if err != nil {
			return nil, fmt.Errorf("look for parts of batch %s: the key %s: %w", key.batch, name, err)
		}
		indexes = append(indexes, index)
	}
	return indexes, nil
}

// open returns those of the items that have no outcome, each once, in order.
func (f *feeder) open(ctx context.Context, r *row, indexes []int) ([]int, error) {
	sorted := slices.Compact(slices.Sorted(slices.Values(indexes)))
	var left []int
	page, known := -1, map[int]protocol.Receipt(nil)
	for _, index := range sorted {
		if page != protocol.PageOf(index) {
			var err error
			page = protocol.PageOf(index)
			if known, err = f.receipts(ctx, r, page); err != nil {
				return nil, err
			}
		}
		if !known[index].State.Final() {
			left = append(left, index)
		}
	}
	return left, nil
}

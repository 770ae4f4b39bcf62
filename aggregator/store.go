package aggregator

import (
	"context"
	"errors"
	"fmt"

	"github.com/sourcegraph/conc/pool"

	"github.com/copyfleet/copyfleet/internal/broker"
)

// singles is the number of one-write units up to which writing them one by one beats an atomic batch, which
// costs 3 to 6 ms whatever its size. Measured: docs/adr/0001-limits-streams.md.
const singles = 12

// store commits units. Those that met another writer come back as lost: they are to be folded again.
func store(ctx context.Context, bucket *broker.Bucket, units []unit) (lost []unit, err error) {
	var single, group []unit
	for _, u := range units {
		if len(u.changes) == 1 {
			single = append(single, u)
		} else {
			group = append(group, u)
		}
	}
	if len(single) > singles {
		group = append(group, single...)
		single = nil
	}
	lost, err = storeEach(ctx, bucket, single)
	if err != nil {
		return lost, err
	}
	for len(group) > 0 {
		n := fitting(group)
		beaten, err := storeTogether(ctx, bucket, group[:n])
		lost = append(lost, beaten...)
		if err != nil {
			return lost, err
		}
		group = group[n:]
	}
	return lost, nil
}

const commitBytes = 16 << 20

// fitting is how many units go into one atomic batch; at least one.
func fitting(units []unit) int {
	changes, size := 0, 0
	for i, u := range units {
		changes += len(u.changes)
		for _, c := range u.changes {
			size += len(c.Value)
		}
		if i > 0 && (changes > broker.MaxCommit || size > commitBytes) {
			return i
		}
	}
	return len(units)
}

func storeTogether(ctx context.Context, bucket *broker.Bucket, units []unit) ([]unit, error) {
	var changes []broker.Change
	for _, u := range units {
		changes = append(changes, u.changes...)
	}
	revisions, err := bucket.Commit(ctx, changes)
	if errors.Is(err, broker.ErrConflict) {
		if len(units) == 1 {
			return units, nil
		}
		return storeEach(ctx, bucket, units) // one of them lost; the others need not
	}
	if errors.Is(err, broker.ErrTooLarge) {
		return storeEach(ctx, bucket, units) // one of them is; the others must not wait for it
	}
	if err != nil {
		return nil, fmt.Errorf("commit %d batches: %w", len(units), err)
	}
	for i := range units {
		n := len(units[i].changes)
		units[i].committed(revisions[:n])
		revisions = revisions[n:]
	}
	return nil, nil
}

func storeEach(ctx context.Context, bucket *broker.Bucket, units []unit) ([]unit, error) {
	lost := make([]bool, len(units))
	storing := pool.New().WithErrors().WithMaxGoroutines(singles)
	for i := range units {
		storing.Go(func() error {
			revisions, err := bucket.Commit(ctx, units[i].changes)
			if errors.Is(err, broker.ErrTooLarge) {
				if units[i], err = units[i].shrink(); err != nil {
					return err
				}
				revisions, err = bucket.Commit(ctx, units[i].changes)
			}
			if errors.Is(err, broker.ErrConflict) {
				lost[i] = true
				return nil
			}
			if err != nil {
				return fmt.Errorf("commit batch %s: %w", units[i].key.batch, err)
			}
			units[i].committed(revisions)
			return nil
		})
	}
	err := storing.Wait()
	var beaten []unit
	for i, was := range lost {
		if was {
			beaten = append(beaten, units[i])
		}
	}
	return beaten, err //nolint:wrapcheck // wrapped above
}

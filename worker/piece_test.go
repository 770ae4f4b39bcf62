package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
)

// slowStore takes a part and only then, behind its last byte, does what a store or a disk takes its time for.
type slowStore struct {
	*memory.Destination

	under, most atomic.Int32
	begun       func(number int)
	behind      func(ctx context.Context, number int) error
}

func (d *slowStore) PutPart(ctx context.Context, upload string, part storage.Part) (storage.PartStored, error) {
	d.most.Store(max(d.most.Load(), d.under.Add(1))) // one goroutine begins all of them
	defer d.under.Add(-1)
	if d.begun != nil {
		d.begun(part.Number)
	}
	stored, err := d.Destination.PutPart(ctx, upload, part)
	if err != nil {
		return stored, err //nolint:wrapcheck // as it is
	}
	return stored, d.behind(ctx, part.Number)
}

// TestNextPartIsReadWhileOneIsStored lets each part be stored only when the next one has been begun, and never more than that.
func TestNextPartIsReadWhileOneIsStored(t *testing.T) {
	t.Parallel()
	const parts = 6
	data := bytesOf(manyParts, 1)
	begun := make([]chan struct{}, parts+2)
	for i := range begun {
		begun[i] = make(chan struct{})
	}
	close(begun[parts+1])
	dest := &slowStore{Destination: &memory.Destination{}, begun: func(number int) { close(begun[number]) }}
	dest.behind = func(ctx context.Context, number int) error {
		select {
		case <-begun[number+1]:
			return nil
		case <-time.After(5 * time.Minute):
			return errors.New("the next part was not begun")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	k := newPartsKit(t, sourceOf(data), dest)
	k.run(t, k.config("w1"))
	k.publish(t, nil)
	r := k.final(t)
	k.arrived(t, dest.Destination, &r, data)
	if most := dest.most.Load(); most != 2 || len(r.Attempts) != 1 || r.Attempts[0].Bytes != manyParts {
		t.Errorf("%d parts were under way at once; the receipt says %+v", most, r)
	}
}

// TestPartThatIsNotStoredEndsTheAttempt has a part fail behind its last byte, while the next one is read, and it is known that the first is stored.
func TestPartThatIsNotStoredEndsTheAttempt(t *testing.T) {
	t.Parallel()
	data := bytesOf(manyParts, 1)
	var failed atomic.Bool
	third, first := make(chan struct{}), make(chan struct{})
	known := sync.OnceFunc(func() { close(first) })
	defer known() // also if the test fails: the worker's end waits for the part
	dest := &slowStore{Destination: &memory.Destination{}}
	dest.begun = func(number int) {
		if number == 3 && !failed.Load() {
			close(third)
		}
	}
	dest.behind = func(_ context.Context, number int) error {
		if number != 2 || failed.Load() {
			return nil
		}
		<-third
		<-first
		failed.Store(true)
		return storage.Errorf(storage.Unavailable, "dest_slow_down", "write", "memory", "the store is busy")
	}
	k := newPartsKit(t, sourceOf(data), dest)
	k.run(t, k.config("w1"))
	k.publish(t, nil)
	k.kept(t, 1)
	known()
	r := k.final(t)
	k.arrived(t, dest.Destination, &r, data)
	if len(r.Attempts) != 2 || r.Attempts[0].Failure == nil || r.Attempts[0].Failure.Code != "dest_slow_down" || r.ResumedFrom != testPart {
		t.Errorf("the receipt says %+v", r)
	}
}

// TestPanicOfAPartIsTheItemsFailure has a driver throw on the goroutine of a part.
func TestPanicOfAPartIsTheItemsFailure(t *testing.T) {
	t.Parallel()
	dest := &slowStore{Destination: &memory.Destination{}, behind: func(_ context.Context, number int) error {
		if number == 2 {
			none := make([]int, 1)
			none[number]++
		}
		return nil
	}}
	k := newPartsKit(t, sourceOf(bytesOf(manyParts, 1)), dest)
	k.run(t, k.config("w1"))
	k.publish(t, nil)
	if r := k.final(t); r.State != protocol.ItemFailed || r.Failure == nil || r.Failure.Code != "panic" {
		t.Errorf("the receipt says %+v", r)
	}
}

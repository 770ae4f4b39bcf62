package worker

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
)

// mirror is a source whose second opening is that of the destination, which is to be read back.
type mirror struct {
	*memory.Source

	opened atomic.Int32
	back   func(ctx context.Context, n int32, object *storage.Object) (*storage.Object, error) // of opening n from 1 on
}

func (m *mirror) Open(ctx context.Context) (*storage.Object, error) {
	object, err := m.Source.Open(ctx)
	if n := m.opened.Add(1); n > 1 && err == nil {
		return m.back(ctx, n-1, object)
	}
	return object, err
}

// TestReadingBackIsTriedAgain spreads an object that is visible when it is to be read for its digest.
func TestReadingBackIsTriedAgain(t *testing.T) {
	t.Parallel()
	data := bytesOf(manyParts, 3)
	for name, c := range map[string]struct {
		back   func(n int32, object *storage.Object) (*storage.Object, error)
		opened int32
		digest string
	}{
		"it may not be read": {func(int32, *storage.Object) (*storage.Object, error) {
			return nil, storage.Errorf(storage.Denied, "denied", "open", "x", "only writing is allowed")
		}, 2, ""},
		"the store is away for long": {func(int32, *storage.Object) (*storage.Object, error) {
			return nil, storage.Errorf(storage.Unavailable, "away", "open", "x", "it is away")
		}, 1 + partTries, ""},
		"the store is away for a moment": {func(n int32, object *storage.Object) (*storage.Object, error) {
			if n == 1 {
				return nil, storage.Errorf(storage.Unavailable, "away", "open", "x", "it is away")
			}
			return object, nil
		}, 3, digestOf(data)},
		"somebody has replaced it": {func(_ int32, object *storage.Object) (*storage.Object, error) {
			object.ETag = `"another"`
			return object, nil
		}, 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source, dest := &mirror{Source: sourceOf(data)}, &memory.Destination{ETag: `"v1"`}
			source.back = func(_ context.Context, n int32, object *storage.Object) (*storage.Object, error) {
				return c.back(n, object)
			}
			k := newPartsKit(t, source, opaque{dest})
			k.run(t, k.spreading("w1"))
			k.publish(t, nil)
			r := k.final(t)
			if r.State != protocol.ItemSucceeded || r.SHA256 != c.digest || r.Bytes != manyParts || len(r.Attempts) != 1 {
				t.Errorf("the receipt says %+v", r)
			}
			if n := source.opened.Load(); n != c.opened {
				t.Errorf("source and object were opened %d times", n)
			}
			if finals := dest.Finals(); len(finals) != 1 {
				t.Errorf("it was completed by %+v", finals)
			}
			k.clean(t)
		})
	}
}

// TestStopComesTooLateForWhatIsVisible stops the batch while the object is read back.
func TestStopComesTooLateForWhatIsVisible(t *testing.T) {
	t.Parallel()
	data, dest := bytesOf(manyParts, 3), &memory.Destination{}
	reading := make(chan struct{})
	source := &mirror{Source: sourceOf(data)}
	source.back = func(ctx context.Context, _ int32, _ *storage.Object) (*storage.Object, error) {
		close(reading)
		<-ctx.Done()
		return nil, storage.Errorf(storage.Interrupted, "stopped", "open", "x", "it was stopped")
	}
	k := newPartsKit(t, source, opaque{dest})
	k.run(t, k.spreading("w1"))
	k.publish(t, nil)
	<-reading
	k.control(t, protocol.WantStop)
	if r := k.final(t); r.State != protocol.ItemSucceeded {
		t.Errorf("the receipt says %+v", r)
	}
	k.clean(t)
}

// TestNewBeginningOfASpreadItemTakesNoSlot loses the upload while the parts are others' work: their item has no slot to copy in any more.
func TestNewBeginningOfASpreadItemTakesNoSlot(t *testing.T) {
	t.Parallel()
	data := bytesOf(manyParts, 3)
	dest := &memory.Destination{
		FailParts: map[int]error{4: storage.Errorf(storage.Conflict, storage.CodeUploadGone, "write", "x", "it is gone")}, FailPartTimes: 1,
	}
	k := newPartsKit(t, sourceOf(data), dest)
	k.run(t, k.spreading("w1"))
	k.publish(t, nil)
	r := k.final(t)
	k.arrived(t, dest, &r, data)
	if r.RestartReason != protocol.RestartUploadGone || r.ResumedFrom != 0 || len(r.Attempts) != 1 {
		t.Errorf("the receipt says %+v", r)
	}
	for _, s := range k.reported() {
		if s.State.Upload == "upload-2" && len(s.State.Chain) > 0 {
			t.Errorf("its owner copied part %d outside of a slot", s.State.Number)
		}
	}
}

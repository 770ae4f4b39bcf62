package worker

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
)

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// arrived checks a success and what it left.
func (k *partsKit) arrived(t *testing.T, dest *memory.Destination, r *protocol.Receipt, data []byte) {
	t.Helper()
	if r.State != protocol.ItemSucceeded {
		t.Fatalf("the item is %s: %+v", r.State, r.Failure)
	}
	if got, _ := dest.Bytes(); !bytes.Equal(got, data) {
		t.Fatalf("%d bytes arrived, and not those", len(got))
	}
	if r.Bytes != int64(len(data)) || r.SHA256 != digestOf(data) || !r.Verified || r.Method != protocol.MethodParts {
		t.Errorf("the receipt says %+v", r)
	}
	k.clean(t)
}

func TestLargeItemsAreCopiedInParts(t *testing.T) {
	t.Parallel()
	data, dest := bytesOf(manyParts, 1), &memory.Destination{}
	k := newPartsKit(t, sourceOf(data), dest)
	k.run(t, k.config("w1"))
	k.publish(t, nil)
	r := k.final(t)
	k.arrived(t, dest, &r, data)
	if r.ResumedFrom != 0 || r.RestartReason != "" || len(r.Attempts) != 1 || r.Attempts[0].Bytes != manyParts {
		t.Errorf("the receipt says %+v", r)
	}
	finals := dest.Finals()
	if len(finals) != 1 || finals[0].Content.ContentType != "application/x-parts" || finals[0].Content.Fresh || len(finals[0].Parts) != 6 {
		t.Errorf("it was completed by %+v", finals)
	}
}

func TestSmallItemsAreCopiedWhole(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]*memory.Source{
		"small":    sourceOf(bytesOf(testPart-1, 1)),
		"one part": sourceOf(bytesOf(testPart, 1)),
		"no state": {Data: bytesOf(manyParts, 1)},
		"weak":     {Data: bytesOf(manyParts, 1), ETag: `W/"v1"`},
		"no range": {Data: bytesOf(manyParts, 1), ETag: `"v1"`, NoRanges: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dest := &memory.Destination{}
			k := newPartsKit(t, source, dest)
			k.run(t, k.config("w1"))
			k.publish(t, nil)
			r := k.final(t)
			if r.State != protocol.ItemSucceeded || r.Method != protocol.MethodStream || len(dest.Puts()) != 1 {
				t.Errorf("it was copied by %d Puts: %+v", len(dest.Puts()), r)
			}
		})
	}
}

// TestNextAttemptContinues has the fourth part fail at first, once it is known where the next attempt looks that those before it are stored.
func TestNextAttemptContinues(t *testing.T) {
	t.Parallel()
	data := bytesOf(manyParts, 1)
	dest := &memory.Destination{
		FailParts:     map[int]error{4: storage.Errorf(storage.Unavailable, "busy", "write", "x", "it is busy")},
		FailPartTimes: 1,
	}
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	defer open() // also if the test fails: the worker's end waits for the part
	k := newPartsKit(t, sourceOf(data), gated{dest, func(number int) error {
		if number == 4 {
			<-gate
		}
		return nil
	}})
	k.run(t, k.config("w1"))
	md := md5.Sum(data)
	k.publish(t, func(item *protocol.ManifestItem, _ *protocol.Work) {
		item.Expect = protocol.Expect{SHA256: digestOf(data), MD5: hex.EncodeToString(md[:])}
	})
	k.kept(t, 3)
	open()
	if r := k.next(t); r.State != protocol.ItemRetrying {
		t.Fatalf("after the first attempt: %+v", r)
	}
	r := k.final(t)
	k.arrived(t, dest, &r, data)
	if r.ResumedFrom != 3*testPart || r.RestartReason != "" || len(r.Attempts) != 2 || r.Attempts[1].Bytes != int64(manyParts-3*testPart) {
		t.Errorf("the receipt says %+v", r)
	}
	if finals := dest.Finals(); len(finals) != 1 {
		t.Errorf("it was completed by %+v", finals)
	}
}

func TestChangedSourceBeginsAnew(t *testing.T) {
	t.Parallel()
	data, source := bytesOf(manyParts, 2), sourceOf(bytesOf(manyParts, 1))
	dest := &memory.Destination{}
	k := newPartsKit(t, source, dest)
	k.stuck(t, dest)
	source.Data, source.ETag = data, `"v2"`
	k.run(t, k.config("w2"))
	r := k.final(t)
	k.arrived(t, dest, &r, data)
	if r.ResumedFrom != 0 || r.RestartReason != protocol.RestartSourceChanged {
		t.Errorf("the receipt says %+v", r)
	}
	if left := dest.Uploads(); len(left) != 0 {
		t.Errorf("uploads are left: %v", left)
	}
}

// stuck has a worker try the item, and fail at its fourth part as often as it does, until the worker has ended.
func (k *partsKit) stuck(t *testing.T, dest *memory.Destination) {
	t.Helper()
	dest.FailParts = map[int]error{4: storage.Errorf(storage.Unavailable, "busy", "write", "x", "it is busy")}
	stop := k.run(t, k.config("w1"))
	k.publish(t, func(_ *protocol.ManifestItem, w *protocol.Work) { w.MaxAttempts = 1000 })
	k.kept(t, 3)
	if r := k.next(t); r.State != protocol.ItemRetrying {
		t.Fatalf("after the first attempt: %+v", r)
	}
	stop()
	dest.FailParts = nil
}

func TestLostUploadBeginsAnew(t *testing.T) {
	t.Parallel()
	data := bytesOf(manyParts, 1)
	dest := &memory.Destination{}
	k := newPartsKit(t, sourceOf(data), dest)
	k.stuck(t, dest)
	for _, begun := range dest.Uploads() {
		if err := dest.Abort(t.Context(), begun); err != nil {
			t.Fatal(err)
		}
	}
	k.run(t, k.config("w2"))
	r := k.final(t)
	k.arrived(t, dest, &r, data)
	if r.ResumedFrom != 0 || r.RestartReason != protocol.RestartUploadGone {
		t.Errorf("the receipt says %+v", r)
	}
}

func TestFailedItemLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, class := range map[string]storage.Class{"final": storage.Denied, "exhausted": storage.Unavailable} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dest := &memory.Destination{FailParts: map[int]error{4: storage.Errorf(class, "no", "write", "x", "it is not to be")}}
			k := newPartsKit(t, sourceOf(bytesOf(manyParts, 1)), dest)
			k.run(t, k.config("w1"))
			k.publish(t, nil)
			if r := k.final(t); r.State != protocol.ItemFailed || r.Failure.Code != "no" {
				t.Errorf("the receipt says %+v", r)
			}
			k.clean(t)
			if left := dest.Uploads(); len(left) != 0 {
				t.Errorf("uploads are left: %v", left)
			}
		})
	}
}

func TestWrongDigestIsSeenBeforeItIsVisible(t *testing.T) {
	t.Parallel()
	for name, expect := range map[string]protocol.Expect{
		"sha256": {SHA256: digestOf([]byte("another"))}, "md5": {MD5: hex.EncodeToString(make([]byte, 16))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, spread := range []time.Duration{time.Hour, time.Nanosecond} {
				dest := &memory.Destination{}
				k := newPartsKit(t, sourceOf(bytesOf(manyParts, 1)), dest)
				cfg := k.config("w1")
				cfg.SpreadAfter = spread
				k.run(t, cfg)
				k.publish(t, func(item *protocol.ManifestItem, _ *protocol.Work) { item.Expect = expect })
				if r := k.final(t); r.State != protocol.ItemFailed || r.Failure.Code != "source_"+name+"_mismatch" {
					t.Errorf("the receipt says %+v", r)
				}
				if _, exists := dest.Bytes(); exists {
					t.Error("it is visible")
				}
				k.clean(t)
			}
		})
	}
}

// saying is a source that says what the SHA-256 of its content is.
type saying struct {
	*memory.Source

	sha256 string
}

func (s saying) Open(ctx context.Context) (*storage.Object, error) {
	object, err := s.Source.Open(ctx)
	if err == nil {
		object.Digests = map[string]string{storage.DigestSHA256: s.sha256}
	}
	return object, err
}

func TestSourceIsHeldToWhatItSays(t *testing.T) {
	t.Parallel()
	data := bytesOf(manyParts, 1)
	for name, spread := range map[string]time.Duration{"in order": time.Hour, "spread": time.Nanosecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, says := range []string{digestOf(data), digestOf([]byte("another"))} {
				dest := &memory.Destination{}
				k := newPartsKit(t, saying{sourceOf(data), says}, opaque{dest})
				cfg := k.config("w1")
				cfg.SpreadAfter = spread
				k.run(t, cfg)
				k.publish(t, nil)
				r := k.final(t)
				if says == digestOf(data) {
					k.arrived(t, dest, &r, data)
					continue
				}
				if r.State != protocol.ItemFailed || r.Failure.Class != protocol.Corrupt || r.Failure.Code != codeSourceMismatch || len(r.Attempts) != 3 {
					t.Errorf("the receipt says %+v", r)
				}
				if _, exists := dest.Bytes(); exists {
					t.Error("it is visible")
				}
			}
		})
	}
}

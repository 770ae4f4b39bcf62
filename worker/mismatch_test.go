package worker

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
)

// flipping is a source that says what its SHA-256 is, and of which a bit is turned over on the way, the first time that it is read there.
type flipping struct {
	saying

	at    int64
	fault *atomic.Bool
}

func (s flipping) Open(ctx context.Context) (*storage.Object, error) {
	object, err := s.saying.Open(ctx)
	return s.through(object, 0), err
}

func (s flipping) OpenRange(ctx context.Context, mark storage.Mark, offset, length int64) (*storage.Object, error) {
	object, err := s.saying.OpenRange(ctx, mark, offset, length)
	return s.through(object, offset), err
}

func (s flipping) through(object *storage.Object, offset int64) *storage.Object {
	if object != nil {
		object.Body = &flippingBody{object.Body, s.at - offset, s.fault}
	}
	return object
}

type flippingBody struct {
	io.ReadCloser

	left  int64
	fault *atomic.Bool
}

func (b *flippingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if at := b.left; at >= 0 && at < int64(n) && b.fault.Swap(false) {
		p[at] ^= 1
	}
	b.left -= int64(n)
	return n, err
}

// TestContentChangedOnTheWayIsCopiedAnew: all of it, as nobody knows where it was changed.
func TestContentChangedOnTheWayIsCopiedAnew(t *testing.T) {
	t.Parallel()
	data := bytesOf(manyParts, 1)
	for name, spread := range map[string]time.Duration{"in order": time.Hour, "spread": time.Nanosecond, "as a whole": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var fault atomic.Bool
			fault.Store(true)
			dest := &memory.Destination{}
			k := newPartsKit(t, flipping{saying{sourceOf(data), digestOf(data)}, 3*testPart + 5, &fault}, dest)
			cfg := k.config("w1")
			if cfg.SpreadAfter = spread; spread == 0 {
				cfg.PartThreshold = 1 << 30
			}
			k.run(t, cfg)
			k.publish(t, nil)
			r := k.final(t)
			if r.State != protocol.ItemSucceeded || r.SHA256 != digestOf(data) || len(r.Attempts) != 2 || r.RestartReason != protocol.RestartMismatch || r.ResumedFrom != 0 {
				t.Fatalf("the receipt says %+v", r)
			}
			if f := r.Attempts[0].Failure; f.Class != protocol.Corrupt || f.Code != codeSourceMismatch {
				t.Errorf("the first attempt ended with %+v", f)
			}
			if left := dest.Uploads(); len(left) != 0 {
				t.Errorf("uploads are left: %v", left)
			}
		})
	}
}

// TestStoreThatReceivedOtherBytesIsSentThemAgain: only those of the part of which it says so.
func TestStoreThatReceivedOtherBytesIsSentThemAgain(t *testing.T) {
	t.Parallel()
	data := bytesOf(manyParts, 1)
	wrong := storage.Errorf(storage.Corrupt, codeStoreMismatch, "write", "x", "the store received other bytes than were sent")
	for name, c := range map[string]struct {
		attempts int
		spread   time.Duration
	}{"in order": {2, time.Hour}, "spread": {1, time.Nanosecond}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dest := &memory.Destination{FailParts: map[int]error{4: wrong}, FailPartTimes: 1}
			k := newPartsKit(t, sourceOf(data), dest)
			cfg := k.config("w1")
			cfg.SpreadAfter = c.spread
			k.run(t, cfg)
			k.publish(t, nil)
			r := k.final(t)
			k.arrived(t, dest, &r, data)
			if len(r.Attempts) != c.attempts || r.RestartReason != "" {
				t.Errorf("the receipt says %+v", r)
			}
		})
	}
}

// TestCallersDigestIsHeldToWhatWasRead: of a source that says how long it is, once. Of one that does not, what came may have been cut.
func TestCallersDigestIsHeldToWhatWasRead(t *testing.T) {
	t.Parallel()
	for name, sized := range map[string]bool{"of known length": true, "of unknown length": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			url := b.serve(func(w http.ResponseWriter, _ *http.Request) {
				if sized {
					w.Header().Set("Content-Length", "3")
				}
				_, _ = io.WriteString(w, "cut")
				w.(http.Flusher).Flush()
			})
			for _, expect := range []protocol.Expect{{SHA256: digestOf([]byte("cut short"))}, {Size: new(int64(9))}} {
				_, err := b.copier.copy(t.Context(), transfer{org: "ORG", src: httpGet(url), dest: inSandbox("/f"), temp: "t1", fence: allowed, expect: expect})
				failure, _ := explain(err)
				want := giveUp
				if !sized {
					want = retry
				}
				if got := decideFailure(failure, isUnsure(err), 1, 4); failure.Class != protocol.Corrupt || got != want {
					t.Errorf("verdict %d after %v", got, err)
				}
			}
		})
	}
}

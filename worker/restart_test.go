package worker

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
)

// refusing is a source that is throttled the first time that it is asked for.
type refusing struct {
	*memory.Source

	asked *atomic.Int64
}

func (s refusing) Open(ctx context.Context) (*storage.Object, error) {
	if s.asked.Add(1) == 1 {
		return nil, storage.Errorf(storage.Throttled, "source_http_429", "open", "x", "the server answered 429 Too Many Requests")
	}
	return s.Source.Open(ctx)
}

// TestRestartReasonIsThatOfWhatWasLost: of an attempt that had read nothing, nothing was lost.
func TestRestartReasonIsThatOfWhatWasLost(t *testing.T) {
	t.Parallel()
	data := bytesOf(1000, 1)
	broken := memory.NewSource(data) // says nothing of its state
	broken.Fail, broken.FailAfter, broken.FailTimes = storage.Errorf(storage.Interrupted, "cut", "read", "x", "it broke off"), 500, 1
	for name, c := range map[string]struct {
		source storage.Source
		want   string
	}{
		"refused": {refusing{memory.NewSource(data), new(atomic.Int64)}, ""},
		"cut":     {broken, protocol.RestartNoRanges},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newPartsKit(t, c.source, &memory.Destination{})
			k.run(t, k.config("w1"))
			k.publish(t, nil)
			r := k.final(t)
			if r.State != protocol.ItemSucceeded || len(r.Attempts) != 2 || r.RestartReason != c.want {
				t.Errorf("restarted for %q, want %q: %+v", r.RestartReason, c.want, r)
			}
		})
	}
}

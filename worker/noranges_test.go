package worker

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
)

// promising is a source that says it can be read in parts, and cannot.
type promising struct {
	*memory.Source

	refusal error
}

func (s promising) OpenRange(context.Context, storage.Mark, int64, int64) (*storage.Object, error) {
	return nil, s.refusal
}

// TestSourceWithoutThePromisedRangesIsReadAsAWhole breaks the source off once. That it gives no part, or a wrong one, is no reason to give
// up what can be read from its first byte; nor is it if other workers were to help.
func TestSourceWithoutThePromisedRangesIsReadAsAWhole(t *testing.T) {
	t.Parallel()
	data := bytesOf(manyParts, 1)
	for name, refusal := range map[string]error{
		"whole":      storage.Errorf(storage.Invalid, storage.CodeNoRanges, "open", "x", "it sent everything"),
		"wrong part": storage.Errorf(storage.Corrupt, storage.CodeRangeWrong, "open", "x", "it sent another part"),
	} {
		for way, spread := range map[string]time.Duration{"in order": time.Hour, "spread": time.Nanosecond} {
			t.Run(name+", "+way, func(t *testing.T) {
				t.Parallel()
				source, dest := sourceOf(data), &memory.Destination{}
				if spread == time.Hour {
					source.Fail, source.FailAfter, source.FailTimes = storage.Errorf(storage.Interrupted, "cut", "read", "x", "it broke off"), 3*testPart+9, 1
				}
				k := newPartsKit(t, promising{source, refusal}, dest)
				cfg := k.config("w1")
				cfg.SpreadAfter = spread
				k.run(t, cfg)
				k.publish(t, nil)
				r := k.final(t)
				if got, _ := dest.Bytes(); r.State != protocol.ItemSucceeded || !bytes.Equal(got, data) || r.SHA256 != digestOf(data) {
					t.Fatalf("%d bytes arrived: %+v, %+v", len(got), r, r.Failure)
				}
				if r.RestartReason != protocol.RestartNoRanges {
					t.Errorf("the receipt says %+v", r)
				}
				k.clean(t)
				if left := dest.Uploads(); len(left) != 0 {
					t.Errorf("uploads are left: %v", left)
				}
			})
		}
	}
}

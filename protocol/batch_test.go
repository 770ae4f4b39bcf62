package protocol_test

import (
	"fmt"
	"testing"

	"github.com/copyfleet/copyfleet/protocol"
)

// TestThresholdIsExceededByMoreThanTheShare counts in whole numbers what a share says in floating point.
func TestThresholdIsExceededByMoreThanTheShare(t *testing.T) {
	t.Parallel()
	for _, total := range []int{1, 2, 7, 100, 256, 257, 999, 1000, 1_000_000} {
		for percent := 1; percent <= 100; percent++ {
			threshold := protocol.Threshold{Given: true, Share: float64(percent) / 100}
			allowed := total * percent / 100
			if threshold.Exceeded(allowed, total) || !threshold.Exceeded(allowed+1, total) {
				t.Errorf("%d%% of %d: %d are too many is %t, one more %t", percent, total, allowed, threshold.Exceeded(allowed, total), threshold.Exceeded(allowed+1, total))
			}
		}
	}
}

func TestThresholdByCount(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		threshold protocol.Threshold
		failed    int
		exceeded  bool
	}{
		{protocol.Threshold{}, 5, false},
		{protocol.Threshold{Given: true}, 0, false},
		{protocol.Threshold{Given: true}, 1, true},
		{protocol.Threshold{Given: true, Count: 3}, 3, false},
		{protocol.Threshold{Given: true, Count: 3}, 4, true},
	} {
		if got := c.threshold.Exceeded(c.failed, 10); got != c.exceeded {
			t.Error(fmt.Sprintf("%+v", c.threshold), c.failed, got)
		}
	}
}

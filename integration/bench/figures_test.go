package bench

import (
	"math"
	"slices"
	"testing"
	"time"
)

// samples are durations of one contender.
type samples []time.Duration

// quantile returns the value below which a share q of the samples lies, by the nearest-rank rule: it is one of the samples.
func (s samples) quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	rank := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[max(rank, 0)]
}

func (s samples) median() time.Duration { return s.quantile(0.5) }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// onlyOurs keeps the time of an iteration out of the figures: it holds all contenders and the checks.
func onlyOurs(b *testing.B) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
}

func TestQuantileIsNearestRank(t *testing.T) {
	t.Parallel()
	var hundred samples
	for i := range 100 {
		hundred = append(hundred, time.Duration(100-i))
	}
	for _, c := range []struct {
		of   samples
		q    float64
		want time.Duration
	}{
		{hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred, 1, 100}, {hundred, 0, 1},
		{samples{7}, 0.99, 7}, {samples{3, 1, 2}, 0.5, 2}, {nil, 0.5, 0},
	} {
		if got := c.of.quantile(c.q); got != c.want {
			t.Errorf("quantile %v of %d samples is %d, want %d", c.q, len(c.of), got, c.want)
		}
	}
}

package report

import (
	"math"
	"time"

	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/workload"
)

// point is what one point of a time series stands for: some seconds of a run.
type point struct {
	from, to       int // seconds since the start of the run
	ops, mib       spread
	errors         int
	inside, beside bool // the interval has some of it; it has not all of it
}

// spread is how a rate differs between seconds.
type spread struct{ low, mean, high float64 }

func (s *spread) add(v float64, n int) {
	if n == 0 || v < s.low {
		s.low = v
	}
	s.high = max(s.high, v)
	s.mean += (v - s.mean) / float64(n+1)
}

// points are the seconds of a run, in at most so many points of as many seconds each. Those after its last one are empty if the interval goes on.
func points(t *record.Totals, most int) []point {
	seconds := max(len(t.Seconds), int(min(t.To, longestSeries)/time.Second))
	if seconds == 0 || most < 1 {
		return nil
	}
	each := (seconds + most - 1) / most
	list := make([]point, 0, seconds/each+1)
	for from := 0; from < seconds; from += each {
		p := point{from: from, to: min(from+each, seconds)}
		for at := from; at < p.to; at++ {
			var s record.Second
			if at < len(t.Seconds) {
				s = t.Seconds[at]
			}
			p.ops.add(s.Ops, at-from)
			p.mib.add(s.Bytes/mib, at-from)
			p.errors += s.Errors
		}
		begin, end := time.Duration(p.from)*time.Second, time.Duration(p.to)*time.Second
		p.inside = end > t.From && begin < t.To
		p.beside = begin < t.From || end > t.To
		list = append(list, p)
	}
	return list
}

// curve is the latencies of one kind of operations.
type curve struct {
	kind    workload.Kind
	latency record.Histogram
}

// curves are the latencies by kind, of those that went well at least once.
func curves(t *record.Totals) []curve {
	var list []curve
	for _, kind := range workload.Kinds() {
		c := curve{kind: kind}
		for _, g := range t.Groups {
			if g.Kind == kind {
				c.latency.Merge(&g.Latency)
			}
		}
		if c.latency.Count() > 0 {
			list = append(list, c)
		}
	}
	return list
}

// nines is where a share lies on the axis of percentiles: 0.9 at 1, 0.99 at 2, 0.999 at 3.
func nines(share float64) float64 { return -math.Log10(1 - share) }

// share is the other way round.
func share(nines float64) float64 { return 1 - math.Pow(10, -nines) }

// mostNines is how far the axis of percentiles goes: as far as one operation of all tells it apart from the slowest.
func mostNines(list []curve) float64 {
	most := 1.0
	for i := range list {
		most = max(most, math.Log10(float64(list[i].latency.Count())))
	}
	return min(most, maxNines)
}

const maxNines = 6

// latencyRange are the shortest and the longest latency in ms, apart enough to be drawn on a log scale.
func latencyRange(list []curve) (low, high float64) {
	low, high = math.Inf(1), 0
	for i := range list {
		low, high = min(low, millis(list[i].latency.Quantile(0))), max(high, millis(list[i].latency.Quantile(1)))
	}
	const least = 1e-3 // a microsecond
	low = max(low, least)
	return low, max(high, 2*low)
}

package loadtest

import (
	"math"
	"slices"
	"time"

	"github.com/copyfleet/copyfleet/loadtest/record"
)

// AutoTerm ends a run once its throughput has settled: when that of each of the last windows is as far as the tolerance from the mean of them at most. The
// zero value never does.
type AutoTerm struct {
	Window    time.Duration // of whole seconds
	Windows   int
	Tolerance float64 // a share: 0.05
}

// agree tells whether the windows up to now do. Operations and bytes both have to.
func (a *AutoTerm) agree(recorder *record.Recorder, warmUp, now time.Duration) bool {
	length, whole := int(a.Window/time.Second), int(now/time.Second)
	from := whole - length*a.Windows
	if length < 1 || a.Windows < 2 || time.Duration(from)*time.Second < warmUp {
		return false
	}
	seconds := recorder.Seconds(from, whole)
	if len(seconds) < length*a.Windows {
		return false
	}
	ops, bytes := make([]float64, a.Windows), make([]float64, a.Windows)
	for i, s := range seconds {
		ops[i/length] += s.Ops
		bytes[i/length] += s.Bytes
	}
	done := slices.Max(ops) > 0 // else nothing went well, and that is not what was waited for
	return done && alike(ops, a.Tolerance) && alike(bytes, a.Tolerance)
}

func alike(values []float64, tolerance float64) bool {
	mean := 0.0
	for _, v := range values {
		mean += v / float64(len(values))
	}
	for _, v := range values {
		if math.Abs(v-mean) > tolerance*mean {
			return false
		}
	}
	return true
}

package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	longest  = time.Hour // what takes longer is counted as this
	decimals = 3         // of a value are kept
)

// Histogram counts durations by value, exactly to three digits, from 1 ns to 1 h. The zero value is empty. In JSON it is the compressed
// form of HdrHistogram, which other programs read.
type Histogram struct {
	packed *hdrhistogram.PackedHistogram // nil: empty
	most   time.Duration                 // exactly
}

// Add counts a duration.
func (h *Histogram) Add(d time.Duration) {
	if h.packed == nil {
		h.packed = hdrhistogram.NewPacked(1, int64(longest), decimals)
	}
	_ = h.packed.RecordValue(int64(min(max(d, 0), longest))) // fails beyond the range only
	h.most = max(h.most, d)
}

// Merge adds what another one has counted.
func (h *Histogram) Merge(other *Histogram) {
	if other.packed == nil {
		return
	}
	if h.packed == nil {
		h.packed = other.packed.Clone()
	} else {
		h.packed.Merge(other.packed) // both have one range, so that nothing is dropped
	}
	h.most = max(h.most, other.most)
}

// Count is how many durations there are.
func (h *Histogram) Count() int64 {
	if h.packed == nil {
		return 0
	}
	return h.packed.TotalCount()
}

// Quantile is the duration that a share of all, from 0 to 1, does not exceed, by the nearest rank; 0 if there are none. Quantile(1) is the longest, exactly.
func (h *Histogram) Quantile(share float64) time.Duration {
	if h.packed == nil {
		return 0
	}
	if share >= 1 {
		return h.most
	}
	// HdrHistogram rounds the rank to the nearest whole one, which a share of few durations may not reach: the 90th percentile of six would be their fifth. A
	// share that is a rank by itself may lie just above it in floating point.
	n := float64(h.packed.TotalCount())
	rank := max(1, math.Ceil(share*n-1e-9*n))
	return min(time.Duration(h.packed.ValueAtPercentile(100*rank/n)), h.most)
}

// Mean is the mean of the durations; 0 if there are none.
func (h *Histogram) Mean() time.Duration {
	if h.packed == nil {
		return 0
	}
	return time.Duration(h.packed.Mean())
}

// Each visits the values from the smallest to the largest, with the number of each.
func (h *Histogram) Each(visit func(value time.Duration, count int64)) {
	if h.packed == nil {
		return
	}
	h.packed.ForEachBucket(func(value, count int64) bool {
		visit(time.Duration(value), count)
		return true
	})
}

// wire is a histogram in JSON.
type wire struct {
	HDR string        `json:"hdr"`
	Max time.Duration `json:"max_ns"`
}

// MarshalJSON implements json.Marshaler.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	if h.packed == nil {
		return []byte(`{}`), nil
	}
	text, err := h.packed.Encode()
	if err != nil {
		return nil, fmt.Errorf("encode a histogram: %w", err)
	}
	return json.Marshal(wire{string(text), h.most})
}

// UnmarshalJSON implements json.Unmarshaler.
func (h *Histogram) UnmarshalJSON(text []byte) error {
	var w wire
	*h = Histogram{}
	if err := json.Unmarshal(text, &w); err != nil || w.HDR == "" {
		return err
	}
	packed, err := hdrhistogram.DecodePacked([]byte(w.HDR))
	if err != nil {
		return fmt.Errorf("read a histogram: %w", err)
	}
	if packed.LowestTrackableValue() != 1 || packed.HighestTrackableValue() != int64(longest) || packed.SignificantFigures() != decimals {
		return errors.New("read a histogram: it is of another range or precision")
	}
	h.packed, h.most = packed, w.Max
	return nil
}

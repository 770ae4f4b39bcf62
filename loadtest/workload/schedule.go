package workload

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Schedule is when the items of a batch were begun, and how large they were: what a replay does again. It takes 16 bytes an item.
type Schedule struct {
	chunks [][]scheduled // all but the last one are full
	n      int
	bytes  int64
	large  int64

	Left      Left // items that are not replayed
	Truncated bool // the report ends in the middle of a line, or of its compressed form; what is left of that line is none of the items
}

// scheduled is one item.
type scheduled struct {
	at   int64 // nanoseconds since 1970 while it is read, then since the first item
	size int64
}

// Left counts the items of a report that are not replayed.
type Left struct {
	Failed    int `json:"failed,omitempty"`     // they failed, were canceled, or had not ended: no object came of them
	Skipped   int `json:"skipped,omitempty"`    // nothing was copied, since the destination was there already
	TooLarge  int `json:"too_large,omitempty"`  // above [MostBytes]
	WithoutAt int `json:"without_at,omitempty"` // the report does not tell when they were begun
}

// Total is how many they are.
func (l Left) Total() int { return l.Failed + l.Skipped + l.TooLarge + l.WithoutAt }

// String tells why they are left out; "" if there are none.
func (l Left) String() string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{
		{l.Failed, "that were not copied"}, {l.Skipped, "that were skipped"}, {l.TooLarge, "of more than 5 GiB"},
		{l.WithoutAt, "of which it is not told when they were begun"},
	} {
		if p.n > 0 {
			parts = append(parts, strconv.Itoa(p.n)+" "+p.what)
		}
	}
	return strings.Join(parts, ", ")
}

const (
	chunkItems   = 1 << 15
	mostSchedule = 10_000_000 // items of a report, with those that are left out
	longestSpan  = 366 * 24 * time.Hour
)

// Len is the number of items.
func (s *Schedule) Len() int { return s.n }

// Bytes is the size of all items together.
func (s *Schedule) Bytes() int64 { return s.bytes }

// Largest is the size of the largest item.
func (s *Schedule) Largest() int64 { return s.large }

// Span is the time from the begin of the first item to that of the last one.
func (s *Schedule) Span() time.Duration {
	if s.n == 0 {
		return 0
	}
	return time.Duration(s.item(s.n - 1).at)
}

func (s *Schedule) item(i int) *scheduled { return &s.chunks[i/chunkItems][i%chunkItems] }

func (s *Schedule) add(at time.Time, size int64) {
	if s.n%chunkItems == 0 {
		s.chunks = append(s.chunks, make([]scheduled, 0, chunkItems))
	}
	last := &s.chunks[len(s.chunks)-1]
	*last = append(*last, scheduled{at.UnixNano(), size})
	s.n++
	s.bytes += min(size, math.MaxInt64-s.bytes)
	s.large = max(s.large, size)
}

// settle puts the items in order of their begin: reports are in order of the manifest.
func (s *Schedule) settle() {
	sort.Sort((*byBegin)(s))
	if s.n == 0 {
		return
	}
	first := s.item(0).at
	for i := range s.n {
		s.item(i).at -= first
	}
}

// byBegin implements sort.Interface: the items are no slice that the package slices could sort.
type byBegin Schedule

// Len implements sort.Interface.
func (b *byBegin) Len() int { return b.n }

// Less implements sort.Interface. Items that were begun together are in order of their sizes, so that there is one order only.
func (b *byBegin) Less(i, j int) bool {
	x, y := (*Schedule)(b).item(i), (*Schedule)(b).item(j)
	return cmp.Or(cmp.Compare(x.at, y.at), cmp.Compare(x.size, y.size)) < 0
}

// Swap implements sort.Interface.
func (b *byBegin) Swap(i, j int) {
	x, y := (*Schedule)(b).item(i), (*Schedule)(b).item(j)
	*x, *y = *y, *x
}

// sizes are those of objects that stand for the items of a generator, in order: all distinct ones if they are not more than most, else those of items in even
// distances, the smallest and the largest.
func (s *Schedule) sizes(generator, generators, most int) []int64 {
	most = max(most, 1)
	distinct := map[int64]bool{}
	for i := generator; i < s.n && len(distinct) <= most; i += generators {
		distinct[s.item(i).size] = true
	}
	var list []int64
	if len(distinct) <= most {
		for size := range distinct {
			list = append(list, size)
		}
		slices.Sort(list)
		return list
	}
	mine := (s.n - generator + generators - 1) / generators
	if most == 1 {
		return []int64{s.item(generator + mine/2*generators).size}
	}
	smallest, largest := int64(math.MaxInt64), int64(0)
	for i := generator; i < s.n; i += generators {
		smallest, largest = min(smallest, s.item(i).size), max(largest, s.item(i).size)
	}
	for k := range most - 1 {
		list = append(list, s.item(generator+k*mine/most*generators).size)
	}
	list[0] = smallest
	list = append(list, largest)
	slices.Sort(list)
	return slices.Compact(list)
}

// Bounds of the speed of a replay.
const (
	leastSpeed = 1e-3
	mostSpeed  = 1e6
)

// ParseSpeed reads how fast a schedule is replayed: "1" or "1x" at the speed that it had, "4" four times as fast, "flat" as fast as it goes, which is 0.
func ParseSpeed(text string) (float64, error) {
	if text == "flat" {
		return 0, nil
	}
	speed, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(text), "x"), "x"), 64)
	if err != nil || !(speed >= leastSpeed && speed <= mostSpeed) {
		return 0, fmt.Errorf("%q: a speed is a factor such as 1 or 2.5, from %v to %.0f, or flat", text, leastSpeed, mostSpeed)
	}
	return speed, nil
}

var errNoSchedule = errors.New("no item of it was copied: there is nothing to replay")

// replay is a load's part of a schedule.
type replay struct {
	*Schedule

	speed                 float64 // 0: a closed loop
	generator, generators int
	shelf                 []shelved // objects that stand for its items, in order of their sizes; none where items are written
}

type shelved struct {
	size int64
	slot *slot // nil: it was not written yet
}

func newReplay(cfg *Config) *replay {
	if cfg.Schedule == nil {
		return nil
	}
	r := &replay{Schedule: cfg.Schedule, speed: cfg.Speed, generator: cfg.Generator, generators: max(cfg.Generators, 1)}
	if cfg.Mix.Share(Get)+cfg.Mix.Share(Copy) == 0 {
		return r
	}
	for _, size := range r.sizes(r.generator, r.generators, cfg.Objects) {
		r.shelf = append(r.shelf, shelved{size: size})
	}
	return r
}

// of is the item of operation n of the generator; ok is false if there is none.
func (r *replay) of(n uint64) (due time.Duration, size int64, ok bool) {
	if n >= uint64(r.n) { //nolint:gosec // not negative
		return 0, 0, false
	}
	at := r.generator + int(n)*r.generators //nolint:gosec // n is below ten million
	if at >= r.n {
		return 0, 0, false
	}
	item := r.item(at)
	if r.speed > 0 {
		due = seconds(float64(item.at) / r.speed / float64(time.Second))
	}
	return due, item.size, true
}

// nearest is the object whose size is nearest; nil: there is none.
func (r *replay) nearest(size int64) *slot {
	at, found := slices.BinarySearchFunc(r.shelf, size, func(s shelved, size int64) int { return cmp.Compare(s.size, size) })
	switch {
	case len(r.shelf) == 0:
		return nil
	case !found && (at == len(r.shelf) || at > 0 && size-r.shelf[at-1].size <= r.shelf[at].size-size):
		at--
	}
	return r.shelf[at].slot
}

package workload

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func mustSizes(t interface{ Fatal(args ...any) }, text string) Sizes {
	s, err := ParseSizes(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustMix(t interface{ Fatal(args ...any) }, text string) Mix {
	m, err := ParseMix(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// row takes operations one after another until there are none, or n.
func row(l *Load, n int) []Op {
	var ops []Op
	for range n {
		op, ok := l.Next()
		if !ok {
			break
		}
		l.End(&op, true)
		op.slot = nil
		ops = append(ops, op)
	}
	return ops
}

func TestLoadFollowsFromItsSeed(t *testing.T) {
	t.Parallel()
	load := func(seed uint64, generator int) []Op {
		arrivals, err := ParseArrivals("poisson", 100, seed, generator)
		if err != nil {
			t.Fatal(err)
		}
		l := NewLoad(Config{
			Seed: seed, Generator: generator, Mix: mustMix(t, "put=2,get=3,stat=1,list=1,delete=1"), Sizes: mustSizes(t, "uniform:1-100000"), Objects: 50, Arrivals: arrivals,
		})
		for op, ok := l.Prepare(); ok; op, ok = l.Prepare() {
			l.End(&op, true)
		}
		return row(l, 1000)
	}
	if a, b := load(1, 0), load(1, 0); !slices.Equal(a, b) {
		t.Error("the same seed makes another load")
	}
	if slices.Equal(load(1, 0), load(2, 0)) || slices.Equal(load(1, 0), load(1, 1)) {
		t.Error("another seed or generator makes the same load")
	}
}

func TestLoadEnds(t *testing.T) {
	t.Parallel()
	if n := len(row(NewLoad(Config{Mix: Only(Put), Sizes: mustSizes(t, "1KiB"), Count: 7}), 100)); n != 7 {
		t.Errorf("%d operations, not 7", n)
	}
	l := NewLoad(Config{Mix: Only(Put), Sizes: mustSizes(t, "1000"), MaxBytes: 4999})
	if n := len(row(l, 100)); n != 4 {
		t.Errorf("%d operations of 1000 bytes in 4999", n)
	}
	if _, ok := l.Next(); ok {
		t.Error("a load goes on after its end")
	}
}

func TestWithoutObjectsThingsArePut(t *testing.T) {
	t.Parallel()
	l := NewLoad(Config{Mix: Only(Get), Sizes: mustSizes(t, "1KiB"), Objects: 3})
	var taken []Op
	for range 5 { // nothing is there, and nothing comes back meanwhile
		op, ok := l.Next()
		if !ok || op.Kind != Put {
			t.Fatalf("%+v", op)
		}
		taken = append(taken, op)
	}
	for i := range taken {
		l.End(&taken[i], i != 1)
	}
	if l.Objects() != 2 {
		t.Errorf("%d objects, not the 2 that were written of 3 that there is room for", l.Objects())
	}
	if op, _ := l.Next(); op.Kind != Get {
		t.Errorf("%+v", op)
	}
}

func TestArrivals(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"even", "poisson"} {
		a, err := ParseArrivals(form, 500, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		const n = 50_000
		var gaps []float64
		last := time.Duration(0)
		for range n {
			at := a.next()
			gaps = append(gaps, (at - last).Seconds())
			last = at
		}
		if rate := n / last.Seconds(); math.Abs(rate-500) > 10 {
			t.Errorf("%s: %.1f a second, not 500", form, rate)
		}
		slices.Sort(gaps)
		if median := gaps[n/2] * 500; form == "poisson" && math.Abs(median-math.Ln2) > 0.03 || form == "even" && math.Abs(median-1) > 1e-6 {
			t.Errorf("%s: half of the gaps are shorter than %.3f of the mean one", form, median)
		}
	}
	for _, rate := range []float64{0, -1, math.NaN(), math.Inf(1), 1e8} {
		if _, err := ParseArrivals("even", rate, 1, 0); err == nil {
			t.Errorf("%v a second", rate)
		}
	}
	if _, err := ParseArrivals("often", 1, 1, 0); err == nil {
		t.Error("often")
	}
}

// However operations overlap: nobody reads what is not there or is being written or deleted, and the objects are never more than there is room for.
func TestPopulationIsNeverInTwoHands(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const room = 6
		l := NewLoad(Config{Mix: mustMix(t, "put=3,get=3,stat=1,list=1,delete=2"), Sizes: mustSizes(t, "uniform:1-9"), Objects: room, Seed: rapid.Uint64().Draw(t, "seed")})
		stored := map[uint64]Object{} // by number: what certainly is there
		var running []Op
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			if len(running) > 0 && rapid.Bool().Draw(t, "end") {
				at := rapid.IntRange(0, len(running)-1).Draw(t, "which")
				op := running[at]
				running = slices.Delete(running, at, at+1)
				ok := rapid.IntRange(0, 9).Draw(t, "ok") > 0
				if op.Kind == Put && ok {
					stored[op.Object.Number] = op.Object
				}
				l.End(&op, ok)
				continue
			}
			op, _ := l.Next()
			for _, other := range running {
				if writes := op.Kind == Put || op.Kind == Delete || other.Kind == Put || other.Kind == Delete; writes && op.slot != nil && op.slot == other.slot {
					t.Fatalf("%+v while %+v", op, other)
				}
			}
			switch op.Kind {
			case Get, Stat:
				if stored[op.Object.Number] != op.Object {
					t.Fatalf("%+v is read, and %+v is there", op.Object, stored[op.Object.Number])
				}
			case Put, Delete:
				delete(stored, op.Object.Number)
			default:
			}
			running = append(running, op)
		}
		if l.Objects() > room {
			t.Fatalf("%d objects where there is room for %d", l.Objects(), room)
		}
	})
}

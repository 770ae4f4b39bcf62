package workload

import (
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

func files(content map[string]string) func(string) (io.ReadCloser, error) {
	return func(name string) (io.ReadCloser, error) {
		text, ok := content[name]
		if !ok {
			return nil, errors.New("no such file")
		}
		return io.NopCloser(strings.NewReader(text)), nil
	}
}

func draw(t *testing.T, text string, n int) []int64 {
	t.Helper()
	s, err := ParseSizes(text, files(map[string]string{"sizes": "# what we see\n4KiB 70\n\n1MiB\t20 # large\n0 10\n"}))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if want := strings.Replace(text, "histogram:sizes", "4KiB:70,1MiB:20,0:10", 1); s.String() != want {
		t.Errorf("%s calls itself %s", text, &s)
	}
	r := source(1, 0, 0, useSize)
	drawn := make([]int64, n)
	for i := range drawn {
		drawn[i] = s.at(r)
		if drawn[i] > s.Largest() || drawn[i] < 0 {
			t.Fatalf("%s: %d bytes, beyond %d", text, drawn[i], s.Largest())
		}
	}
	slices.Sort(drawn)
	return drawn
}

func TestSizesHaveTheirDistribution(t *testing.T) {
	t.Parallel()
	const n = 20_000
	share := func(drawn []int64, below int64) float64 {
		at, _ := slices.BinarySearch(drawn, below)
		return float64(at) / n
	}
	for _, c := range []struct {
		text  string
		below int64
		want  float64
	}{
		{"4KiB", 4096, 0}, {"4KiB", 4097, 1}, {"0", 1, 1},
		{"uniform:100-199", 100, 0}, {"uniform:100-199", 150, 0.5}, {"uniform:100-199", 200, 1}, {"uniform:7-7", 8, 1},
		{"lognormal:64KiB,1", 64 << 10, 0.5}, {"lognormal:64KiB,1", 178145, 0.8413}, {"lognormal:1KiB,0", 1025, 1},
		{"4KiB:70,1MiB:30", 4097, 0.7}, {"4KiB:0,1MiB:3", 4097, 0},
		{"histogram:sizes", 1, 0.1}, {"histogram:sizes", 4097, 0.8},
	} {
		if got := share(draw(t, c.text, n), c.below); math.Abs(got-c.want) > 0.015 {
			t.Errorf("%s: a share of %.3f is below %d, not %.3f", c.text, got, c.below, c.want)
		}
	}
}

func TestSizesThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	bad := files(map[string]string{"empty": "# nothing\n", "no weight": "4KiB\n", "long": strings.Repeat("1 1\n", mostLines+2), "line": strings.Repeat("x", 70_000)})
	for _, text := range []string{
		"", "x", "-1", "6GiB", "uniform:", "uniform:1KiB", "uniform:2KiB-1KiB", "uniform:1-9GiB", "lognormal:1KiB", "lognormal:0,1", "lognormal:1KiB,-1",
		"lognormal:1KiB,NaN", "lognormal:1KiB,11", "4KiB:x", "4KiB:-1", "4KiB:0", "4KiB:NaN", "4KiB:70,", "histogram:none", "histogram:empty", "histogram:no weight",
		"histogram:long", "histogram:line", "4KiB:1e300",
	} {
		if s, err := ParseSizes(text, bad); err == nil {
			t.Errorf("%q is %+v", text, s)
		}
	}
}

func TestMixHasItsShares(t *testing.T) {
	t.Parallel()
	m, err := ParseMix("put=15, get=45,stat=30,delete=10,list=0")
	if err != nil {
		t.Fatal(err)
	}
	if got := m.String(); got != "put=15,get=45,stat=30,delete=10" {
		t.Errorf("it calls itself %s", got)
	}
	count := map[Kind]int{}
	r := source(3, 0, 0, useKind)
	for range 20_000 {
		count[m.at(r.Float64())]++
	}
	for _, k := range Kinds() {
		if got := float64(count[k]) / 20_000; math.Abs(got-m.Share(k)) > 0.01 {
			t.Errorf("%s has a share of %.3f, not %.3f", k, got, m.Share(k))
		}
	}
	for _, k := range Kinds() {
		only := Only(k)
		if only.at(0) != k || only.at(math.Nextafter(1, 0)) != k || only.Share(k) != 1 {
			t.Errorf("only %s is %s", k, &only)
		}
		if back, err := ParseKind(k.String()); err != nil || back != k {
			t.Errorf("%s is read as %s, %v", k, back, err)
		}
	}
	for _, text := range []string{"", "put", "put=", "put=x", "put=-1", "put=0,get=0", "put=1,put=2", "write=1", "multipart=1", "copy=1", "none=1", "put=1,delete=2", "get=Inf"} {
		if m, err := ParseMix(text); err == nil {
			t.Errorf("%q is %s", text, &m)
		}
	}
}

package workload

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/copyfleet/copyfleet/internal/bytesize"
)

// MostBytes is the largest object of a load test: what S3 takes in one request.
const MostBytes = 5 << 30

// mostLines bounds a histogram file: it becomes part of the options of a run, which each of its files begins with.
const mostLines = 2000

// Sizes are the sizes of a load's objects. The zero value is empty objects.
type Sizes struct {
	text   string
	shape  shape
	lo, hi int64   // of fixed and uniform sizes; bounds of all others
	median float64 // of log-normal sizes, in bytes
	sigma  float64 // of their logarithm

	weighted []weighted
}

type shape uint8

const (
	fixed shape = iota
	uniform
	logNormal
	histogram
)

// weighted is a size, and the weights of it and all before it.
type weighted struct {
	size int64
	upTo float64
}

// ParseSizes reads a distribution of sizes:
//
//	4KiB                       all the same
//	uniform:1KiB-1MiB          each size between two is as likely
//	lognormal:64KiB,1.5        the logarithm is normal: the median, and the standard deviation of the natural logarithm
//	4KiB:70,1MiB:30            sizes with weights
//	histogram:FILE             the same from a file, a size and a weight a line; # begins a comment
//
// open opens the file. Sizes are at most [MostBytes]; what a log-normal distribution has beyond is cut. [Sizes.String] gives what was in the file, so that
// it is not needed again.
func ParseSizes(text string, open func(name string) (io.ReadCloser, error)) (Sizes, error) {
	if name, is := strings.CutPrefix(text, "histogram:"); is {
		var err error
		if text, err = readHistogram(name, open); err != nil {
			return Sizes{}, err
		}
	}
	s, err := parseSizes(text)
	if err != nil {
		return Sizes{}, err
	}
	s.text = text
	return s, nil
}

func parseSizes(text string) (Sizes, error) {
	form, rest, found := strings.Cut(text, ":")
	switch {
	case !found:
		n, err := parseSize(text)
		return Sizes{lo: n, hi: n}, err
	case form == "uniform":
		return parseUniform(rest)
	case form == "lognormal":
		return parseLogNormal(rest)
	}
	return parseWeights(strings.Split(text, ","))
}

func parseSize(text string) (int64, error) {
	n, err := bytesize.Parse(strings.TrimSpace(text))
	if err != nil {
		return 0, err
	}
	if n > MostBytes {
		return 0, fmt.Errorf("%s: an object has %s at most", text, bytesize.Size(MostBytes))
	}
	return int64(n), nil
}

func parseUniform(text string) (Sizes, error) {
	from, to, found := strings.Cut(text, "-")
	if !found {
		return Sizes{}, fmt.Errorf("uniform:%s: it looks like uniform:1KiB-1MiB", text)
	}
	lo, err := parseSize(from)
	if err != nil {
		return Sizes{}, err
	}
	hi, err := parseSize(to)
	if err != nil {
		return Sizes{}, err
	}
	if hi < lo {
		return Sizes{}, fmt.Errorf("uniform:%s: the second size is smaller than the first", text)
	}
	return Sizes{shape: uniform, lo: lo, hi: hi}, nil
}

func parseLogNormal(text string) (Sizes, error) {
	middle, spread, found := strings.Cut(text, ",")
	if !found {
		return Sizes{}, fmt.Errorf("lognormal:%s: it looks like lognormal:64KiB,1.5", text)
	}
	median, err := parseSize(middle)
	if err != nil {
		return Sizes{}, err
	}
	sigma, err := strconv.ParseFloat(strings.TrimSpace(spread), 64)
	if err != nil || !(sigma >= 0 && sigma <= 10) || median == 0 {
		return Sizes{}, fmt.Errorf("lognormal:%s: the median is at least 1 byte, and the deviation between 0 and 10", text)
	}
	return Sizes{shape: logNormal, lo: 1, hi: MostBytes, median: float64(median), sigma: sigma}, nil
}

// readHistogram returns the lines of a file as sizes with weights.
func readHistogram(name string, open func(name string) (io.ReadCloser, error)) (string, error) {
	file, err := open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	var parts []string
	scan := bufio.NewScanner(file)
	for n := 1; scan.Scan(); n++ {
		line, _, _ := strings.Cut(scan.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 2 {
			return "", fmt.Errorf("%s: line %d: it has a size and a weight, as in 4KiB 70", name, n)
		}
		if parts = append(parts, fields[0]+":"+fields[1]); len(parts) > mostLines {
			return "", fmt.Errorf("%s: it has more than %d lines", name, mostLines)
		}
	}
	if err := scan.Err(); err != nil {
		return "", fmt.Errorf("%s: read it: %w", name, err)
	}
	text := strings.Join(parts, ",")
	if _, err := parseWeights(parts); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return text, nil
}

// parseWeights reads sizes with weights, in any order.
func parseWeights(parts []string) (Sizes, error) {
	s := Sizes{shape: histogram, lo: math.MaxInt64}
	total := 0.0
	for _, part := range parts {
		size, weight, found := strings.Cut(strings.TrimSpace(part), ":")
		n, err := parseSize(size)
		if err != nil {
			return Sizes{}, err
		}
		w, err := strconv.ParseFloat(strings.TrimSpace(weight), 64)
		if !found || err != nil || !(w >= 0) || w > 1e15 {
			return Sizes{}, fmt.Errorf("%q: a size has a weight that is not negative, as in 4KiB:70", part)
		}
		if w == 0 {
			continue
		}
		total += w
		s.weighted = append(s.weighted, weighted{size: n, upTo: total})
		s.lo, s.hi = min(s.lo, n), max(s.hi, n)
	}
	if total == 0 {
		return Sizes{}, errors.New("no size has a weight")
	}
	return s, nil
}

// at draws a size.
func (s *Sizes) at(r *rand.Rand) int64 {
	switch s.shape {
	case uniform:
		return s.lo + r.Int64N(s.hi-s.lo+1)
	case logNormal:
		n := s.median * math.Exp(s.sigma*r.NormFloat64())
		return int64(min(max(n, float64(s.lo)), float64(s.hi)))
	case histogram:
		place := r.Float64() * s.weighted[len(s.weighted)-1].upTo
		at, _ := slices.BinarySearchFunc(s.weighted, place, func(w weighted, place float64) int {
			if w.upTo > place {
				return 1
			}
			return -1
		})
		return s.weighted[min(at, len(s.weighted)-1)].size
	case fixed:
	}
	return s.lo
}

// Typical is about the mean size: that of many draws, the same ones each time.
func (s *Sizes) Typical() int64 {
	const draws = 4096
	r := source(0, 0, 0, useSize)
	sum := 0.0
	for range draws {
		sum += float64(s.at(r)) / draws
	}
	return int64(sum)
}

// Largest is the size that none is above.
func (s *Sizes) Largest() int64 { return s.hi }

// String is the distribution as it was given.
func (s *Sizes) String() string {
	if s.text == "" {
		return "0"
	}
	return s.text
}

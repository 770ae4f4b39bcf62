package workload

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Mix is the share of each kind in a load. The zero Mix is none.
type Mix struct {
	upTo [kinds]float64 // the shares of a kind and of all before it; the last is 1
}

// Only is the mix of one kind.
func Only(kind Kind) Mix {
	var m Mix
	for k := kind; int(k) < kinds; k++ {
		m.upTo[k] = 1
	}
	return m
}

// ParseMix reads shares such as "put=15,get=45,stat=30,delete=10". They are weights: they need not add up to 100. Kinds that can be mixed are put, get, stat,
// list and delete.
func ParseMix(text string) (Mix, error) {
	var share [kinds]float64
	total := 0.0
	for part := range strings.SplitSeq(text, ",") {
		name, number, found := strings.Cut(strings.TrimSpace(part), "=")
		kind, err := ParseKind(name)
		switch {
		case !found:
			return Mix{}, fmt.Errorf("%q: a share looks like get=45", part)
		case err != nil:
			return Mix{}, err
		case kind > Delete:
			return Mix{}, fmt.Errorf("%s cannot be mixed with others", kind)
		case share[kind] != 0:
			return Mix{}, fmt.Errorf("%s stands twice", kind)
		}
		weight, err := strconv.ParseFloat(number, 64)
		if err != nil || !(weight >= 0) || weight > 1e9 {
			return Mix{}, fmt.Errorf("%q: a share is a number that is not negative", part)
		}
		share[kind] = weight
		total += weight
	}
	if total == 0 {
		return Mix{}, errors.New("all shares are 0")
	}
	if share[Delete] > share[Put] {
		return Mix{}, errors.New("more is deleted than put: nothing would be left to read")
	}
	var m Mix
	sum := 0.0
	for k := range m.upTo {
		sum += share[k]
		m.upTo[k] = sum / total
	}
	return m, nil
}

// Share is the share of a kind, from 0 to 1.
func (m *Mix) Share(kind Kind) float64 {
	if kind == 0 || int(kind) >= kinds {
		return 0
	}
	return m.upTo[kind] - m.upTo[kind-1]
}

// at is the kind at a place from 0 to 1.
func (m *Mix) at(place float64) Kind {
	for k := range m.upTo {
		if place < m.upTo[k] {
			return Kind(k)
		}
	}
	return 0
}

// String gives the shares in percent.
func (m *Mix) String() string {
	var parts []string
	for _, k := range Kinds() {
		if s := m.Share(k); s > 0 {
			parts = append(parts, k.String()+"="+strconv.FormatFloat(math.Round(s*1e4)/1e2, 'f', -1, 64))
		}
	}
	return strings.Join(parts, ",")
}

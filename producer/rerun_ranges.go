package producer

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
)

// ranges are indexes of items: each a first and a last one, in order, apart from each other.
type ranges [][2]int

const (
	// plainRanges is the number of ranges up to which they are written for people to read.
	plainRanges = 64
	// maxRangesRead bounds what is unpacked, in bytes: a million items make half as many ranges of at most six bytes.
	maxRangesRead = 8 << 20
)

var errRanges = errors.New("malformed ranges")

// add appends an index that is above all others.
func (r *ranges) add(index int) {
	if n := len(*r); n > 0 && (*r)[n-1][1] == index-1 {
		(*r)[n-1][1] = index
		return
	}
	*r = append(*r, [2]int{index, index})
}

// has reports whether an index is among them.
func (r ranges) has(index int) bool {
	at := r.from(index)
	return at < len(r) && r[at][0] <= index
}

// from returns the place of the first range that ends at the index or behind it.
func (r ranges) from(index int) int {
	return sort.Search(len(r), func(i int) bool { return r[i][1] >= index })
}

// meets reports whether any index from first to last is among them.
func (r ranges) meets(first, last int) bool {
	at := r.from(first)
	return at < len(r) && r[at][0] <= last
}

// count is the number of indexes.
func (r ranges) count() int {
	n := 0
	for _, one := range r {
		n += one[1] - one[0] + 1
	}
	return n
}

// overlap reports whether two sets share an index.
func (r ranges) overlap(other ranges) bool {
	for _, one := range r {
		if other.meets(one[0], one[1]) {
			return true
		}
	}
	return false
}

// MarshalJSON writes a few ranges as pairs. Many are packed: the distances between their ends as varints, compressed (RFC 1951), in
// base64; half a million ranges fit a record so, if they are regular at all.
func (r ranges) MarshalJSON() ([]byte, error) {
	if len(r) <= plainRanges {
		return json.Marshal([][2]int(r))
	}
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestSpeed)
	if err != nil {
		return nil, fmt.Errorf("pack ranges: %w", err)
	}
	last := -1
	var distances []byte
	for _, one := range r {
		distances = binary.AppendUvarint(distances, uint64(one[0]-last-1)) //nolint:gosec // in order: never negative
		distances = binary.AppendUvarint(distances, uint64(one[1]-one[0])) //nolint:gosec // as above
		last = one[1]
	}
	if _, err := w.Write(distances); err != nil {
		return nil, fmt.Errorf("pack ranges: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack ranges: %w", err)
	}
	return json.Marshal(packed.Bytes())
}

// UnmarshalJSON reads either form.
func (r *ranges) UnmarshalJSON(text []byte) error {
	if len(text) == 0 || text[0] != '"' {
		var list [][2]int
		if err := json.Unmarshal(text, &list); err != nil {
			return fmt.Errorf("read ranges: %w", err)
		}
		*r = list
		return r.check()
	}
	var packed []byte
	if err := json.Unmarshal(text, &packed); err != nil {
		return fmt.Errorf("read ranges: %w", err)
	}
	distances, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), maxRangesRead))
	if err != nil {
		return fmt.Errorf("read ranges: %w", err)
	}
	*r = nil
	for last := -1; len(distances) > 0; {
		gap, n := binary.Uvarint(distances)
		if n <= 0 {
			return errRanges
		}
		length, m := binary.Uvarint(distances[n:])
		if m <= 0 || gap > limitMaxItems || length > limitMaxItems {
			return errRanges
		}
		first := last + 1 + int(gap)
		last = first + int(length)
		*r = append(*r, [2]int{first, last})
		distances = distances[n+m:]
	}
	return nil
}

func (r ranges) check() error {
	last := -1
	for _, one := range r {
		if one[0] <= last || one[1] < one[0] {
			return errRanges
		}
		last = one[1]
	}
	return nil
}

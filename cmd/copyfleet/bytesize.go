package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// byteSize is a flag that takes a number of bytes: 1048576, 1MiB, 1.5GiB, 20MB.
type byteSize int64

// units by their names in small letters; the i tells those of 1024 from those of 1000.
var units = map[string]float64{
	"": 1, "b": 1,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}

// UnmarshalText implements encoding.TextUnmarshaler, which reads the flag.
func (b *byteSize) UnmarshalText(text []byte) error {
	given := string(text)
	digits := strings.TrimRight(given, "BbIiKkMmGgTt ")
	unit, known := units[strings.ToLower(strings.TrimSpace(given[len(digits):]))]
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || !known || n < 0 || math.IsNaN(n) || n*unit > math.MaxInt64/2 {
		return fmt.Errorf("%q: must be a number of bytes such as 1048576, 16MiB or 1.5GB", given)
	}
	*b = byteSize(n * unit)
	return nil
}

// Package bytesize reads and writes numbers of bytes as people do.
package bytesize

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes that is read from text such as 1048576, 1MiB, 1.5GiB or 20MB.
type Size int64

// units by their names in small letters; the i tells those of 1024 from those of 1000.
var units = map[string]float64{
	"": 1, "b": 1,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}

// Parse reads a size; it is not negative.
func Parse(text string) (Size, error) {
	var s Size
	err := s.UnmarshalText([]byte(text))
	return s, err
}

// String gives the size in the largest unit of 1024 in which it is whole: 64KiB, 1500.
func (b Size) String() string {
	n, names := int64(b), [...]string{"", "KiB", "MiB", "GiB", "TiB"}
	unit := 0
	for n != 0 && n%1024 == 0 && unit < len(names)-1 {
		n, unit = n/1024, unit+1
	}
	return strconv.FormatInt(n, 10) + names[unit]
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *Size) UnmarshalText(text []byte) error {
	given := string(text)
	digits := strings.TrimRight(given, "BbIiKkMmGgTt ")
	unit, known := units[strings.ToLower(strings.TrimSpace(given[len(digits):]))]
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || !known || n < 0 || math.IsNaN(n) || n*unit > math.MaxInt64/2 {
		return fmt.Errorf("%q: must be a number of bytes such as 1048576, 16MiB or 1.5GB", given)
	}
	*b = Size(n * unit)
	return nil
}

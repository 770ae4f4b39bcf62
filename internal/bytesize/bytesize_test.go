package bytesize

import "testing"

func TestByteSize(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]Size{
		"0": 0, "1048576": 1 << 20, "1MiB": 1 << 20, "16 MiB": 16 << 20, "1.5GB": 15e8, "2gib": 2 << 30, "20kB": 20e3, "7B": 7, "1TiB": 1 << 40,
	} {
		var got Size
		if err := got.UnmarshalText([]byte(given)); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", given, got, err, want)
		}
	}
	for _, given := range []string{"", "MiB", "-1", "1XiB", "1MiBB", "NaN", "Inf", "1e30", "1 M"} {
		var got Size
		if err := got.UnmarshalText([]byte(given)); err == nil {
			t.Errorf("%q is %d", given, got)
		}
	}
}

func TestSizeSaysWhatItReads(t *testing.T) {
	t.Parallel()
	for want, size := range map[string]Size{"0": 0, "1500": 1500, "4KiB": 4096, "1536KiB": 3 << 19, "3TiB": 3 << 40, "4096TiB": 1 << 52} {
		if got := size.String(); got != want {
			t.Errorf("%d is %q, not %q", int64(size), got, want)
		}
		if back, err := Parse(want); err != nil || back != size {
			t.Errorf("%q is read as %d, %v", want, int64(back), err)
		}
	}
}

package main

import "testing"

func TestByteSize(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]byteSize{
		"0": 0, "1048576": 1 << 20, "1MiB": 1 << 20, "16 MiB": 16 << 20, "1.5GB": 15e8, "2gib": 2 << 30, "20kB": 20e3, "7B": 7, "1TiB": 1 << 40,
	} {
		var got byteSize
		if err := got.UnmarshalText([]byte(given)); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", given, got, err, want)
		}
	}
	for _, given := range []string{"", "MiB", "-1", "1XiB", "1MiBB", "NaN", "Inf", "1e30", "1 M"} {
		var got byteSize
		if err := got.UnmarshalText([]byte(given)); err == nil {
			t.Errorf("%q is %d", given, got)
		}
	}
}

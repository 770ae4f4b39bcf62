package egress_test

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/copyfleet/copyfleet/storage/egress"
)

// The ranges once more, as first and last address, written down apart from the tables of the guard.
var (
	dumb4 = [][2]string{
		{"0.0.0.0", "0.255.255.255"}, {"10.0.0.0", "10.255.255.255"}, {"100.64.0.0", "100.127.255.255"},
		{"127.0.0.0", "127.255.255.255"}, {"169.254.0.0", "169.254.255.255"}, {"172.16.0.0", "172.31.255.255"},
		{"192.0.0.0", "192.0.0.255"}, {"192.0.2.0", "192.0.2.255"}, {"192.31.196.0", "192.31.196.255"},
		{"192.52.193.0", "192.52.193.255"}, {"192.88.99.0", "192.88.99.255"}, {"192.168.0.0", "192.168.255.255"},
		{"192.175.48.0", "192.175.48.255"}, {"198.18.0.0", "198.19.255.255"}, {"198.51.100.0", "198.51.100.255"},
		{"203.0.113.0", "203.0.113.255"}, {"224.0.0.0", "255.255.255.255"},
	}
	dumb6 = [][2]string{
		{"::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff"},
		{"3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	}
)

// dumb is the guard as a comparison of bytes, range by range.
func dumb(raw []byte) bool {
	ranges := dumb6
	mapped := append(make([]byte, 10), 0xff, 0xff)
	if len(raw) == 16 && bytes.Equal(raw[:12], mapped) {
		raw = raw[12:]
	}
	if len(raw) == 4 {
		ranges = dumb4
	}
	for _, r := range ranges {
		first, last := netip.MustParseAddr(r[0]).AsSlice(), netip.MustParseAddr(r[1]).AsSlice()
		if bytes.Compare(raw, first) >= 0 && bytes.Compare(raw, last) <= 0 {
			return false
		}
	}
	return true
}

func FuzzGuardAgreesWithRanges(f *testing.F) {
	for _, text := range append(append([]string{}, denied...), public...) {
		f.Add(netip.MustParseAddr(text).AsSlice())
	}
	guard := egress.New(nil)
	f.Fuzz(func(t *testing.T, raw []byte) {
		addr, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		if got, want := guard.Check(addr) == nil, dumb(raw); got != want {
			t.Errorf("Check(%s): allowed %v, the ranges say %v", addr, got, want)
		}
	})
}

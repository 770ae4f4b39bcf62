package egress_test

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/egress"
)

// denied are addresses that no guard without an allow-list lets through.
var denied = []string{
	"0.0.0.0", "0.0.0.1", "0.255.255.255",
	"10.0.0.0", "10.0.0.1", "10.255.255.255",
	"100.64.0.0", "100.64.0.1", "100.100.100.200", "100.127.255.255",
	"127.0.0.0", "127.0.0.1", "127.0.0.53", "127.255.255.255",
	"169.254.0.0", "169.254.169.254", "169.254.170.2", "169.254.255.255",
	"172.16.0.0", "172.17.0.1", "172.31.255.255",
	"192.0.0.0", "192.0.0.8", "192.0.0.170", "192.0.0.192", "192.0.0.255",
	"192.0.2.0", "192.0.2.255", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.175.48.1",
	"192.168.0.0", "192.168.1.1", "192.168.255.255",
	"198.18.0.0", "198.19.255.255", "198.51.100.1", "203.0.113.255",
	"224.0.0.0", "224.0.0.1", "239.255.255.255",
	"240.0.0.0", "250.1.2.3", "255.255.255.254", "255.255.255.255",
	"::", "::1", "::2", "::7f00:1", "::127.0.0.1", "::8.8.8.8", "::ffff:ffff",
	"::ffff:0.0.0.0", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe",
	"::ffff:192.168.1.1", "::ffff:255.255.255.255", "::ffff:100.64.0.1", "::ffff:224.0.0.1",
	"::ffff:0:8.8.8.8", "::ffff:0:127.0.0.1",
	"64:ff9b::", "64:ff9b::7f00:1", "64:ff9b::169.254.169.254", "64:ff9b::8.8.8.8", "64:ff9b::ffff:ffff",
	"64:ff9b:1::", "64:ff9b:1::10.0.0.1", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "64:ff9b:2::1",
	"100::", "100::1", "100::ffff:ffff:ffff:ffff", "100:0:0:1::1", "100:0:0:2::1",
	"2001::", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff",
	"2001:1::1", "2001:1::2", "2001:2::1", "2001:3::1", "2001:4:112::1", "2001:5::1",
	"2001:10::1", "2001:1f:ffff::1", "2001:20::1", "2001:2f:ffff::1", "2001:30::1", "2001:1ff:ffff::1",
	"2001:db8::", "2001:db8::1", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
	"2002::", "2002:7f00:1::1", "2002:a9fe:a9fe::1", "2002:c0a8:101::", "2002:808:808::1",
	"2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2620:4f:8000::1",
	"3fff::", "3fff::1", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
	"4000::", "5f00::", "5f00::1", "5f00:ffff::1", "8000::1", "1fff:ffff::1", "1::1", "200::1", "400::1",
	"fc00::", "fc00::1", "fd00::1", "fd00:ec2::254", "fdff:ffff::1",
	"fe00::1", "fe80::", "fe80::1", "fe80::a9fe:a9fe", "febf:ffff::1", "fec0::", "fec0::1", "feff:ffff::1",
	"ff00::", "ff02::1", "ff05::2", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	"fe80::1%eth0", "2606:4700::1111%lo", "::1%1", "::ffff:8.8.8.8%eth0",
}

// public are the neighbors of the denied ranges, and some well-known hosts.
var public = []string{
	"1.0.0.0", "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0",
	"100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
	"169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",
	"191.255.255.255", "192.0.1.0", "192.0.3.0", "192.31.195.255", "192.31.197.0", "192.52.192.255",
	"192.52.194.0", "192.88.98.255", "192.88.100.0", "192.167.255.255", "192.169.0.0",
	"192.175.47.255", "192.175.49.0", "198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0",
	"203.0.112.255", "203.0.114.0", "223.255.255.255",
	"::ffff:8.8.8.8", "::ffff:1.1.1.1", "::ffff:808:808",
	"2000::", "2000::1", "2001:200::", "2001:4860:4860::8888", "2001:db7:ffff::1", "2001:db9::", "2003::1",
	"2001:ffff::1", "2606:4700:4700::1111", "2620:4f:7fff::1", "2620:4f:8001::1", "2a00:1450::1",
	"3ffe:ffff::1", "3fff:1000::", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
}

func TestGuardRefusesWhatIsNotPublic(t *testing.T) {
	t.Parallel()
	for _, guard := range []*egress.Guard{egress.New(nil), nil} {
		for _, text := range denied {
			err := guard.Check(netip.MustParseAddr(text))
			e, ok := errors.AsType[*storage.Error](err)
			if !ok {
				t.Errorf("Check(%s) = %v, want a *storage.Error", text, err)
				continue
			}
			if e.Class != storage.ForbiddenAddress || e.Code != "forbidden_address" {
				t.Errorf("Check(%s): class %v code %q", text, e.Class, e.Code)
			}
			want := netip.MustParseAddr(text)
			if want.Zone() == "" {
				want = want.Unmap()
			}
			if !strings.Contains(e.Message, want.String()) || !strings.Contains(e.Message, "not public") {
				t.Errorf("Check(%s): message %q does not name the address", text, e.Message)
			}
			if !strings.Contains(e.Hint, "--egress-allow") {
				t.Errorf("Check(%s): hint %q", text, e.Hint)
			}
		}
	}
	if err := egress.New(nil).Check(netip.Addr{}); storage.ClassOf(err) != storage.ForbiddenAddress {
		t.Errorf("Check of the zero Addr = %v", err)
	}
}

func TestGuardLetsPublicThrough(t *testing.T) {
	t.Parallel()
	for _, text := range public {
		if err := egress.New(nil).Check(netip.MustParseAddr(text)); err != nil {
			t.Errorf("Check(%s) = %v", text, err)
		}
	}
}

func TestGuardAllowList(t *testing.T) {
	t.Parallel()
	tests := []struct {
		allow string
		addr  string
		want  bool
	}{
		{"127.0.0.0/8", "127.0.0.1", true},
		{"127.0.0.0/8", "::ffff:127.0.0.1", true},
		{"127.0.0.0/8", "::1", false},
		{"127.0.0.0/8", "10.0.0.1", false},
		{"127.0.0.5/8", "127.0.0.1", true}, // host bits set
		{"::ffff:127.0.0.0/104", "127.0.0.1", true},
		{"::ffff:127.0.0.0/104", "::ffff:127.0.0.1", true},
		{"::ffff:127.0.0.1/128", "127.0.0.2", false},
		{"::ffff:0:0/96", "10.1.2.3", true},
		{"0.0.0.0/0", "169.254.169.254", true},
		{"0.0.0.0/0", "::1", false},
		{"::/0", "::1", true},
		{"::/0", "127.0.0.1", false},
		{"::/0", "fe80::1%eth0", false},
		{"::1/128", "::1", true},
		{"::1/128", "::2", false},
		{"fd00::/8", "fd12::1", true},
		{"fd00::/8", "fc00::1", false},
		{"64:ff9b::/96", "64:ff9b::8.8.8.8", true},
		{"10.0.0.0/31", "10.0.0.1", true},
		{"10.0.0.0/31", "10.0.0.2", false},
	}
	for _, tt := range tests {
		guard := egress.New([]netip.Prefix{{}, netip.MustParsePrefix(tt.allow)})
		if got := guard.Check(netip.MustParseAddr(tt.addr)) == nil; got != tt.want {
			t.Errorf("allow %s, Check(%s): allowed %v, want %v", tt.allow, tt.addr, got, tt.want)
		}
	}
}

func TestGuardControl(t *testing.T) {
	t.Parallel()
	guard := egress.New([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")})
	tests := []struct {
		network, address string
		want             bool
	}{
		{"tcp4", "8.8.8.8:80", true},
		{"tcp6", "[2606:4700::1111]:443", true},
		{"tcp6", "[::ffff:8.8.8.8]:443", true},
		{"tcp4", "10.0.0.1:80", true},
		{"tcp6", "[::ffff:10.0.0.1]:80", true},
		{"tcp4", "127.0.0.1:80", false},
		{"tcp6", "[::1]:80", false},
		{"tcp6", "[fe80::1%eth0]:80", false},
		{"udp4", "8.8.8.8:53", false},
		{"unix", "/run/docker.sock", false},
		{"tcp", "localhost:80", false},
		{"tcp", "8.8.8.8", false},
		{"tcp", "", false},
	}
	for _, tt := range tests {
		err := guard.Control(tt.network, tt.address, nil)
		if got := err == nil; got != tt.want {
			t.Errorf("Control(%s, %s) = %v, want allowed %v", tt.network, tt.address, err, tt.want)
		}
		if err != nil && storage.ClassOf(err) != storage.ForbiddenAddress {
			t.Errorf("Control(%s, %s): class %v", tt.network, tt.address, storage.ClassOf(err))
		}
	}
}

// A real dialler asks the guard before the first packet leaves, and hands its error on.
func TestGuardInDialer(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()

	dialer := net.Dialer{Control: egress.New(nil).Control}
	if _, err = dialer.DialContext(t.Context(), "tcp", ln.Addr().String()); storage.ClassOf(err) != storage.ForbiddenAddress {
		t.Errorf("dial without an allow-list = %v, want a refusal", err)
	}
	dialer.Control = egress.New([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}).Control
	conn, err := dialer.DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatalf("dial with an allow-list = %v", err)
	}
	conn.Close()
}

// TestHintSaysThatTheFlagReplaces what is allowed now, and does not tell whoever reads a receipt what that is.
func TestHintSaysThatTheFlagReplaces(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr("10.0.0.1")
	for _, row := range []struct {
		allow []netip.Prefix
		want  string
	}{
		{nil, "--egress-allow 10.0.0.1/32."},
		{[]netip.Prefix{netip.MustParsePrefix("172.20.0.0/16"), netip.MustParsePrefix("::1/128")}, "--egress-allow 10.0.0.1/32, beside what is allowed now: the flag replaces that."},
	} {
		e, ok := errors.AsType[*storage.Error](egress.New(row.allow).Check(addr))
		if !ok || !strings.Contains(e.Hint, row.want) {
			t.Errorf("%v: %+v", row.allow, e)
		}
		for _, network := range row.allow {
			if strings.Contains(e.Hint, network.String()) {
				t.Errorf("the hint tells of %s: %s", network, e.Hint)
			}
		}
	}
}

package egress

import (
	"net/netip"
	"strings"
	"syscall"

	"github.com/copyfleet/copyfleet/storage"
)

// code is the stable code of every refusal.
const code = "forbidden_address"

// mappedBits is the length of the prefix ::ffff:0:0/96, under which IPv6 carries IPv4 addresses.
const mappedBits = 96

// Guard refuses to dial addresses that are not public. It has no state beside its allow-list and may be
// used by any number of goroutines. The nil Guard allows public addresses only.
type Guard struct {
	allow []netip.Prefix
}

// New returns a guard that lets through public unicast addresses and the prefixes of allow. A prefix may be
// given with host bits set, and as IPv4 or IPv4-mapped IPv6 (::ffff:10.0.0.0/104 means 10.0.0.0/8). Prefixes
// that are not valid match nothing.
func New(allow []netip.Prefix) *Guard {
	g := &Guard{allow: make([]netip.Prefix, 0, len(allow))}
	for _, p := range allow {
		if p.IsValid() {
			g.allow = append(g.allow, unmapPrefix(p))
		}
	}
	return g
}

// unmapPrefix returns the IPv4 prefix that an IPv4-mapped one stands for, and other prefixes as they are.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= mappedBits {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mappedBits)
	}
	return p.Masked()
}

// Check returns nil if addr may be dialed, and otherwise a [*storage.Error] of class
// [storage.ForbiddenAddress]. The zero Addr and addresses with a zone are always refused: a zone names an
// interface of this machine, which no caller has any business with.
func (g *Guard) Check(addr netip.Addr) error {
	if !addr.IsValid() {
		return refusal("(none)", "it is not an IP address", "")
	}
	if addr.Zone() != "" {
		return refusal(addr.String(), "it has a zone", "")
	}
	addr = addr.Unmap()
	if g != nil {
		for _, p := range g.allow {
			if p.Contains(addr) {
				return nil
			}
		}
	}
	if why := reason(addr); why != "" {
		return refusal(addr.String(), why, g.allowing(netip.PrefixFrom(addr, addr.BitLen())))
	}
	return nil
}

// allowing is the hint for an address that is not allowed. The flag replaces what is allowed now. That is not named: the hint stands in receipts,
// and which networks a fleet reaches is no business of those who use it.
func (g *Guard) allowing(more netip.Prefix) string {
	hint := "If the fleet may reach it, allow it with --egress-allow " + more.String()
	if g == nil || len(g.allow) == 0 {
		return hint + "."
	}
	return hint + ", beside what is allowed now: the flag replaces that."
}

// Control is for [net.Dialer.Control]. It refuses everything that is not TCP to an IP address and port, and
// then what [Guard.Check] refuses. The connection is not touched.
func (g *Guard) Control(network, address string, _ syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return refusal(address, "only TCP is dialed", "")
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return refusal(address, "it is not an IP address and port", "")
	}
	return g.Check(ap.Addr())
}

// refusal returns the error for an address.
func refusal(address, why, hint string) error {
	err := storage.Errorf(storage.ForbiddenAddress, code, "dial", address,
		"the address %s is not public (%s)", address, why)
	if hint == "" {
		hint = "This cannot be allowed: --egress-allow takes prefixes of IP addresses only."
	}
	err.Hint = hint
	return err
}

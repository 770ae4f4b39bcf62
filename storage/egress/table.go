package egress

import "net/netip"

// special is a range that is never dialed unless an operator allows it.
type special struct {
	prefix netip.Prefix
	name   string // what the range is for, in words that fit "… is not public (name)"
}

// globalUnicast is the only part of the IPv6 space that IANA has given out for global unicast (RFC 4291,
// section 2.4, and the IANA registry "IPv6 Global Unicast Address Assignments"). All else is denied
// without an entry of its own, which also covers what will be assigned to special purposes later.
var globalUnicast = netip.MustParsePrefix("2000::/3")

// special4 lists the IPv4 ranges that are not public unicast.
var special4 = []special{
	{netip.MustParsePrefix("0.0.0.0/8"), "this network, RFC 791"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private use, RFC 1918"},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared address space of carriers, RFC 6598"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback, RFC 1122"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local, RFC 3927"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private use, RFC 1918"},
	{netip.MustParsePrefix("192.0.0.0/24"), "IETF protocol assignments, RFC 6890"},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation, RFC 5737"},
	{netip.MustParsePrefix("192.31.196.0/24"), "AS112, RFC 7535"},
	{netip.MustParsePrefix("192.52.193.0/24"), "multicast tunneling, RFC 7450"},
	{netip.MustParsePrefix("192.88.99.0/24"), "6to4 relays, RFC 7526"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private use, RFC 1918"},
	{netip.MustParsePrefix("192.175.48.0/24"), "AS112, RFC 7534"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarking, RFC 2544"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation, RFC 5737"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation, RFC 5737"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast, RFC 5771"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast, RFC 919"}, // before the range that contains it
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved, RFC 1112"},
}

// special6 lists the IPv6 ranges that are not public unicast. Those outside [globalUnicast] are denied
// anyway; they stand here so that the refusal can say what they are.
var special6 = []special{
	{netip.MustParsePrefix("::/128"), "unspecified, RFC 4291"},
	{netip.MustParsePrefix("::1/128"), "loopback, RFC 4291"},
	{netip.MustParsePrefix("::/96"), "IPv4-compatible, RFC 4291"},
	{netip.MustParsePrefix("::ffff:0:0/96"), "IPv4-mapped, RFC 4291"},
	{netip.MustParsePrefix("64:ff9b::/96"), "NAT64, RFC 6052"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "NAT64 for local use, RFC 8215"},
	{netip.MustParsePrefix("100::/64"), "discard, RFC 6666"},
	{netip.MustParsePrefix("100:0:0:1::/64"), "dummy prefix, RFC 9780"},
	{netip.MustParsePrefix("2001::/32"), "Teredo, RFC 4380"},
	{netip.MustParsePrefix("2001:2::/48"), "benchmarking, RFC 5180"},
	{netip.MustParsePrefix("2001:10::/28"), "ORCHID, RFC 4843"},
	{netip.MustParsePrefix("2001:20::/28"), "ORCHIDv2, RFC 7343"},
	{netip.MustParsePrefix("2001::/23"), "IETF protocol assignments, RFC 2928"}, // after the ranges inside it
	{netip.MustParsePrefix("2001:db8::/32"), "documentation, RFC 3849"},
	{netip.MustParsePrefix("2002::/16"), "6to4, RFC 3056"},
	{netip.MustParsePrefix("2620:4f:8000::/48"), "AS112, RFC 7534"},
	{netip.MustParsePrefix("3fff::/20"), "documentation, RFC 9637"},
	{netip.MustParsePrefix("5f00::/16"), "segment routing, RFC 9602"},
	{netip.MustParsePrefix("fc00::/7"), "unique local, RFC 4193"},
	{netip.MustParsePrefix("fe80::/10"), "link-local, RFC 4291"},
	{netip.MustParsePrefix("fec0::/10"), "site-local, RFC 3879"},
	{netip.MustParsePrefix("ff00::/8"), "multicast, RFC 4291"},
}

// reason says why addr, unmapped and without a zone, is not public; "" if it is.
func reason(addr netip.Addr) string {
	table := special6
	if addr.Is4() {
		table = special4
	}
	for _, s := range table {
		if s.prefix.Contains(addr) {
			return s.name
		}
	}
	if addr.Is6() && !globalUnicast.Contains(addr) {
		return "outside the global unicast space, RFC 4291"
	}
	return ""
}

// Package egress decides which IP addresses the fleet may dial on behalf of a caller.
//
// A URL that a caller hands in may name any host, and a name may resolve to anything. The guard therefore
// looks neither at URLs nor at names: it sits in [net.Dialer.Control], which runs after resolution, once for
// each address that is about to be connected to, and compares that address with two tables.
//
// Guaranteed: a connection made through [Guard.Control] goes to a public unicast address or to one of the
// prefixes that the operator allowed, whatever redirects, DNS answers or spellings of an address led there.
// IPv4 addresses in IPv6 clothes (::ffff:a.b.c.d) are judged as the IPv4 address they are; the ranges that
// carry an IPv4 address through a translator (NAT64, 6to4, Teredo) are denied as a whole, because who runs
// the translator decides where they lead.
//
// Not guaranteed: that a public address belongs to a stranger. Public addresses of one's own network must be
// fenced off by the network. A proxy in between sees the name and not the address, so the guard is worth
// nothing behind one.
//
// The tables follow the IANA special-purpose address registries for IPv4 and IPv6 (RFC 6890), read as: what
// is registered there is not for us, also when the registry calls it globally reachable.
package egress

package httpstore

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	nameLife = 5 * time.Second // an answer of the resolver is used for so long
	maxNames = 1024            // answers kept
)

// names looks hosts up and keeps what was found for seconds. A look-up is two questions over the network, and a batch makes connections to
// few hosts, many at once.
//
// That an answer is old is harmless to the guard, which judges each address when it is dialed, wherever it came from.
type names struct {
	resolver *net.Resolver
	limit    time.Duration    // for a look-up, whoever waits for it
	now      func() time.Time // the clock
	flights  singleflight.Group

	mu    sync.Mutex
	known map[string]found // by host
}

// found is what a host was found to be.
type found struct {
	addrs []netip.Addr
	until time.Time
}

func newNames(resolver *net.Resolver, limit time.Duration) *names {
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	return &names{resolver: resolver, limit: limit, now: time.Now, known: map[string]found{}}
}

// lookup returns the addresses of a host, in the order in which they should be tried; the caller does not change them.
func (n *names) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr.Unmap()}, nil
	}
	if addrs := n.recall(host); addrs != nil {
		return addrs, nil
	}
	flight := n.flights.DoChan(host, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.limit) // others may wait for it, too
		defer cancel()
		addrs, err := n.resolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return nil, err
		}
		addrs = inTurn(addrs)
		n.remember(host, addrs)
		return addrs, nil
	})
	select {
	case answer := <-flight:
		addrs, _ := answer.Val.([]netip.Addr) // nil besides an error
		return addrs, answer.Err
	case <-ctx.Done():
		return nil, &net.DNSError{Err: "no answer", Name: host, IsTimeout: true}
	}
}

func (n *names) recall(host string) []netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f, ok := n.known[host]; ok && n.now().Before(f.until) {
		return f.addrs
	}
	return nil
}

func (n *names) remember(host string, addrs []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.known) >= maxNames {
		clear(n.known) // they would be asked for again within seconds anyway
	}
	n.known[host] = found{addrs: addrs, until: n.now().Add(nameLife)}
}

// forget drops an answer that led nowhere: the host may have moved.
func (n *names) forget(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.known, host)
}

// inTurn orders addresses so that the two families take turns, beginning with that of the first (RFC 8305, section 4).
func inTurn(addrs []netip.Addr) []netip.Addr {
	var families [2][]netip.Addr
	for _, addr := range addrs {
		addr = addr.Unmap()
		i := 0
		if len(families[0]) > 0 && families[0][0].Is4() != addr.Is4() {
			i = 1
		}
		families[i] = append(families[i], addr)
	}
	ordered := make([]netip.Addr, 0, len(addrs))
	for i := range max(len(families[0]), len(families[1])) {
		for _, family := range families {
			if i < len(family) {
				ordered = append(ordered, family[i])
			}
		}
	}
	return slices.Clip(ordered)
}
